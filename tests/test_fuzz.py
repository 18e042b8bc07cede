"""Arbitrary input: it works or is refused with a sentence; nothing else is raised, and nothing is ever run."""

import json
import os
import string
from contextlib import suppress
from copy import deepcopy

import pandas as pd
import pytest
import yaml
from helpers import random_ratings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recbole_dgrm.config.layers import RECBOLE_PROPERTIES, load_config, parse_value, properties_dir, read_yaml
from recbole_dgrm.data.convert import WHOLE, convert
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError, UserError

few = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
HEADER = "user_id:token\titem_id:token\trating:float"
CELLS = st.sampled_from(
    ["", "1", "2", "u", "nan", "NA", "inf", "-1e308", "1e999", "5", '"', "'", "\0", " ", "é", "9" * 400]
)
CELLS |= st.text(max_size=5)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
MODELS = st.sampled_from(["DGRM", "BPR"])
FILES_OF_KEYS = [
    properties_dir() / "overall.yaml",
    properties_dir() / "model" / "DGRM.yaml",
    RECBOLE_PROPERTIES / "overall.yaml",
]
KEYS = sorted({key for path in FILES_OF_KEYS for key in read_yaml(path)} | {"model", "dataset", "split_rounding"})


def plain_config(folder, **overrides):
    """The config of a run on ``folder/mine``."""
    return load_config(config_dict={"model": "MF", "dataset": "mine", "data_path": str(folder), **overrides})


def builds(config):
    """Whether the data set of ``config`` can be used; what is wrong with it must be said."""
    try:
        build_splits(deepcopy(config))
    except UserError:
        return False
    return True


@pytest.fixture
def folder(tmp_path):
    """A ``data_path`` with the folder of a data set called mine."""
    (tmp_path / "mine").mkdir()
    return tmp_path


@pytest.fixture
def config(folder):
    """What reads ``folder/mine/mine.inter``."""
    return plain_config(folder)


@few
@given(st.binary(max_size=200))
def test_any_bytes_as_a_data_set(folder, config, content):
    (folder / "mine" / "mine.inter").write_bytes(content)
    assert not builds(config)


@few
@given(st.binary(max_size=60))
@example(b"\xff")
@example(b"1\t2\t3\n\0\t\t")
@example(b'"')
def test_any_bytes_below_a_header(folder, config, content):
    (folder / "mine" / "mine.inter").write_bytes(HEADER.encode() + b"\n" + content)
    builds(config)


@few
@given(ROWS)
@example([["1", "2", "3", "9"]] * 9)
@example([["1", "2", "-1e308"], ["1", "3", "1e308"]])
@example([["1", "2", "3"], ["1", '"']])
def test_any_rows_below_a_header(folder, config, rows):
    text = "\n".join([HEADER, *("\t".join(row) for row in rows)])
    (folder / "mine" / "mine.inter").write_text(text, encoding="utf-8", errors="surrogatepass")
    builds(config)


@few
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 2), CELLS), max_size=5), st.sampled_from(["rated", "full"])
)
def test_odd_cells_in_a_good_table(folder, cells, protocol):
    table = random_ratings(10, 20).astype(int).astype(object)
    for row, column, cell in cells:
        table.iat[row % len(table), column] = cell
    lines = "\n".join("\t".join(map(str, row)) for row in table.itertuples(index=False))
    (folder / "mine" / "mine.inter").write_text(f"{HEADER}\n{lines}\n", encoding="utf-8", errors="surrogatepass")
    builds(plain_config(folder, protocol=protocol))


@few
@given(st.lists(st.text("user_idtemrating:floatk\t \n", max_size=20), max_size=4))
@example(["user_id:token\tuser_id:token", "1\t2"])
def test_any_header(folder, config, words):
    header = "\t".join([HEADER, *words])
    (folder / "mine" / "mine.inter").write_text(f"{header}\n1\t2\t3\n1\t3\t4\n")
    builds(config)


def converts(config, folder, file, content: bytes):
    """What is refused leaves nothing; what converts can be read, or is too little for a split, and that is said."""
    for old in (folder / "mine").glob("*"):
        old.unlink()
    (folder / file).write_bytes(content)
    try:
        convert({WHOLE: folder / file}, folder, "mine")
    except UserError:
        assert not list((folder / "mine").glob("*"))
    else:
        builds(config)


