"""The command line as a person types it."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, random_ratings, record_of, write_ratings

from recbole_dgrm.cli import main
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.runs import export
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.testing.small import small_config

SMALL = ["--epochs=1", "--generator_hidden=[8]", "--critic_hidden=[4]", "--latent_size=2", "--device=cpu"]
RUN = ["--model=DGRM", "--dataset=noise"]


@pytest.fixture
def run(tmp_path, ratings_path, capsys):
    """``run(*arguments)``: exit status, stdout, stderr; data and output of the test."""

    def call(*arguments: str):
        status = main.main(list(arguments))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    call.places = [f"--data_path={ratings_path}", f"--output_dir={tmp_path / 'runs'}"]
    return call


def made_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_one_line_trains_and_prints_the_table_and_gives_the_run_again(run, tmp_path):
    keys = ["--rating_scale=[1,5]", "--rating_step=1", "--topk", "[5, 3]", "--fixed_step=~"]
    status, out, err = run("train", "--model", "DGRM", "--dataset=noise", *keys, *SMALL, *run.places)
    assert (status, err) == (0, "")
    for words in ("random", "bias", "oracle", "DGRM", "skill", "RatedNDCG@5", "RatedNDCG@3", "RMSE", "files of this"):
        assert words in out
    path = made_in(tmp_path / "runs")
    assert str(path) in out.replace("\n", "")
    assert record_of(path)["config"]["topk"] == [5, 3]
    status, out, _ = run(f"--resume={path}")
    assert (status, "seed 2020" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=noise"], "no model is named; use --model=DGRM"),
        (["--model=DGRM"], "no dataset is named"),
        ([*RUN, "--epoch=3"], "unknown key 'epoch'; did you mean 'epochs'"),
        (["--model=DGRM", "--dataset=nothing"], "there is no folder"),
        (["--model=DGRM", "epochs=3"], "'epochs=3' is not understood"),
        (["--model=DGRM", "--epochs"], "--epochs has no value"),
        (["--model=DGRM", "--epochs=3", "--epochs=4"], "--epochs is given twice"),
        (["--model=MF", "--refit", "--epochs=3"], "--refit has no value; write --refit=value"),
        (["--model=MF", "--config_files="], "--config_files names no file"),
        (["--resume="], "the path is empty"),
        (["--resume=nowhere", "--seed=1"], "reads all keys from the run directory"),
        (["tune", "--model=MF", "--dataset=noise", "--test_seeds=5"], "test_seeds=5 is not a list of whole numbers"),
        (["diagnose", "--models=MF", "--dataset=noise", "--fixed_steps=5"], "fixed_steps=5 is not a list of whole"),
        (["diagnose", "--models=MF", "--dataset=noise", "--threads=0"], "threads=0 is out of range"),
        (["diagnose", "--models=MF", "--dataset=noise", "--every=0"], "--every: 0 must be a whole number of at least"),
        (["diagnose", "--models=DGRN", "--dataset=noise"], "there is no model 'DGRN'"),
        (["diagnose", "--models=DGRM", "--dataset=noise", "--fixed_steps=[9]"], "fixed_step=9"),
        (["diagnose", "--models=[{label: x}]", "--dataset=noise"], "neither a name nor a mapping with 'model: ...'"),
        (["report", "runs", "--basline=MF"], "unknown option '--basline'; did you mean '--baseline'?"),
        (["report"], "the following arguments are required: folder"),
        (["report", "x" * 300], "File name too long; shorten it"),
        (["export", "--run=x", "--output=y", "--safetensors"], "unknown option '--safetensors'"),
        (["export", "--run=nowhere", "--output=model"], "nowhere is not a run directory"),
        (["recommend", "--run=nowhere", "--output=lists.csv"], "nowhere is not a run directory"),
        (["recommend", "--run=nowhere", "--output=lists.txt"], "lists.txt does not end in one of .csv, .parquet"),
        (["evaluate", "--run=nowhere"], "nowhere is not a run directory"),
        (["convert", "a.csv", "--train=b.csv", "--test=c.csv", "--name=d"], "give one file of ratings, or a split"),
        (["--resume=nowhere"], "nowhere is not a run directory"),
    ],
)
def test_wrong_input_is_one_sentence_before_anything_is_written(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments, *(run.places if "--dataset=noise" in arguments else []))
    assert (status, message in err, err.count("\n")) == (2, True, 1), err
    assert err.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_help_explains_and_names_the_program_as_it_was_called(monkeypatch, capsys):
    for script, program in (
        ("/usr/bin/recbole-dgrm", "recbole-dgrm"),
        ("/site/recbole_dgrm/__main__.py", "python -m recbole_dgrm"),
        ("run_recbole_dgrm.py", "python run_recbole_dgrm.py"),
    ):
        monkeypatch.setattr(sys, "argv", [script])
        with pytest.raises(SystemExit) as stop:
            main.main(["--help"])
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert out.startswith(f"usage: {program} --model=M")
        words = [f"  {program} --model=DGRM --dataset=ml-100k\n", "rated (default) | temporal | full | table3 | eq23"]
        assert not [each for each in (*words, *main.COMMANDS, "--resume", "--config_files") if each not in out]


def test_an_interrupted_run_says_how_to_go_on_quoted_for_the_shell(run, monkeypatch, tmp_path):
    monkeypatch.setattr(DGRM, "generator_loss", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    status, _, err = run(*RUN, *SMALL, run.places[0], f"--output_dir={tmp_path / 'my runs'}")
    path = made_in(tmp_path / "my runs")
    assert status == 130
    assert f"note: stopped; continue with --resume='{path}'\n" in err
    assert record_of(path)["status"] == "interrupted"


def test_convert_makes_a_data_set_once_that_trains(run, tmp_path):
    random_ratings().assign(when="2020-01-02 03:04:05").to_csv(tmp_path / "ratings.csv", index=False)
    arguments = ["convert", str(tmp_path / "ratings.csv"), f"--data_path={tmp_path / 'mine'}", "--timestamp=when"]
    status, out, _ = run(*arguments)
    assert (status, "recbole-dgrm --model=DGRMPlus --dataset=ratings" in out) == (0, True)
    assert (tmp_path / "mine" / "ratings" / "ratings.yaml").read_text().count("rating_scale") == 1
    written = pd.read_csv(tmp_path / "mine" / "ratings" / "ratings.inter", sep="\t")
    assert list(written) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert written["timestamp:float"].iloc[0] == pd.Timestamp("2020-01-02 03:04:05", tz="UTC").timestamp()
    status, _, err = run("--model=DGRM", "--dataset=ratings", f"--data_path={tmp_path / 'mine'}", *SMALL, run.places[1])
    assert (status, err) == (0, "")  # the scale is declared, so nothing is noted
    status, _, err = run(*arguments)
    assert (status, "exists already" in err) == (2, True)
    random_ratings().assign(rating="good").to_csv(tmp_path / "bad.csv", index=False)
    status, _, err = run("convert", str(tmp_path / "bad.csv"), f"--data_path={tmp_path / 'out'}")
    assert (status, "ratings are not numbers, the first in line 2: 'good'" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_paths_with_blanks_and_names_like_numbers_work_everywhere(run, tmp_path):
    data, runs = tmp_path / "my data", tmp_path / "my runs"
    random_ratings().to_csv(tmp_path / "my ratings.csv", index=False)
    status, out, _ = run("convert", str(tmp_path / "my ratings.csv"), "--name=2024_01", f"--data_path={data}")
    assert (status, f"recbole-dgrm --model=DGRMPlus --dataset=2024_01 --data_path='{data}'\n" in out) == (0, True)
    first, second, third = (tmp_path / name for name in ("a file.yaml", "b.yaml", "c.yaml"))
    first.write_text("model: DGRM\ndataset: '2024_01'\nseed: 7\n")
    second.write_text("seed: 8\n")
    third.write_text("seed: 9\n")
    files = [f"--config_files={first}", f"--config_files={third} {second}"]
    status, out, _ = run(*files, *SMALL, f"--data_path={data}", f"--output_dir={runs}")
    assert (status, "DGRM on the test part of 2024_01, protocol rated, seed 8" in out) == (0, True)
    assert run("evaluate", f"--run={made_in(runs)}")[0] == 0
    assert run("recommend", f"--run={made_in(runs)}", f"--output={tmp_path / 'my lists' / 'lists.csv'}")[0] == 0


def test_an_output_dir_that_cannot_be_written_is_refused_before_data_is_read(run):
    for command in (["--model=MF"], ["tune", "--model=MF"], ["diagnose", "--models=MF"]):
        status, _, err = run(*command, "--dataset=nowhere", run.places[0], "--output_dir=/proc/below")
        assert (status, err.startswith("error: output_dir="), err.count("\n")) == (2, True, 1)


def test_the_script_and_help_start_without_torch():
    script = ROOT / "run_recbole_dgrm.py"
    run = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(script)!r}, run_name='__main__')"
    code = f"{run}\nexcept SystemExit: pass\nassert not {{'torch', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(ratings_path, tmp_path_factory):
    """The directory of a small run."""
    return run_one(small_config(ratings_path, tmp_path_factory.mktemp("finished"), epochs=1, refit=False))[1]


def test_recommend_writes_one_table_in_every_format(run, finished, tmp_path):
    (tmp_path / "users.txt").write_text("3\n\n17\n")
    read = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}
    for kind, reader in read.items():
        target = tmp_path / f"lists.{kind}"
        arguments = [f"--run={finished}", f"--users={tmp_path / 'users.txt'}", "--topk=4", f"--output={target}"]
        status, out, _ = run("recommend", *arguments, "--exclude=none", "--deviations")
        assert status == 0
        for words in ("user 3", "2 users, at most 4 items each", "the lists contain ", " bits, diversity 0."):
            assert words in out
        table = reader(target)
        assert list(table) == ["user", "rank", "item", "score", "predicted_rating", "deviation"]
        assert list(table["user"].astype(int)) == [3] * 4 + [17] * 4
        assert list(table["rank"]) == [1, 2, 3, 4] * 2
        assert (table["deviation"] > 0).all()


def test_recommend_knows_ids_byte_for_byte(run, tmp_path):
    table = random_ratings().astype({"user_id": str})
    names = {"1": " ann ", "2": "b, c", "3": "dan"}
    write_ratings(tmp_path, "odd", table.assign(user_id=table["user_id"].replace(names)))
    run("--model=MF", "--dataset=odd", "--epochs=1", f"--data_path={tmp_path}", f"--output_dir={tmp_path / 'odd-runs'}")
    made = made_in(tmp_path / "odd-runs")
    arguments = ["recommend", f"--run={made}", "--topk=1", f"--output={tmp_path / 'lists.csv'}"]
    (tmp_path / "users.txt").write_text("\ufeff ann \r\nb, c\r\n\r\ndan \r\n", encoding="utf-8", newline="")
    for users in (' ann ,"b, c", dan', tmp_path / "users.txt"):
        assert run(*arguments, f"--users={users}")[0] == 0
        assert pd.read_csv(tmp_path / "lists.csv")["user"].tolist() == [" ann ", "b, c", "dan"]
    status, _, err = run(*arguments, "--users=ann")
    assert (status, "are unknown, the first: 'ann'" in err) == (2, True)


def test_recommend_reads_ratings_as_convert_read_the_data_set_unless_its_own_options_say_otherwise(run, tmp_path):
    table = random_ratings().assign(note="x")[["item_id", "rating", "note", "user_id"]]
    table.to_csv(tmp_path / "mine.txt", sep="|", header=False, index=False)
    options = ["--sep=|", "--columns=film,points,_,viewer", "--user=viewer", "--item=film", "--rating=points"]
    status, *_ = run("convert", str(tmp_path / "mine.txt"), "--missing=NA,99", *options, f"--data_path={tmp_path}")
    assert status == 0
    described = read_yaml(tmp_path / "mine" / "mine.yaml")["convert"]
    assert described["columns"] == ["film", "points", "_", "viewer"]
    assert (described["user"], described["separator"], described["missing"]) == ("viewer", "|", ["NA", "99"])
    assert run("--model=ICDAE", "--dataset=mine", f"--data_path={tmp_path}", "--epochs=1", run.places[1])[0] == 0
    arguments = ["recommend", f"--run={made_in(tmp_path / 'runs')}", f"--output={tmp_path / 'lists.csv'}"]
    files = {"new.txt": "1|5|x|zoe\n2|99|x|zoe\n2|1|x|yan\n77|1|x|yan\n", "other.csv": "who,film,points\nann,1,5\n"}
    for (name, text), own in zip(files.items(), ([], ["--sep=,", "--columns=", "--user=who"]), strict=True):
        (tmp_path / name).write_text(text)
        status, _, err = run(*arguments, f"--ratings={tmp_path / name}", *own)
        assert status == 0
        assert ("1 items that the model does not know are dropped, the first '77'" in err) == (name == "new.txt")
        assert set(pd.read_csv(tmp_path / "lists.csv")["user"]) == ({"ann"} if own else {"zoe", "yan"})
    status, _, err = run(*arguments, f"--ratings={tmp_path / 'new.txt'}", "--users=3")
    assert (status, "1 of 1 users are unknown, the first: '3'" in err) == (2, True)


def test_recommend_leaves_no_half_file(run, finished, tmp_path, monkeypatch):
    def dies(table, path):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setitem(export.WRITERS, ".csv", dies)
    assert run("recommend", f"--run={finished}", f"--output={tmp_path / 'lists.csv'}")[0] == 130
    assert not list(tmp_path.glob("*lists*"))


def test_evaluate_and_export_print_and_write_nothing_into_the_run(run, finished, tmp_path):
    record = record_of(finished)
    before = sorted((file.name, file.stat().st_mtime_ns) for file in finished.iterdir())
    status, out, _ = run("evaluate", f"--run={finished}")
    assert (status, f"{record['test']['rmse']:.4f}" in out) == (0, True)
    assert "on the test part of noise, protocol eq23" in run("evaluate", f"--run={finished}", "--protocol=eq23")[1]
    assert run("export", f"--run={finished}", f"--output={tmp_path / 'model'}")[0] == 0
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"model.safetensors", "config.json"}
    assert sorted((file.name, file.stat().st_mtime_ns) for file in finished.iterdir()) == before
