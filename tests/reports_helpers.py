"""Runs made by hand, for what is said about finished runs."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
from matplotlib.figure import Figure

from recbole_dgrm.records import new_record, write_vectors
from recbole_dgrm.reports import figures
from recbole_dgrm.reports.benchmark_report import benchmark_document
from recbole_dgrm.reports.densities import density_answers
from recbole_dgrm.reports.document import to_markdown
from recbole_dgrm.reports.rows import Cell, ModelRow
from recbole_dgrm.reports.statistics import summarise
from recbole_dgrm.system.files import write_json

NDCG = "ratedndcg@5"
REFERENCE = {"random": {NDCG: 0.25}, "bias": {NDCG: 0.5}, "oracle": {NDCG: 0.75}}
RATED = {
    "eval_args": {"split": {"RS": [0.7, 0.1, 0.2]}, "group_by": "user", "order": "RO", "mode": "labeled"},
    "feedback": "rating",
    "split_rounding": "up",
    "rating_scale": [1, 5],
    "rating_step": 1,
    "rating_threshold": None,
    "rated_ties": "expected",
    "rated_filter": "none",
    "rated_denominator": "n",
}
SIZES = {"n_users": 30, "n_items": 20, "n_train": 100, "n_valid": 10, "n_test": 20}
FULL = {**RATED, "eval_args": {**RATED["eval_args"], "mode": "full"}, "feedback": "implicit"}


def tokens(n: int) -> list[str]:
    return [f"u{index}" for index in range(n)]


def draw(label: str, seed: int, n: int = 30) -> np.ndarray:
    return np.random.default_rng([*label.encode(), seed]).random(n)


def write_run(
    folder: Path, label: str, seed: int = 1, vectors=None, users=None, config=None, name: str = "", **fields
) -> Path:
    """A run directory; its metrics are the means of ``vectors`` unless ``test`` is among the fields."""
    vectors = {NDCG: draw(label, seed)} if vectors is None else vectors
    where = {"model": "MF", "dataset": "board", "protocol": "rated", "seed": seed, "output_dir": str(folder)}
    record = asdict(new_record({**where, **(config or {})}, label))
    test = {metric: float(np.mean(vector)) for metric, vector in vectors.items()}
    record |= {"status": "finished", "test": test, "valid": test, "reference": REFERENCE, "skill": {NDCG: seed / 8}}
    record |= {"timing": {"train_s": 10.0 * seed}, "data": {"fingerprint": f"split {seed}"}}
    record |= {"environment": {"python": "3"}, **fields}
    path = folder / (name or f"{label}-{seed}-{record['hash']}")
    path.mkdir(parents=True)
    write_json(path / "record.json", record)
    if vectors:
        users = tokens(len(next(iter(vectors.values())))) if users is None else users
        write_vectors(path / "per_user.npz", {"user": np.array(users, dtype=str), **vectors})
    return path


def write_plan(folder: Path, **changed) -> None:
    plan = {"models": [], "protocols": ["rated"], "metrics": None, "baseline": None, "published": {}}
    write_json(folder / "benchmark.json", {**plan, **changed})


def age(path: Path, seconds: float) -> None:
    """Make a run that many seconds older, whatever the file system says of its files."""
    record = json.loads((path / "record.json").read_text(encoding="utf-8"))
    begun = datetime.fromisoformat(record["begun"]) - timedelta(seconds=seconds)
    write_json(path / "record.json", {**record, "begun": begun.isoformat(timespec="milliseconds")})


def only_cell(folder: Path, baseline: str | None = None) -> Cell:
    (cell,) = summarise(folder, baseline).cells
    return cell


def drawn(draw, *arguments) -> Figure:
    """The figure that ``draw`` would save, with its layout."""
    with patch.object(figures, "save") as save:
        draw(*arguments, Path("nowhere"))
    figure = save.call_args.args[0]
    figure.draw_without_rendering()
    return figure


def report_text(folder: Path) -> str:
    """The report about a folder in Markdown, whose figures are not drawn."""
    summary = summarise(folder)
    return to_markdown(benchmark_document(summary, "of a test", density_answers(summary.cells)))


def rows_of(cell: Cell) -> dict[str, ModelRow]:
    found = {row.label: row for row in cell.rows}
    assert len(found) == len(cell.rows)
    return found


def scale(config) -> dict:
    """The scale that a run of such a config finds in the data."""
    (low, high), step = config["rating_scale"], config["rating_step"]
    levels = np.arange(low, high + step, step).tolist()
    threshold = (low + high) / 2 if config["rating_threshold"] is None else config["rating_threshold"]
    return {"low": low, "high": high, "levels": levels, "threshold": threshold, "continuous": False}


def put(folder, label: str, seed: int = 1, config=RATED, data=None, **fields):
    """A run that a whole report can be written about."""
    config = {"valid_metric": NDCG, **config}
    data = {**SIZES, "scale": scale(config), **(data or {"fingerprint": f"split {seed}"})}
    return write_run(folder, label, seed, config=config, data=data, **{"parameters": 9, **fields})
