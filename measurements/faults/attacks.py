"""Files of strangers, and hands that interfere: nothing is run, no process crashes, and what is said is a sentence."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from jobs import KEYS, ROOT, Outcome, Training, run, start
from kills import Tally, wait

from recbole_dgrm.training.plain_state import pack

HUGE = 8 << 30  # bytes
SENTENCE_S = 60  # in which a refusal must be said on a busy machine, imports included
FORGED: list[Any] = [None, True, -1, 10**18, 1e300, "", "text", "\x1b[31m", [], [1], {}, {"a": 1}, "x" * 10_000]
MODULES = ("yaml", "torch", "numpy", "recbole", "recbole_dgrm", "random", "sitecustomize")
WEIGHTS = [
    ["--model=NAIS", "--pretrain_path=FILE"],
    ["--model=ConvNCF", "--train_method=after_pretrain", "--pre_model_path=FILE"],
    ["--model=RaCT", "--train_stage=finetune", "--pre_model_path=FILE"],
    ["--model=NeuMF", "--use_pretrain=true", "--mf_pretrain_path=FILE", "--mlp_pretrain_path=FILE"],
]
YAMLS = {
    "multiplies": "epochs: [&a0 [x, x], " + ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)) + "]",
    "holds itself": "val_interval: &a [*a]",
    "takes from elsewhere": "a: &a {epochs: 3}\n<<: *a",
    "nests": "topk: " + "[" * 100_000,
    "is large": "topk: [" + "1, " * 10**6 + "1]",
    "has a long number": "epochs: " + "9" * 5000,
    "names Python": "epochs: !!python/object/apply:os.mkdir [MARK]",
}
MATRICES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "places beyond": lambda packed: packed["sparse"][1].fill_(2**31 - 1),
    "negative places": lambda packed: packed["sparse"][1].fill_(-(2**31)),
    "pointers beyond": lambda packed: packed["sparse"][2][1:].fill_(2**31 - 1),
    "falling pointers": lambda packed: packed["sparse"][2].copy_(packed["sparse"][2].flip(0)),
    "few places": lambda packed: packed["sparse"].__setitem__(1, packed["sparse"][1][:3]),
    "a huge shape": lambda packed: packed.update(shape=[2**40, 2**40]),
    "diagonals": lambda packed: packed.update(format="dia"),
}


class Mark:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def refused(arguments: list[str], log: Path, said: str) -> list[str]:
    """Problems of a command that must end with a sentence about ``said``."""
    begun = time.monotonic()
    outcome = run([*arguments, f"--output_dir={log.with_suffix('')}"], log, timeout=300)
    good = outcome.status == 2 and said in outcome.said and "Traceback" not in outcome.said
    late = time.monotonic() - begun > SENTENCE_S
    return [] if good and not late else [f"{log}: status {outcome.status}: {outcome.said[-300:]}"]


def weights(folder: Path, unbroken: Path) -> Tally:
    """Pickled weights for each model of RecBole that begins with such, and pickled item embeddings."""
    tally, mark, file = Tally(), folder / "mark", folder / "weights.pth"
    torch.save({"state_dict": {}, "config": Mark(mark)}, file)
    for number, keys in enumerate(WEIGHTS):
        given = [word.replace("FILE", str(file)) for word in keys]
        tally.problems += refused([*given, "--dataset=ml-100k"], folder / f"{number}.log", "weights.pth")
    data = folder / "data" / "tiny"
    data.mkdir(parents=True)
    pairs = [f"{user}\t{item}\t{1 + (user * item) % 5}" for user in range(30) for item in range(20)]
    (data / "tiny.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float", *pairs]) + "\n")
    np.save(data / "item_emb.npy", np.array([Mark(mark)], dtype=object), allow_pickle=True)
    keys = ["--model=LDiffRec", "--n_cate=2", "--dataset=tiny", f"--data_path={data.parent}"]
    tally.problems += refused(keys, folder / "item_emb.log", "item_emb.npy")
    return _marked(tally, mark, len(WEIGHTS) + 1)


def yaml_files(folder: Path, unbroken: Path) -> Tally:
    """As a file of keys, as the plan of a benchmark, as what lies in the folder of a data set."""
    tally, mark = Tally(), folder / "mark"
    (folder / "data" / "tiny").mkdir(parents=True)
    places = {
        folder / "keys.yaml": ["--model=MF", "--dataset=ml-100k", f"--config_files={folder / 'keys.yaml'}"],
        folder / "plan.yaml": ["benchmark", f"--config={folder / 'plan.yaml'}"],
        folder / "data/tiny/tiny.yaml": ["--model=MF", "--dataset=tiny", f"--data_path={folder / 'data'}"],
    }
    for name, text in YAMLS.items():
        for path, command in places.items():
            path.write_text(text.replace("MARK", str(mark)))
            tally.problems += refused(command, folder / f"{path.stem} {name}.log", path.name)
    return _marked(tally, mark, len(YAMLS) * len(places))


def working_directory(folder: Path, unbroken: Path) -> Tally:
    """A benchmark and a training begun where modules lie that would leave a mark."""
    tally, here, mark = Tally(), folder / "here", folder / "mark"
    here.mkdir()
    for name in MODULES:
        (here / f"{name}.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    (folder / "plan.yaml").write_text(
        "models: [{model: MF, config: {epochs: 2, device: cpu}}]\ndatasets: [ml-100k]\nseeds: [1]\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        ["benchmark", f"--config={folder / 'plan.yaml'}"],
        ["--model=MF", "--dataset=ml-100k", "--epochs=2"],
    ):
        done = subprocess.run(
            [sys.executable, ROOT / "run_recbole_dgrm.py", *command, f"--output_dir={folder / command[0]}"],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
        )
        tally.problems += [f"{command[0]}: {done.stderr[-300:]}"] if done.returncode else []
    return _marked(tally, mark, 2)


def _marked(tally: Tally, mark: Path, stops: int) -> Tally:
    tally.stops = stops
    tally.problems += [f"{mark}: code was run"] if mark.exists() else []
    return tally


def forged(name: str, folder: Path, unbroken: Path, times: int) -> Tally:
    """A random place of a file that parses gets a random value; ``report`` and ``evaluate`` read it."""
    tally, chance, refusals = Tally(), random.Random(f"forged {name}"), 0
    for number in range(times):
        copy = shutil.copytree(unbroken, folder / str(number))
        file = next(copy.rglob(name))
        lines = name.endswith("l")
        content = (
            [json.loads(line) for line in file.read_text().splitlines()] if lines else json.loads(file.read_text())
        )
        *path, last = chance.choice(list(_places(content)))
        at = content
        for key in path:
            at = at[key]
        at[last] = chance.choice(FORGED)
        file.write_text("".join(json.dumps(line) + "\n" for line in content) if lines else json.dumps(content))
        for command in (["report", str(copy)], ["evaluate", f"--run={file.parent}"]):
            outcome = run(command, folder / f"{number}.log")
            tally.stops += 1
            tally.problems += _no_sentence(outcome, f"{name} {[*path, last]} = {at[last]!r:.30}, {command[0]}", name)
            refusals += outcome.status == 2
    if not tally.problems:
        tally.said = f"{refusals} refused, {tally.stops - refusals} read"
    return tally


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Keys that lead to each value; of a list to the first and the last."""
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, item in inner if isinstance(value, dict) else inner[:1] + inner[1:][-1:]:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _no_sentence(outcome: Outcome, what: str, name: str) -> list[str]:
    good = outcome.status == 0 or (outcome.status == 2 and name in outcome.said)
    return [] if good and "Traceback" not in outcome.said else [f"{what}: {outcome.status}: {outcome.said[-300:]}"]


