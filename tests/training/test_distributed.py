"""Two processes train one model: what they share, and what happens if one of them ends."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields
from itertools import chain
from pathlib import Path

import psutil
import pytest
import torch
from helpers import ROOT, SMALL, lines_of, random_ratings, record_of, wait_for, write_ratings

from recbole_dgrm.cli import main
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models import registry
from recbole_dgrm.records import CHECKPOINT
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.system import distributed
from recbole_dgrm.testing.small import untrained_model
from recbole_dgrm.training import recorded_trainer
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.trainers import AlternatingTrainer

USERS = 29
HALF = 7  # of a batch; the last one of an epoch has a single user, whom both processes compute
RUNS = {  # DGRMPlus is stopped and resumed
    "DGRM": {"condition_dropout": 0.3, "clip_grad_norm": {"max_norm": 1.0}, "step_cost": "ratings"},
    "DGRMPlus": {"adversarial_weight": 0.1},
    "DiffRec": {"steps": 2, "history_num_per_term": 5},  # the history is full after the first epoch, and used
    "CFGAN": {},
}
WITHOUT_NOISE = "CFGAN"  # its loss draws no random numbers
BROKEN = "DGRMPlus"
PROGRAM = str(ROOT / "run_recbole_dgrm.py")


class Stopped(BaseException):
    pass


def keys(model: str, folder: Path, **overrides) -> dict:
    options = {field.name for field in fields(registry.MODELS[model].Options)}
    small = {key: value for key, value in SMALL.items() if key in options}
    where = {"model": model, "dataset": "odd", "data_path": str(folder), "output_dir": str(folder / "runs")}
    training = {"epochs": 2, "train_batch_size": 2 * HALF, "eval_batch_size": 5, "checkpoint_interval": 0}
    return {**where, "device": "cpu", **training, **small, **RUNS[model], **overrides}


def half(model: str, folder: Path, **overrides):
    return load_config(config_dict=keys(model, folder, train_batch_size=HALF, **overrides))


def gradients(config) -> list[torch.Tensor]:
    """The gradients of a pass over the users, by this process's shares of the batches and summed over processes."""
    config, splits, model = untrained_model(config)
    phase = model.phases()[0]
    for batch in loaders.train_loader(config, splits, "train"):
        loss = phase.loss(batch[distributed.share_of_rank(len(batch))])
        distributed.loss_of_share(loss, len(batch)).backward()
    distributed.sum_gradients(phase.parameters)
    return [parameter.grad for parameter in phase.parameters]


def make_runs(number: int, folder: Path, port: int) -> None:
    """What each of two processes does: all ``RUNS``, of which one is stopped and resumed; their models are kept."""
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    states, load_best = [], AlternatingTrainer.load_best
    validate, validated = recorded_trainer.calculate_valid_score, []

    def keep(self):
        states.append({key: value.clone() for key, value in self.model.state_dict().items()})
        load_best(self)

    def stop(result, metric):
        if validated:
            raise Stopped
        validated.append(result)
        return validate(result, metric)

    AlternatingTrainer.load_best = keep
    with distributed.process_group():
        paths = {model: str(run_one(half(model, folder))[1]) for model in RUNS if model != BROKEN}
        recorded_trainer.calculate_valid_score = stop
        with pytest.raises(Stopped):
            run_one(half(BROKEN, folder, output_dir=str(folder / "stopped")))
        recorded_trainer.calculate_valid_score = validate
        torch.distributed.barrier()  # the first may still write when the other has stopped
        (stopped,) = (folder / "stopped").iterdir()
        paths[BROKEN] = str(resume(stopped)[1])
        summed = gradients(half(WITHOUT_NOISE, folder))
    (folder / f"{number}.json").write_text(json.dumps(paths))
    torch.save({"states": states, "gradients": summed}, folder / f"{number}.pt")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("together")
    write_ratings(path, "odd", random_ratings(n_users=USERS))
    return path