FILES = ["a.csv", "a.json", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.zip", "a.xz", "a.tar"]


@few
@given(st.binary(max_size=80), st.sampled_from(FILES))
def test_any_bytes_through_convert(config, folder, content, file):
    converts(config, folder, file, content)


@few
@given(ROWS, st.sampled_from(list(",;\t|")))
def test_any_csv_through_convert(config, folder, rows, separator):
    lines = [separator.join(row) for row in [["user", "item", "rating", "time"], *rows]]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    converts(config, folder, "a.csv", content)


JSON_ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(["user", "item", "rating", "time"], VALUES))


@few
@given(st.lists(JSON_ROW, max_size=6))
@example([{"user": 10**300, "item": 2**70, "rating": 10**400}])
@example([{"user": 1e20, "item": -0.0, "rating": 1e308}] * 2)
def test_any_json_lines_through_convert(config, folder, rows):
    converts(config, folder, "a.jsonl", "\n".join(map(json.dumps, rows)).encode())


@few
@given(st.lists(st.tuples(SCALARS, SCALARS, SCALARS, SCALARS), min_size=1, max_size=6))
def test_any_parquet_through_convert(config, folder, rows):
    table = pd.DataFrame(rows, columns=["user", "item", "rating", "time"])
    try:
        table.to_parquet(folder / "b.parquet")
    except Exception:  # columns of mixed types are none of Parquet
        return
    converts(config, folder, "a.parquet", (folder / "b.parquet").read_bytes())


@few
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8) | st.integers(), VALUES, max_size=3), MODELS)
@example({"data_path": 5}, "MF")
@example({"metrics": 3}, "BPR")
@example({"load_col": 5}, "MF")
@example({5: 5}, "MF")
def test_any_keys_and_values(overrides, model):
    with suppress(UserError):
        load_config(config_dict={"model": model, "dataset": "ml-100k", **overrides})


@few
@given(st.text(max_size=30) | st.text(string.punctuation + "0123456789truenlxo \n", max_size=12))
@example("!!bool x")
@example("2001-99-99")
@example("!!timestamp x")
@example("!!int ''")
@example("{[1]: 2}")
@example("&a [*a]")
@example("[" * 5000)
@example("0b")
@example("1e999999999")
def test_any_value_on_the_command_line(text):
    with suppress(UserError):
        line = {"topk": parse_value(text)}
        load_config(config_dict={"model": "MF", "dataset": "ml-100k"}, command_line=line)


@few
@given(st.binary(max_size=60))
@example(b"\xff\xfe")
@example(b"5: 5")
@example(b"model: \0")
def test_any_config_file(tmp_path, content):
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    with suppress(UserError):
        load_config([path], {"model": "MF", "dataset": "ml-100k"})


ATTACKS = [
    "!!python/object/apply:os.system ['touch MARK']",
    "!!python/object/new:os.system ['touch MARK']",
    "!!python/name:os.system",
    "!!python/module:os",
    "{x: !!python/object/apply:os.system ['touch MARK']}",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_yaml_that_would_run_code_is_refused(tmp_path, attack):
    attack = attack.replace("MARK", str(tmp_path / "mark"))
    with pytest.raises(OptionError, match="is not a YAML value"):
        parse_value(attack)
    (tmp_path / "x.yaml").write_text(f"wandb_project: {attack}\n")
    with pytest.raises(OptionError, match="not valid YAML"):
        read_yaml(tmp_path / "x.yaml")
    assert not (tmp_path / "mark").exists()


def test_python_on_the_command_line_stays_text(tmp_path):
    attack = f"__import__('os').system('touch {tmp_path / 'mark'}')"
    value = parse_value(attack)
    assert value == attack
    config = load_config(config_dict={"model": "MF", "dataset": "ml-100k"}, command_line={"wandb_project": value})
    assert config["wandb_project"] == attack
    for key in ("epochs", "eval_args", "metrics", "dataset"):
        with pytest.raises(UserError):
            load_config(config_dict={"model": "BPR", "dataset": "ml-100k"}, command_line={key: value})
    assert os.listdir(tmp_path) == []
    assert yaml.safe_load(yaml.safe_dump(config.given))["wandb_project"] == attack