def checkpoints(folder: Path, unbroken: Path) -> Tally:
    """Sparse matrices that would lead C code astray, and weights that are no numbers; ``evaluate`` reads them."""
    tally = Tally()
    keys = ["--model=ItemKNN", "--dataset=ml-100k", "--device=cpu", f"--output_dir={folder / 'runs'}"]
    run(keys, folder / "made.log")
    path = next((folder / "runs").glob("*/checkpoint.pt"))
    state = torch.load(path, weights_only=True)
    matrix = state["best_other"]["w"]
    for name, change in MATRICES.items():
        copy = {**matrix, "sparse": [part.clone() for part in matrix["sparse"]]}
        change(copy)
        torch.save({**state, "best_other": {**state["best_other"], "w": copy}}, path)
        tally.problems += _unread(path, folder, name)
    for value in (float("nan"), float("inf")):
        changed = {**matrix, "sparse": [matrix["sparse"][0] * value, *matrix["sparse"][1:]]}
        torch.save({**state, "best_other": {**state["best_other"], "w": changed}}, path)
        tally.problems += _unread(path, folder, str(value))
    torch.save({**state, "best_other": {**state["best_other"], "w": pack(np.zeros(3))}}, path)
    tally.problems += _unread(path, folder, "another kind")
    tally.stops = len(MATRICES) + 3
    return tally