@pytest.fixture(scope="module")
def together(folder) -> dict[str, Path]:
    """The runs of two processes."""
    torch.multiprocessing.spawn(make_runs, (folder, free_port()), nprocs=2)
    first, second = (json.loads((folder / f"{number}.json").read_text()) for number in range(2))
    assert first == second
    return {model: Path(path) for model, path in first.items()}


@pytest.mark.slow
def test_both_processes_end_with_the_same_state_and_their_gradients_are_those_of_one(folder, together):
    first, second = (torch.load(folder / f"{number}.pt", weights_only=True) for number in range(2))
    assert len(first["states"]) >= len(RUNS)
    torch.testing.assert_close(first["states"], second["states"], rtol=0, atol=0)
    torch.testing.assert_close(second["gradients"], gradients(load_config(config_dict=keys(WITHOUT_NOISE, folder))))


@pytest.mark.slow
@pytest.mark.parametrize("model", RUNS)
def test_a_run_of_two_processes_is_near_that_of_one_with_the_double_batch(model, folder, together):
    alone, path = run_one(load_config(config_dict=keys(model, folder)))
    record = record_of(together[model])
    assert (record["status"], record["environment"]["processes"]) == ("finished", 2)
    assert record["test"]["rmse"] == pytest.approx(alone.test["rmse"], rel=0.05)
    assert record["reference"] == alone.reference
    assert {file.name for file in together[model].iterdir()} == {file.name for file in path.iterdir()}
    assert len(lines_of(together[model])) == len(lines_of(path))  # each epoch is written once
    if model == WITHOUT_NOISE:
        states = [read_checkpoint(run / CHECKPOINT, "cpu")["state_dict"] for run in (together[model], path)]
        torch.testing.assert_close(*states, rtol=1e-6, atol=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_says_so_and_one_process_can_continue_it(folder):
    given = keys("DGRM", folder, epochs=30, refit=False, output_dir=str(folder / "killed"))
    (folder / "killed.yaml").write_text(json.dumps(given))
    address = ["--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    program = [PROGRAM, f"--config_files={folder / 'killed.yaml'}"]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *address, *program], stderr=subprocess.PIPE, text=True
    )
    (epochs,) = wait_for(lambda: list(folder.glob("killed/*/metrics.jsonl")))
    (second,) = [child for child in psutil.Process(launcher.pid).children() if child.environ()["RANK"] == "1"]
    second.kill()
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    run = epochs.parent
    record = record_of(run)
    assert record["status"] == "failed"
    # gloo notices the end, or torchrun's SIGTERM is first
    ended = ("another process of the run has ended", "SIGTERM: torchrun, or another process of the run, has ended")
    assert any(f"{words}; continue with --resume={run}" in record["error"] for words in ended)
    assert any(f"{words}; continue with --resume={run}" in said for words in ended)
    known = len(lines_of(run))
    assert resume(run)[0].status == "finished"
    assert len(lines_of(run)) > known


def test_what_cannot_be_divided_is_refused_before_anything_is_made(make_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for name, reason in (("MF", "training phases"), ("PRGAN", "normaliz"), ("BPR", "training phases")):
        with pytest.raises(OptionError, match=f"{name} cannot be trained by 2 processes: .*{reason}.*one of DGRM, "):
            run_one(make_config(name))
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    distributed.check_device(torch.device("cpu"))
    with pytest.raises(OptionError, match=r"2 processes, but 1 GPU.*--nproc_per_node=1"):
        distributed.check_device(torch.device("cuda"))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert main.main(["benchmark", "--config=smoke"]) == 2
    assert "run benchmark without it" in capsys.readouterr().err


def test_each_process_has_a_part_of_its_own_and_numbers_of_its_own(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    for total in (1, 2, 3, 4, 7, 100):
        parts, numbers = [], set()
        with torch.random.fork_rng(devices=[]):
            for number in range(3):
                monkeypatch.setattr(distributed, "rank", lambda number=number: number)
                parts.append(list(range(total))[distributed.share_of_rank(total)])
                distributed.seed_by_rank(2020, epoch=1)
                numbers.add(torch.rand(1).item())
        assert len(numbers) == 3
        assert [*chain(*parts)] == [*range(total)] * (3 if total < 3 else 1)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
