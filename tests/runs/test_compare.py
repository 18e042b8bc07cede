"""A split as files, and predictions of others judged as our own runs are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import random_ratings, write_ratings

import recbole_dgrm as rd
from recbole_dgrm.cli import main
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import CheckpointError, DataError, OptionError
from recbole_dgrm.records import PREDICTIONS_ONLY, read_run, read_runs
from recbole_dgrm.runs.compare import COMPARED, PARTS, read_split

IDS = {"user": str, "item": str}


@pytest.fixture
def keys(ratings_path, tmp_path):
    return {"data_path": str(ratings_path), "output_dir": str(tmp_path / "runs"), "device": "cpu"}


@pytest.fixture(scope="module")
def folder(ratings_path, tmp_path_factory):
    """The folder of a split; no test writes into it."""
    return rd.split("noise", tmp_path_factory.mktemp("split") / "split", data_path=str(ratings_path), device="cpu")


@pytest.fixture(scope="module")
def table(folder):
    """The test part with a prediction for each row that no other row has."""
    test = pd.read_csv(folder / "test.csv", dtype=IDS)
    return test[["user", "item"]].assign(prediction=np.linspace(1, 5, len(test)))


def of_label(folder: Path, label: str) -> dict:
    return next(run.record for run in read_runs(folder) if run.record["label"] == label)


def test_the_parts_are_those_that_our_models_see(folder, make_config):
    splits = build_splits(make_config("MF", "noise"))
    for part in PARTS:
        table = pd.read_csv(folder / f"{part}.csv", dtype=IDS)
        of_part = getattr(splits, part)
        user, item, rating = splits.triples(part)
        known = zip(of_part.id2token("user_id", user), of_part.id2token("item_id", item), rating, strict=True)
        assert set(table.itertuples(index=False, name=None)) == set(known)
    about = json.loads((folder / "split.json").read_text())
    assert (about["fingerprint"], about["n_test"]) == (splits.fingerprint(), len(splits.test))


def test_ratings_and_times_keep_every_digit(tmp_path):
    ratings = random_ratings().assign(timestamp=lambda table: 881250949 + table.index)
    ratings["rating"] = ratings["rating"] / 10
    write_ratings(tmp_path, "timed", pd.concat([ratings, ratings[:3]]))  # repeated rows do not disturb
    folder = rd.split("timed", tmp_path / "split", data_path=str(tmp_path))
    parts = pd.concat([pd.read_csv(folder / f"{part}.csv") for part in PARTS])
    parts = parts.sort_values(["user", "item"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(parts.set_axis(ratings.columns, axis=1), ratings)


@pytest.mark.parametrize("protocol", ["rated", "table3", "eq23"])
def test_predictions_of_a_run_get_the_numbers_of_its_record(keys, tmp_path, protocol):
    folder = rd.split("noise", tmp_path / "split", protocol=protocol, seed=7, **keys)
    run = rd.train("MF", "noise", config_files=folder / "config.yaml", epochs=1, output_dir=keys["output_dir"])
    assert run.record["data"]["fingerprint"] == read_split(folder)[1].fingerprint()
    test = pd.read_csv(folder / "test.csv", dtype=IDS)
    test["prediction"] = run.predict(test["user"], test["item"])
    test.sample(frac=1, random_state=0).to_csv(tmp_path / "theirs.csv", index=False)
    report = rd.compare(folder, {"theirs": tmp_path / "theirs.csv"}, output=keys["output_dir"])
    ours, theirs = (of_label(tmp_path / "runs", label) for label in ("MF", "theirs"))
    for key in ("test", "unclipped", "reference", "skill", "data", "dataset", "protocol", "seed"):
        assert theirs[key] == ours[key], key
    assert theirs["resolution"]["test"] == ours["resolution"]["test"]
    vectors = [run.per_user() for run in read_runs(tmp_path / "runs")]
    for name in vectors[0]:
        np.testing.assert_array_equal(vectors[0][name], vectors[1][name])
    means = report.table().pivot(index="model", columns="metric", values="mean")
    assert (means.loc["MF"] == means.loc["theirs"]).all()


def test_a_report_without_a_run_of_ours_has_seeds_tests_marks_and_means(keys, tmp_path, caplog):
    rng = np.random.default_rng(0)
    for seed in (1, 2, 3):
        folder = rd.split("noise", tmp_path / f"split-{seed}", seed=seed, **keys)
        test = pd.read_csv(folder / "test.csv", dtype=IDS)
        near = test.assign(prediction=test["rating"] + rng.normal(0, 0.1, len(test)))
        far = test.assign(prediction=400.0)  # beyond the scale, which ends at 5
        report = rd.compare(folder, {"near": near, "far": far}, output=tmp_path / "both", seconds={"near": 2.5})
        record = read_run(tmp_path / "both" / f"far-noise-rated-{seed}").record
        for row, value in (("test", 5), ("unclipped", 400)):
            assert record[row]["mae"] == pytest.approx((value - test["rating"]).mean())
    means = report.table().set_index(["model", "metric"])
    assert means.loc[("near", "rmse"), "seeds"] == 3
    assert means.loc[("far", "rmse"), "holm"] < 0.05
    assert means.loc[("near", "rmse"), "train_s"] == 2.5
    assert means.loc[("far", "ratedndcg@5"), "mean"] == means.loc[("random", "ratedndcg@5"), "mean"]  # exact ties
    text = report.path.with_suffix(".md").read_text()
    for words in ("▼†", "▲ better and ▼ worse than near", "For far, near only the predictions"):
        assert words in text
    assert not [record for record in caplog.records if "cannot be drawn" in record.getMessage()]


def test_a_row_is_judged_again_others_stay_and_none_can_be_loaded(folder, table, tmp_path):
    rd.compare(folder, {"a": table, "b": table}, output=tmp_path)
    better = pd.read_csv(folder / "test.csv", dtype=IDS).rename(columns={"rating": "est"})
    rd.compare(folder, {"a": better}, output=tmp_path)
    assert of_label(tmp_path, "a")["test"]["rmse"] == 0
    assert of_label(tmp_path, "b")["test"]["rmse"] > 0
    runs = read_runs(tmp_path)
    assert [run.record["model"] for run in runs] == [PREDICTIONS_ONLY] * 2
    with pytest.raises(CheckpointError, match="and no model to load"):
        rd.load_run(runs[0].path)


def test_predictions_that_cannot_be_judged_are_refused_and_nothing_is_written(folder, table):
    for change, message in [
        (lambda table: table[3:], r"no prediction for 3 of \d+ test pairs, the first user '\d+' and item '\d+'"),
        (lambda table: pd.concat([table, table[:1]]), "1 pairs occur twice, the first in row"),
        (lambda table: table.assign(user="9999"), "pairs are not in the test part, the first in row 1: user '9999'"),
        (lambda table: table.assign(user=table["item"]), "are not in the test part"),
        (lambda table: table.assign(prediction=np.nan), "predictions are missing, the first in row 1"),
        (lambda table: table.assign(prediction=1e20), r"predictions are out of range; allowed: in \[-1e\+14, 1e\+14\]"),
    ]:
        with pytest.raises(DataError, match=message):
            rd.compare(folder, {"good": table, "bad": change(table)})
        assert not (folder / COMPARED).exists()


def test_other_data_other_splits_and_other_folders_are_refused(folder, table, keys, tmp_path):
    with pytest.raises(DataError, match=r"has no split.json, .* make one with recbole-dgrm split"):
        rd.compare(tmp_path, {"a": table})
    other = write_ratings(tmp_path / "other", "noise", random_ratings(seed=1)).parent.parent
    with pytest.raises(DataError, match=r"has changed: its split .* is no longer that in"):
        rd.compare(folder, {"a": table}, data_path=other)
    another = rd.split("noise", tmp_path / "another", **(keys | {"data_path": str(other)}))
    theirs = pd.read_csv(another / "test.csv").assign(prediction=1.0)
    rd.compare(another, {"a": theirs}, output=tmp_path / "out")
    with pytest.raises(DataError, match="used another split"):
        rd.compare(folder, {"b": table}, output=tmp_path / "out")
    assert len(read_runs(tmp_path / "out")) == 1


def test_a_run_of_ours_is_not_replaced(folder, table, keys, tmp_path):
    run = rd.train("MF", "noise", epochs=1, **keys)
    next((tmp_path / "runs").glob("MF-*")).rename(tmp_path / "runs" / "a-noise-rated-2020")
    with pytest.raises(DataError, match="exists and is not a row of predictions"):
        rd.compare(folder, {"a": table}, output=tmp_path / "runs")
    assert of_label(tmp_path / "runs", "MF")["test"] == run.record["test"]


def test_wrong_arguments_are_refused(keys, tmp_path, folder, table):
    for message, call in {
        "exists already": lambda: rd.split("noise", folder, **keys),
        "protocol=full ranks all items": lambda: rd.split("noise", tmp_path / "full", protocol="full", **keys),
        "a split has no model": lambda: rd.split("noise", tmp_path / "model", model="BMF", **keys),
        "seconds: there are no predictions called": lambda: rd.compare(folder, {"a": table}, seconds={"b": 1}),
        "seconds of a=-1.0 is out of range": lambda: rd.compare(folder, {"a": table}, seconds={"a": -1}),
        "there are no predictions to evaluate": lambda: rd.compare(folder, {}),
        "is not a plain name": lambda: rd.compare(folder, {"a/b": table}),
    }.items():
        with pytest.raises(OptionError, match=message):
            call()
    assert not (tmp_path / "full").exists()


def test_the_commands_split_and_compare(keys, tmp_path, capsys):
    folder, places = tmp_path / "split", [f"--data_path={keys['data_path']}"]
    assert main.main(["split", "--dataset=noise", f"--output={folder}", "--seed=3", "--topk=[3]", *places]) == 0
    assert "recbole-dgrm compare --split=" in capsys.readouterr().out
    test = pd.read_csv(folder / "test.csv", dtype=str)
    (tmp_path / "more").mkdir()
    files = [str(tmp_path / name) for name in ("two.csv", "three.csv", "more/two.csv")]
    for value, file in zip((2.0, 3.0, 4.0), files, strict=True):
        test.assign(score=value).to_csv(file, index=False)
    assert main.main(["compare", f"--split={folder}", *files[:2], "--seconds={two: 1.5}"]) == 0
    printed = capsys.readouterr().out
    for word in ("oracle", "RatedNDCG@3", "two", "three", "report.html"):
        assert word in printed
    assert read_run(folder / COMPARED / "two-noise-rated-3").record["timing"] == {"train_s": 1.5}
    assert main.main(["compare", f"--split={folder}", *files]) == 2
    assert "two.csv has the name of another file" in capsys.readouterr().err
