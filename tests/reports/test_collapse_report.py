"""The diagnose command and what its report says."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from helpers import Here

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.benchmarks.watch import prepare
from recbole_dgrm.cli import main
from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.diagnosis import ALPHAS
from recbole_dgrm.evaluation.distribution import Bins, Sample
from recbole_dgrm.records import RECORD
from recbole_dgrm.reports import collapse_report, collapse_sections
from recbole_dgrm.reports.collapse_runs import watched
from recbole_dgrm.reports.document import Figure, Table, to_markdown
from recbole_dgrm.reports.figures import GIVEN as GIVEN_COLOUR
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.system.files import write_json

STARS = Bins((1, 2, 3, 4, 5))
RNG = np.random.default_rng(0)
GIVEN = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [61, 114, 271, 342, 212])


def as_dict(values) -> dict:
    return Sample.of(STARS, torch.as_tensor(np.asarray(values, dtype=np.float32))).to_dict()


def distances(kl: float, margin: float) -> dict:
    return {name: {"value": kl, "low": kl - margin, "high": kl + margin} for name in collapse_sections.DISTANCES}


def hand_made(folder, label: str, late, kl: float, verdict: dict, **more) -> None:
    """A watched run: a copy of the ratings after epoch 1, and ``late`` after epochs 5 and 10."""
    path = folder / label
    path.mkdir()
    lists = {"n": 5, "distinct": 0.5, "items": 0.25, "gini": 0.8, "entropy": 2.0}
    early = {"rated": as_dict(GIVEN), "unrated": as_dict(GIVEN), "between_users": 0.3, "lists": lists}
    later = {**early, "rated": as_dict(late), "unrated": as_dict(late)}
    found = {
        "scale": [1, 5, 1],
        "verdict": verdict,
        "distances": distances(kl, 0.02),
        "seconds": 1.0,
        "ks": {"users": 10, "alphas": list(ALPHAS), "hits": [9, 8, 7, 6, 5, 4]},
        "distribution": {"ratings": as_dict(GIVEN), "test": as_dict(late), **later},
        **more,
    }
    record = {
        "model": label,
        "dataset": "mine",
        "protocol": "rated",
        "seed": 1,
        "label": label,
        "status": "finished",
        "config": {"diagnose_every": 5},
        "test": {"ratedrecall@5": 0.5, "ratedndcg@5": 0.55},
        "diagnosis": found,
        "data": {"n_users": 10, "n_items": 20, "n_train": 1000},
    }
    write_json(path / RECORD, record)
    looks = [(1, early), (2, {"validation": as_dict(GIVEN)}), (5, later), (10, later)]
    lines = [{"stage": "select", "epoch": epoch - 1, "seconds": 1.0, "distribution": seen} for epoch, seen in looks]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


FINE = {"status": "intact", "reason": "fine", "epoch": 5, "since": None, "training": "", "passing": []}
BAD = {"status": "collapsed", "reason": "bad", "epoch": 10, "since": 5, "training": "bad", "passing": []}


@pytest.fixture
def folder(tmp_path):
    hand_made(tmp_path, "Good", GIVEN, 0.05, FINE)
    hand_made(tmp_path, "Broken", np.repeat([0.1, 5.0], 500), 0.9, BAD)
    return tmp_path


def test_a_report_names_the_collapse_and_its_beginning(folder):
    collapse_report.write_diagnosis(folder)
    text = (folder / "diagnosis.md").read_text()
    assert "| Broken | collapsed | 10 | 5 | bad |" in text
    assert "| Good | intact | 5 | – | fine |" in text
    assert "Broken, rated: 3.53 ± 1.13 after epoch 1, 2.55 ± 2.45 after epoch 10" in text
    assert (
        "100% at the ends of the scale (ratings 27%); collapsed at 2 of 3 looks, first at epoch 5, last at 10." in text
    )
    assert "never collapsed" in text
    assert "By KL Good is closest to the given ratings (0.050); Broken has 0.900, apart from it." in text
    assert "0.900 [0.880, 0.920]" in text


def test_numbers_of_other_data_sets_are_not_compared_with_the_papers(folder):
    hand_made(folder, "DGRM", GIVEN, 0.1, FINE)
    assert "published" not in to_markdown(collapse_report.diagnosis_document(watched(folder), folder)).lower()


def test_every_section_has_its_numbers_as_csv(folder):
    document = collapse_report.diagnosis_document(watched(folder), folder)
    files = {path.stem for path in (folder / "csv").iterdir()}
    assert files == {"ratings", "predictions-rated", "predictions-unrated", "course", "distances", "ks", "lists"}
    for figure in [block for block in document.blocks if isinstance(block, Figure)]:
        for kind in ("png", "svg"):
            assert (folder / f"{figure.file}.{kind}").stat().st_size > 1000
    with open(folder / "csv" / "predictions-rated.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["count"]) for row in rows if (row["model"], row["epoch"]) == ("Broken", "5")) == 1000
    with open(folder / "csv" / "course.csv", newline="") as file:
        course = list(csv.DictReader(file))
    broken = [row["collapsed"] for row in course if (row["model"], row["group"]) == ("Broken", "rated")]
    assert broken == ["False", "True", "True"]


def test_the_course_of_a_copy_is_that_of_the_ratings():
    sample = Sample.of(STARS, torch.as_tensor(GIVEN))
    kl, entropy, covered, ends = collapse_sections._measures(sample, sample)
    shares = np.array([61, 114, 271, 342, 212]) / 1000
    assert (kl, covered) == (0, 1)
    assert entropy == pytest.approx(-(shares * np.log(shares)).sum())
    assert ends == pytest.approx(0.273)
    two = Sample.of(STARS, torch.tensor([1.0, 5.0]))
    assert collapse_sections._measures(two, sample)[1:] == pytest.approx((math.log(2), 0.4, 1))


def test_few_epochs_are_shown_the_first_and_the_last_among_them():
    history = dict.fromkeys(range(5, 105, 5))
    shown = list(collapse_sections._some(history))
    assert len(shown) == collapse_sections.PANELS
    assert (shown[0], shown[-1]) == (5, 100)
    assert list(collapse_sections._some({3: None})) == [3]


def test_runs_that_nobody_watched_are_an_error(make_config, tmp_path):
    run_one(make_config("MF", epochs=1))
    with pytest.raises(DataError, match="was watched; set diagnose_every, or call diagnose"):
        collapse_report.write_diagnosis(tmp_path / "runs")


def test_a_diagnosis_adds_a_row_for_each_fixed_step_of_models_that_have_them(ratings_path, tmp_path):
    def labels(models, steps) -> list[str]:
        made = prepare(models, "noise", fixed_steps=steps, data_path=str(ratings_path), output_dir=tmp_path)
        return [entry.label for entry in made.plan.models]

    assert labels("DGRM, MF", [5, 1]) == ["DGRM", "DGRM, t = 5", "DGRM, t = 1", "MF"]
    assert set(labels("all", [])) >= {"DGRM", "CFGAN", "MF"}
    assert labels([{"model": "CFGAN", "label": "ZR", "config": {"negatives": "ZR"}}], [5]) == ["ZR"]


@pytest.mark.slow
def test_one_line_watches_and_reports(ratings_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    folder = tmp_path / "out"
    keys = ["--epochs=3", "--device=cpu", "--rating_scale=[1,5]", "--rating_step=1", "--train_batch_size=8"]
    where = [f"--data_path={ratings_path}", f"--output_dir={folder}"]
    line = ["diagnose", "--models=[DGRM, BPR]", "--dataset=noise", "--every=2", "--fixed_steps=[1]", *keys, *where]
    assert main.main(line) == 0
    out = capsys.readouterr().out
    for words in ("DGRM: ", "DGRM, t = 1: ", "BPR: not judged: the scores are no ratings; ", "diagnosis.html"):
        assert words in out
    page = (folder / "diagnosis.html").read_text()
    for words in ("Denoising steps T&#39; (Fig. 7)", "Fixed noise steps in training (Table 4)", "Recommendation lists"):
        assert words in page
    runs = watched(folder)
    assert [run.name for run in runs] == ["DGRM", "DGRM, t = 1", "BPR"]
    assert list(runs[0].looks) == [1, 2]
    assert isinstance(collapse_report.verdict_table(runs), Table)
    assert main.main(line) == 0  # nothing is left to do
    assert "3 runs: 3 finished" in capsys.readouterr().out


def test_wrong_options_are_said_before_anything_runs(ratings_path, tmp_path, capsys):
    place = ["--dataset=noise", f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'out'}"]
    assert main.main(["diagnose", "--models=DGRN", *place]) == 2
    assert "there is no model 'DGRN'" in capsys.readouterr().err
    assert main.main(["diagnose", "--models=DGRM", "--fixed_steps=[9]", *place]) == 2
    assert "fixed_step=9" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(["diagnose", "--models=DGRM", "--every=0", *place])
    assert not (tmp_path / "out").exists()


def change(path, **fields) -> None:
    file = path / RECORD
    write_json(file, {**json.loads(file.read_text()), **fields})


def test_a_run_without_a_diagnosis_is_left_out_and_said(folder, caplog):
    change(folder / "Broken", diagnosis={}, error="its diagnosis failed: no room")
    assert [run.name for run in watched(folder)] == ["Good"]
    assert "has no diagnosis: its diagnosis failed: no room" in caplog.text
    change(folder / "Good", diagnosis={})
    with pytest.raises(DataError, match="no watched run in"):
        watched(folder)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dataset": "other"}, "dataset=other"),
        ({"protocol": "full"}, "protocol=full"),
        (
            {"config": {"diagnose_every": 5, "eval_args": {"mode": "labeled"}, "rating_threshold": 4}},
            "rating_threshold=4",
        ),
    ],
)
def test_a_diagnosis_is_about_one_thing(folder, fields, told):
    change(folder / "Good", **fields)
    with pytest.raises(DataError, match=rf"cannot stand in one diagnosis.*{told}; give each an --output_dir"):
        collapse_report.write_diagnosis(folder)


def test_configurations_of_one_label_have_names_of_their_own(folder):
    hand_made(folder, "Good2", GIVEN, 0.1, FINE)
    change(folder / "Good2", label="Good", config={"diagnose_every": 5, "epochs": 9})
    assert [run.name for run in watched(folder)] == ["Broken", "Good (epochs not set)", "Good (epochs=9)"]
    collapse_report.write_diagnosis(folder)


def test_whose_lists_were_compared_is_in_the_caption(folder):
    collapse_report.write_diagnosis(folder)
    assert "by the tested model; users not recorded, so compare with care." in (folder / "diagnosis.md").read_text()
    for label in ("Good", "Broken"):
        found = json.loads((folder / label / RECORD).read_text())["diagnosis"]
        found["distribution"]["lists"] |= {"users": 1000, "of_users": 6040}
        change(folder / label, diagnosis=found)
    collapse_report.write_diagnosis(folder)
    assert "; 1,000 of 6,040 users, the same for every model." in (folder / "diagnosis.md").read_text()
    with open(folder / "csv" / "lists.csv", newline="") as file:
        assert [row["users"] for row in csv.DictReader(file)] == ["1000", "1000"]


def test_lists_that_are_not_there_and_nasty_labels_are_reported(folder):
    found = json.loads((folder / "Good" / RECORD).read_text())["diagnosis"]
    none = dict.fromkeys(("distinct", "items", "gini", "entropy"))
    found["distribution"]["lists"] |= {**none, "users": 5, "of_users": 5}
    change(folder / "Good", diagnosis=found, label="=A $\\foo$ [/b]\x1b")
    change(folder / "Broken", label="_hidden")
    document = collapse_report.diagnosis_document(watched(folder), folder)
    assert sum(isinstance(block, Figure) for block in document.blocks) == 7
    assert "there are no lists, because every user has seen all items" in to_markdown(document)
    for file in (folder / "csv").iterdir():
        assert not any(line.startswith("=") for line in file.read_text().splitlines())


def test_the_given_ratings_are_seen_on_white_and_on_black():
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    inverted = "#" + "".join(f"{255 - int(GIVEN_COLOUR[i : i + 2], 16):02x}" for i in (1, 3, 5))
    assert 1.05 / (luminance(GIVEN_COLOUR) + 0.05) > 3
    assert (luminance(inverted) + 0.05) / (luminance("#16181b") + 0.05) > 3
