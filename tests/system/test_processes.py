"""Folders in which one process works at a time, and forks of a process that has loaded the libraries."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_for

from recbole_dgrm.errors import UserError
from recbole_dgrm.system import processes
from recbole_dgrm.system.forks import Forks
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


SERVED = """
import os, sys, time
from recbole_dgrm.system.processes import worker_main
def work(what):
    print(what, os.getppid(), os.environ["OMP_NUM_THREADS"], "json" in sys.modules, flush=True)
    if what == "stay":
        time.sleep(600)
    return os._exit(int(what))
sys.exit(worker_main(work))
"""
THREADS = """
import os, recbole_dgrm.start
recbole_dgrm.start.own_process()
import recbole_dgrm.runs.experiment
for thread in sorted(os.listdir("/proc/self/task"), key=int)[1:]:
    print(open(f"/proc/self/task/{thread}/comm").read().strip())
"""


@pytest.fixture
def forks(tmp_path, monkeypatch) -> Iterator[Forks]:
    """Forks that find a module ``served``, which prints what it is given and the process id of its server."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "served.py").write_text(SERVED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "package"))
    made = Forks("json")
    yield made
    made.close()


def test_forks_have_one_server_after_each_other_and_say_how_they_ended(forks, tmp_path):
    outputs = [tmp_path / f"{number}.txt" for number in range(3)]
    ends = [forks.start("served", [str(number)], outputs[number], 3).wait(60) for number in range(3)]
    assert ends == [0, 1, 2]
    words = [output.read_text().split() for output in outputs]
    assert [word[0] for word in words] == ["0", "1", "2"]
    assert len({word[1] for word in words}) == 1
    assert all(word[2:] == ["3", "True"] for word in words)


@pytest.mark.parametrize("number", [signal.SIGKILL, None])
def test_a_fork_ends_when_it_is_killed_or_its_input_closes(forks, tmp_path, number):
    fork = forks.start("served", ["stay"], tmp_path / "seen.txt", 1)
    wait_for(lambda: (tmp_path / "seen.txt").exists() and (tmp_path / "seen.txt").read_text())
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.01)
    if number:
        fork.kill()
        assert fork.wait(60) == -number
        assert forks.start("served", ["0"], tmp_path / "seen.txt", 1).wait(60) == 0
        return
    server = int((tmp_path / "seen.txt").read_text().split()[1])
    processes.end(fork)
    assert fork.returncode == 1  # KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_loading_the_libraries_starts_no_thread(monkeypatch):
    """A server could otherwise not be forked; OpenBLAS ends its threads before a fork, and jemalloc its one."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"jemalloc_bg_thd"}
