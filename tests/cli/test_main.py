"""The command line as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, random_ratings, write_ratings

from recbole_dgrm.cli import main
from recbole_dgrm.config.values import read_yaml

SMALL = ["--epochs=1", "--generator_hidden=[8]", "--critic_hidden=[4]", "--latent_size=2", "--device=cpu"]


@pytest.fixture
def run(tmp_path, ratings_path, capsys):
    """``run(*arguments)``: exit status, stdout, stderr; data and output of the test."""

    def call(*arguments: str):
        status = main.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    call.places = [f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
    return call


def test_one_line_trains_and_prints_the_table(run, tmp_path):
    status, out, err = run(
        "--model=DGRM", "--dataset=noise", "--rating_scale=[1,5]", "--rating_step=1", *SMALL, *run.places
    )
    assert (status, err) == (0, "")
    for word in ("random", "bias", "oracle", "DGRM", "skill", "RatedNDCG@5", "RMSE", "files of this run"):
        assert word in out
    (path,) = (tmp_path / "runs").iterdir()
    assert str(path) in out.replace("\n", "")


def test_train_may_be_said_and_values_are_yaml(run, tmp_path):
    status, *_ = run(
        "train", "--model", "DGRM", "--dataset", "noise", "--topk", "[5, 3]", "--fixed_step=~", *SMALL, *run.places
    )
    assert status == 0
    (path,) = (tmp_path / "runs").iterdir()
    record = json.loads((path / "record.json").read_text())
    assert record["config"]["topk"] == [5, 3]
    assert "ratedndcg@3" in record["test"]


def test_config_files_and_resume(run, tmp_path):
    run("--model=DGRM", "--dataset=noise", *SMALL, *run.places)
    (path,) = (tmp_path / "runs").iterdir()
    status, out, _ = run(f"--config_files={path / 'config.yaml'}", "--seed=9")
    assert status == 0
    assert "seed 9" in out
    status, out, _ = run(f"--resume={path}")
    assert status == 0
    assert "seed 2020" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset=noise"], "error: no model is named; say --model=DGRM"),
        (["--model=DGRM"], "error: no dataset is named"),
        (["--model=DGMR", "--dataset=noise"], "error: there is no model 'DGMR'"),
        (["--model=DGRM", "--dataset=noise", "--epoch=3"], "error: unknown key 'epoch'; did you mean 'epochs'"),
        (["--model=DGRM", "--dataset=noise", "--noise_min=1"], "error: noise_min=1.0 must be below noise_max=1.0"),
        (["--model=DGRM", "--dataset=nothing"], "error: there is no folder"),
        (["--resume=nowhere"], "error: nowhere is not a run directory"),
    ],
)
def test_wrong_input_is_one_sentence_and_no_traceback(run, arguments, said):
    status, _, err = run(*arguments, *(run.places if "resume" not in arguments[0] else []))
    assert status == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model=DGRM", "epochs=3"], "'epochs=3' is not understood"),
        (["--model=DGRM", "--epochs"], "--epochs has no value"),
        (["--model=DGRM", "--epochs=3", "--epochs=4"], "--epochs is given twice"),
        (["--resume=x", "--epochs=3"], "takes everything from the run directory"),
    ],
)
def test_wrong_usage_shows_the_usage(run, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "program"),
    [
        ("/usr/bin/recbole-dgrm", "recbole-dgrm"),
        ("/site/recbole_dgrm/__main__.py", "python -m recbole_dgrm"),
        ("run_recbole_dgrm.py", "python run_recbole_dgrm.py"),
    ],
)
def test_help_names_the_program_as_it_was_called(monkeypatch, capsys, script, program):
    monkeypatch.setattr(sys, "argv", [script])
    with pytest.raises(SystemExit):
        main.main(["--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: {program} --model=M")
    assert f"  {program} download ml-1m\n" in out


def test_an_unknown_option_is_refused_with_the_nearest(run):
    assert run("report", "runs", "--basline=MF")[2] == "error: unknown option '--basline'; did you mean '--baseline'?\n"
    assert "unknown option '--safetensors'" in run("export", "--run=x", "--output=y", "--safetensors")[2]


def test_help_explains(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for word in (
        "--model",
        "--dataset",
        "--protocol",
        "--resume",
        "rated (default) | temporal | full | table3 | eq23",
        "convert",
    ):
        assert word in out


def test_an_interrupted_run_says_how_to_go_on(run, monkeypatch, tmp_path):
    from recbole_dgrm.models.dgrm.model import DGRM

    def stopped(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(DGRM, "generator_loss", stopped)
    status, _, err = run("--model=DGRM", "--dataset=noise", *SMALL, *run.places)
    (path,) = (tmp_path / "runs").iterdir()
    assert status == 130
    assert f"note: stopped; continue with --resume={path}\n" in err
    assert json.loads((path / "record.json").read_text())["status"] == "interrupted"


def write_csv(path: Path, **renamed: str) -> Path:
    random_ratings().rename(columns=renamed).to_csv(path, index=False)
    return path


def test_convert_makes_a_data_set_that_trains(run, tmp_path):
    source = write_csv(tmp_path / "ratings.csv", user_id="userId", item_id="movieId")
    status, out, _ = run("convert", str(source), f"--data_path={tmp_path / 'mine'}")
    assert status == 0
    assert "recbole-dgrm --model=DGRMPlus --dataset=ratings" in out
    assert (tmp_path / "mine" / "ratings" / "ratings.yaml").read_text().count("rating_scale") == 1
    status, _, err = run("--model=DGRM", "--dataset=ratings", f"--data_path={tmp_path / 'mine'}", *SMALL, run.places[1])
    assert (status, err) == (0, "")  # the scale is declared, so nothing is said


def test_convert_takes_columns_separator_and_dates(run, tmp_path):
    table = random_ratings().assign(when="2020-01-02 03:04:05")
    table.columns = ["who", "what", "how", "when"]
    table.to_csv(tmp_path / "odd.txt", sep=";", index=False)
    arguments = ["--user=who", "--item=what", "--rating=how", "--timestamp=when", "--sep=;", "--name=odd"]
    status, *_ = run("convert", str(tmp_path / "odd.txt"), f"--data_path={tmp_path}", *arguments)
    assert status == 0
    written = pd.read_csv(tmp_path / "odd" / "odd.inter", sep="\t")
    assert list(written) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert written["timestamp:float"].iloc[0] == pd.Timestamp("2020-01-02 03:04:05", tz="UTC").timestamp()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda table: table.rename(columns={"rating": "opinion"}),
            "has no column 'rating'; it has user_id, item_id, opinion",
        ),
        (lambda table: table.assign(rating="good"), "ratings are no numbers, the first in line 2: 'good'"),
        (lambda table: table.assign(rating=3), "all ratings are 3"),
        (lambda table: table.assign(user_id=None), "rows have no user or item"),
    ],
)
def test_convert_refuses_bad_files_and_writes_nothing(run, tmp_path, change, said):
    change(random_ratings()).to_csv(tmp_path / "bad.csv", index=False)
    status, _, err = run("convert", str(tmp_path / "bad.csv"), f"--data_path={tmp_path / 'out'}", "--sep=,")
    assert status == 2
    assert said in err
    assert not (tmp_path / "out").exists()


def test_paths_with_blanks_and_names_like_numbers_work_everywhere(run, tmp_path):
    (tmp_path / "my runs").mkdir()
    source = write_csv(tmp_path / "my ratings.csv")
    status, out, _ = run("convert", str(source), "--name=2024_01", f"--data_path={tmp_path / 'my data'}")
    assert status == 0
    assert f"recbole-dgrm --model=DGRMPlus --dataset=2024_01 --data_path='{tmp_path / 'my data'}'\n" in out
    first, second = tmp_path / "a file.yaml", tmp_path / "b.yaml"
    first.write_text("model: DGRM\ndataset: '2024_01'\nseed: 7\n")
    second.write_text("seed: 8\n")
    places = [f"--data_path={tmp_path / 'my data'}", f"--output_dir={tmp_path / 'my runs'}"]
    status, out, _ = run(f"--config_files={first}", f"--config_files={second}", *SMALL, *places)
    assert status == 0
    assert "DGRM on the test part of 2024_01, protocol rated, seed 8" in out
    (made,) = (tmp_path / "my runs").iterdir()
    assert run("evaluate", f"--run={made}")[0] == 0
    assert run("recommend", f"--run={made}", f"--output={tmp_path / 'my lists.csv'}")[0] == 0
    status, out, _ = run(f"--config_files={second} {first}", *SMALL, *places)
    assert "seed 7" in out


def test_a_printed_command_to_go_on_is_quoted_for_the_shell(run, tmp_path, monkeypatch):
    from recbole_dgrm.models.dgrm.model import DGRM

    monkeypatch.setattr(DGRM, "generator_loss", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    _, _, err = run("--model=DGRM", "--dataset=noise", *SMALL, run.places[0], f"--output_dir={tmp_path / 'my runs'}")
    (path,) = (tmp_path / "my runs").iterdir()
    assert f"continue with --resume='{path}'\n" in err


@pytest.mark.parametrize("command", [["--model=MF"], ["tune", "--model=MF"], ["diagnose", "--models=MF"]])
def test_an_output_dir_that_cannot_be_written_is_said_before_data_is_read(run, tmp_path, command):
    (tmp_path / "file").touch()
    for name in (f"{tmp_path}/file", f"{tmp_path}/file/below", "/proc/below"):
        status, _, err = run(*command, "--dataset=nowhere", run.places[0], f"--output_dir={name}")
        assert status == 2
        assert err.startswith((f"error: {tmp_path}/file: Not a directory", "error: output_dir="))
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model=MF", "--model=DGRM"], "--model is given twice"),
        (["--model=MF", "--refit", "--epochs=3"], "--refit has no value; write --refit=value"),
        (["tune", "--model=MF", "--dataset=noise", "--output_dir="], "the path is empty"),
        (["report", "x" * 300], "a part of the path is longer than 255 bytes"),
        (["--model=MF", "--config_files="], "--config_files names no file"),
        (["--resume="], "the path is empty"),
    ],
)
def test_options_are_given_once_and_with_a_value(run, capsys, arguments, said):
    with pytest.raises(SystemExit):
        main.main(arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "--model=MF", "--test_seeds=5"], "test_seeds=5 is not a list of whole numbers"),
        (["tune", "--model=MF", "--study=../up"], "study='../up' is not a plain name"),
        (["diagnose", "--models=MF", "--fixed_steps=5"], "fixed_steps=5 is not a list of whole numbers"),
        (["diagnose", "--models=MF", "--threads=0"], "threads=0 is out of range"),
        (["diagnose", "--models=[{label: x}]"], "neither a name nor a mapping with 'model: ...'"),
        (["diagnose", "--models=[{model: DGRM, config: 5}]"], "config=5 is not a mapping"),
    ],
)
def test_options_of_commands_are_checked_before_anything_is_run(run, tmp_path, arguments, said):
    status, _, err = run(*arguments, "--dataset=noise", *run.places)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_convert_does_not_overwrite(run, tmp_path):
    source = write_csv(tmp_path / "ratings.csv")
    assert run("convert", str(source), f"--data_path={tmp_path}")[0] == 0
    status, _, err = run("convert", str(source), f"--data_path={tmp_path}")
    assert status == 2
    assert "exists already" in err


def test_the_script_and_help_start_without_torch():
    script = ROOT / "run_recbole_dgrm.py"
    run = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(script)!r}, run_name='__main__')"
    code = f"{run}\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def finished(run, tmp_path):
    """The directory of a small run."""
    run("--model=DGRM", "--dataset=noise", "--refit=false", *SMALL, *run.places)
    (path,) = (tmp_path / "runs").iterdir()
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_recommend_writes_one_table_in_every_format(run, finished, tmp_path, kind):
    (tmp_path / "users.txt").write_text("3\n\n17\n")
    target = tmp_path / f"lists.{kind}"
    arguments = [f"--run={finished}", f"--users={tmp_path / 'users.txt'}", "--topk=4", f"--output={target}"]
    status, out, _ = run("recommend", *arguments, "--exclude=none")
    assert status == 0
    assert "user 3" in out
    assert "2 users, at most 4 items each" in out
    assert "the lists name " in out
    assert " bits, diversity 0." in out
    read = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}
    table = read[kind](target)
    assert list(table) == ["user", "rank", "item", "score", "predicted_rating"]
    assert list(table["user"].astype(int)) == [3] * 4 + [17] * 4
    assert list(table["rank"]) == [1, 2, 3, 4] * 2


def test_recommend_says_how_sure_the_model_is(run, finished, tmp_path):
    target = tmp_path / "lists.csv"
    arguments = ["recommend", f"--run={finished}", "--users=3,17", "--topk=2", f"--output={target}", "--deviations"]
    status, out, _ = run(*arguments)
    assert (status, "deviation" in out) == (0, True)
    table = pd.read_csv(target)
    assert list(table) == ["user", "rank", "item", "score", "predicted_rating", "deviation"]
    assert (table["deviation"] > 0).all()


def test_recommend_knows_ids_byte_for_byte(run, tmp_path):
    table = random_ratings().astype({"user_id": str})
    names = {"1": " ann ", "2": "b, c", "3": "dan"}
    write_ratings(tmp_path, "odd", table.assign(user_id=table["user_id"].replace(names)))
    run("--model=MF", "--dataset=odd", "--epochs=2", f"--data_path={tmp_path}", f"--output_dir={tmp_path / 'odd-runs'}")
    (path,) = (tmp_path / "odd-runs").iterdir()
    (tmp_path / "users.txt").write_text("\ufeff ann \r\nb, c\r\n\r\ndan \r\n", encoding="utf-8", newline="")
    for users in (' ann ,"b, c", dan', tmp_path / "users.txt"):
        target = tmp_path / "lists.csv"
        status, *_ = run("recommend", f"--run={path}", f"--users={users}", "--topk=1", f"--output={target}")
        assert status == 0
        assert pd.read_csv(target)["user"].tolist() == [" ann ", "b, c", "dan"]
    status, _, err = run("recommend", f"--run={path}", "--users=ann", f"--output={target}")
    assert (status, "are not known, the first: 'ann'" in err) == (2, True)


def test_recommend_goes_to_new_users_by_their_ratings(run, finished, tmp_path):
    (tmp_path / "new.csv").write_text("userId,movieId,rating\nzoe,1,5\nzoe,2,1\nyan,3,4\nyan,film,4\n")
    arguments = ["recommend", f"--run={finished}", f"--ratings={tmp_path / 'new.csv'}"]
    status, _, err = run(*arguments, f"--output={tmp_path / 'new.jsonl'}")
    assert status == 0
    assert "the model does not know their 1 items, the first 'film'" in err
    assert set(pd.read_json(tmp_path / "new.jsonl", lines=True)["user"]) == {"zoe", "yan"}
    status, _, err = run(*arguments, "--users=3", f"--output={tmp_path / 'none.csv'}")
    assert status == 2
    assert "1 of 1 users are not known, the first: '3'" in err


def test_recommend_reads_ratings_as_convert_read_the_data_set_unless_its_own_options_say_otherwise(run, tmp_path):
    table = random_ratings().assign(note="x")[["item_id", "rating", "note", "user_id"]]
    table.to_csv(tmp_path / "mine.txt", sep="|", header=False, index=False)
    options = ["--sep=|", "--columns=film,points,_,viewer", "--user=viewer", "--item=film", "--rating=points"]
    status, *_ = run("convert", str(tmp_path / "mine.txt"), "--missing=NA,99", *options, f"--data_path={tmp_path}")
    assert status == 0
    described = read_yaml(tmp_path / "mine" / "mine.yaml")["convert"]
    assert described["columns"] == ["film", "points", "_", "viewer"]
    assert (described["user"], described["separator"], described["missing"]) == ("viewer", "|", ["NA", "99"])
    keys = ["--model=ICDAE", "--dataset=mine", f"--data_path={tmp_path}", "--epochs=1", run.places[1]]
    assert run(*keys)[0] == 0
    (path,) = (tmp_path / "runs").glob("ICDAE-mine-*")
    (tmp_path / "new.txt").write_text("1|5|x|zoe\n2|99|x|zoe\n2|1|x|yan\n")
    arguments = ["recommend", f"--run={path}", f"--output={tmp_path / 'lists.csv'}"]
    assert run(*arguments, f"--ratings={tmp_path / 'new.txt'}")[0] == 0
    assert set(pd.read_csv(tmp_path / "lists.csv")["user"]) == {"zoe", "yan"}
    (tmp_path / "other.csv").write_text("who,film,points\nann,1,5\n")
    own = ["--sep=,", "--columns=", "--user=who"]
    assert run(*arguments, f"--ratings={tmp_path / 'other.csv'}", *own)[0] == 0
    assert set(pd.read_csv(tmp_path / "lists.csv")["user"]) == {"ann"}
    (tmp_path / "bad.txt").write_text("1|5|x|zoe\n2|NA|x|\n2||x|yan|3\n")
    status, _, err = run(*arguments, f"--ratings={tmp_path / 'bad.txt'}")
    assert (status, "line 3 has 5 fields, but line 1 has 4" in err) == (2, True)


def test_recommend_leaves_no_half_file(run, finished, tmp_path, monkeypatch):
    from recbole_dgrm.runs import export

    def dies(path, parts):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setitem(export.WRITERS, "csv", dies)
    status, *_ = run("recommend", f"--run={finished}", f"--output={tmp_path / 'lists.csv'}")
    assert status == 130
    assert not list(tmp_path.glob("*lists*"))


def test_evaluate_prints_the_table_of_the_run_and_writes_only_when_asked(run, finished, tmp_path):
    record = json.loads((finished / "record.json").read_text())
    before = sorted((file.name, file.stat().st_mtime_ns) for file in finished.iterdir())
    status, out, _ = run("evaluate", f"--run={finished}")
    assert status == 0
    assert f"{record['test']['rmse']:.4f}" in out
    assert sorted((file.name, file.stat().st_mtime_ns) for file in finished.iterdir()) == before
    target = tmp_path / "valid.json"
    status, out, _ = run("evaluate", f"--run={finished}", "--part=valid", "--protocol=eq23", f"--output={target}")
    assert "on the validation part of noise, protocol eq23" in out
    assert json.loads(target.read_text())["valid"]["rmse"] == record["valid"]["rmse"]


def test_export_writes_a_folder_once(run, finished, tmp_path):
    arguments = ["export", f"--run={finished}", f"--output={tmp_path / 'model'}"]
    status, *_ = run(*arguments)
    assert status == 0
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"model.safetensors", "config.json"}
    status, _, err = run(*arguments)
    assert status == 2
    assert "exists already" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "--run=nowhere", "--output=lists.csv"], "nowhere is not a run directory"),
        (["recommend", "--run=nowhere", "--output=lists.txt"], "lists.txt does not end in one of .csv, .parquet"),
        (["evaluate", "--run=nowhere"], "nowhere is not a run directory"),
        (["export", "--run=nowhere", "--output=model"], "nowhere is not a run directory"),
    ],
)
def test_commands_on_runs_name_what_is_wrong(run, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments)
    assert status == 2
    assert said in err
    assert not list(tmp_path.iterdir())