def _unread(path: Path, folder: Path, name: str) -> list[str]:
    outcome = run(["evaluate", f"--run={path.parent}"], folder / f"{name}.log")
    good = outcome.status == 2 and "checkpoint.pt does not fit" in outcome.said and "Traceback" not in outcome.said
    return [] if good else [f"{name}: status {outcome.status}: {outcome.said[-300:]}"]


def large(folder: Path, unbroken: Path) -> Tally:
    """Files that are much larger than they say, or than any of ours; ``report`` reads them, or leaves a figure out."""
    tally = Tally()
    for name, grow in {"per_user.npz": _packed, "metrics.jsonl": _hollow, "record.json": _hollow}.items():
        copy = shutil.copytree(unbroken, folder / name)
        grow(next(copy.rglob(name)))
        outcome = run(["report", str(copy)], folder / f"{name}.log")
        no_figure = outcome.status == 0 and "cannot be drawn" in outcome.said and name in outcome.said
        tally.problems += _no_sentence(outcome, name, name)
        tally.problems += [f"{name}: it was read"] * (outcome.status == 0 and not no_figure)
        tally.stops += 1
    return tally


def _packed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("user.npy", "w", force_zip64=True) as part:
        for _ in range(HUGE >> 20):
            part.write(bytes(1 << 20))


def _hollow(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(HUGE)


def second(folder: Path, unbroken: Path, times: int) -> Tally:
    """``--resume`` of a run that another process is making; then it is killed, and resumed at once."""
    tally, chance = Tally(), random.Random("second")
    for number in range(times):
        place, log = folder / str(number), folder / f"{number}.log"
        first = _endless(place, log)
        time.sleep(chance.uniform(0, 2))
        command = Training().command(place)
        outcome = run(command, folder / f"{number}.second.log")
        if outcome.status != 2 or "another process is at work in" not in outcome.said:
            tally.problems.append(f"{place}: the second says {outcome.said[-300:]}")
        first.kill()
        first.wait()
        again = start(command, log)
        if wait(again, 15) or "another process" in log.read_text():
            tally.problems.append(f"{place}: after the kill: {log.read_text()[-300:]}")
        again.kill()
        again.wait()
        tally.stops += 1
    return tally


def removed(folder: Path, unbroken: Path, times: int) -> Tally:
    """The directory of a run is taken away in the middle of its training."""
    tally, chance = Tally(), random.Random("removed")
    for number in range(times):
        place, log = folder / str(number), folder / f"{number}.log"
        process = _endless(place, log)
        time.sleep(chance.uniform(0, 2))
        shutil.rmtree(place, ignore_errors=True)
        ended = wait(process, 60)
        said = log.read_text()
        if not ended or process.returncode != 2 or "was removed while" not in said or "Traceback" in said:
            tally.problems.append(f"{place}: status {process.returncode}: {said[-300:]}")
            process.kill()
        tally.stops += 1
    return tally


def _endless(place: Path, log: Path) -> psutil.Popen:
    """A training that does not end by itself, after its first checkpoint."""
    keys = {**KEYS, "epochs": 100_000, "stopping_step": 100_000}
    process = start(
        [
            "--model=DGRM",
            "--dataset=ml-100k",
            f"--output_dir={place}",
            *(f"--{key}={json.dumps(value)}" for key, value in keys.items()),
        ],
        log,
    )
    while not list(place.glob("*/checkpoint.pt")) and process.poll() is None:
        time.sleep(0.05)
    return process
