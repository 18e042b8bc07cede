"""Folders in which one process works at a time."""

import multiprocessing
import time
from pathlib import Path

import pytest
from helpers import wait_for

from recbole_dgrm.errors import UserError
from recbole_dgrm.system.processes import locked_folder

if "fork" not in multiprocessing.get_all_start_methods():
    pytest.skip("the processes of these tests are forked", allow_module_level=True)
FORK = multiprocessing.get_context("fork")
ENTRIES, WORKERS = 60, 4


def count(folder: Path) -> None:
    """Enter the folder many times; each time a number is read and written, which loses one if another does the same."""
    for _ in range(ENTRIES):
        while not entered(folder):
            time.sleep(0.0001)


def entered(folder: Path) -> bool:
    try:
        with locked_folder(folder, "counter"):
            number = int((folder / "number").read_text())
            time.sleep(0.0002)
            (folder / "number").write_text(str(number + 1))
    except UserError:
        return False
    return True


def test_two_processes_are_never_in_one_folder(tmp_path):
    (tmp_path / "number").write_text("0")
    workers = [FORK.Process(target=count, args=(tmp_path,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert int((tmp_path / "number").read_text()) == ENTRIES * WORKERS


def stay(folder: Path) -> None:
    with locked_folder(folder, "sleeper"):
        (folder / "inside").touch()
        time.sleep(600)


def test_a_killed_process_keeps_nobody_out(tmp_path):
    sleeper = FORK.Process(target=stay, args=(tmp_path,))
    sleeper.start()
    wait_for((tmp_path / "inside").exists)
    with pytest.raises(UserError, match="another sleeper is working"), locked_folder(tmp_path, "sleeper"):
        pass
    sleeper.kill()
    sleeper.join()
    with locked_folder(tmp_path, "sleeper"):
        pass
