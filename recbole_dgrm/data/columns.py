"""Check what a config says about columns against the first lines of the files, which are all that is read here."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from recbole_dgrm.data.intervals import check_intervals
from recbole_dgrm.errors import DataError, OptionError

NUMBERS, TEXTS = "float", "token"
FILTER = "val_interval"


def check_columns(config: Mapping[str, Any], header: Mapping[str, str]) -> None:
    """Check that every column that the config names exists, is loaded, and has a suitable type.

    Args:
        config: of the run.
        header: name to type of the columns of its ``.inter`` file.

    Raises:
        OptionError: key, column and remedy.
    """
    files = {"inter": dict(header), **_side_files(config)}
    there = {name: kind for columns in files.values() for name, kind in columns.items()}
    loaded = {name for suffix, columns in files.items() for name in _loaded(config, suffix, columns)}
    for key, name in _named(config):
        if name not in there:
            near = get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}"
            raise OptionError(f"{key}: there is no column {name!r}; {hint}")
        if name not in loaded:
            raise OptionError(f"{key}: the column {name!r} is not loaded; name it in load_col, too")
    for name, value in (config[FILTER] or {}).items():
        _check_filter(name, value, there[name])
    for key in ("alias_of_user_id", "alias_of_item_id"):
        if numbers := [name for name in config[key] or [] if not there[name].startswith(TEXTS)]:
            raise OptionError(f"{key}: {', '.join(numbers)} is a column of numbers, not of ids; leave it out")
    for suffix, names in (config["unused_col"] or {}).items():
        if suffix not in files:
            raise OptionError(f"unused_col: {suffix}={names}, but there is no .{suffix} file; leave it out")
    time = config["TIME_FIELD"]
    if config["eval_args"]["order"] == "TO" and header.get(time) != NUMBERS:
        found = f"{time}:float (TIME_FIELD), and the data has {', '.join(header)} only"
        raise OptionError(f"eval_args: order=TO needs the column {found}; say order: RO")


def typed_columns(path: Path, first: str, separator: str) -> dict[str, str]:
    """The columns that the ``first`` line of an atomic file names, with their types.

    Raises:
        DataError: a name stands there twice.
    """
    pairs = [name.rpartition(":")[::2] for name in first.split(separator) if ":" in name]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path} has {names.count(twice)} columns {twice!r}; rename all but one of them")
    return dict(pairs)


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The columns that must exist, each with the key that names it."""
    standard = [config[f"{role}_FIELD"] for role in ("USER_ID", "ITEM_ID", "RATING", "TIME")]
    yield from (("side_features", name) for name in _side_features(config))
    for suffix, names in (config["load_col"] or {}).items():
        if names != "*" and suffix in ("inter", "user", "item"):
            yield from (("load_col", name) for name in names if name not in standard)
    if config["eval_args"]["mode"]["test"] == "labeled":
        yield "RATING_FIELD", config["RATING_FIELD"]
    for key in (FILTER, "seq_len", "alias_of_user_id", "alias_of_item_id"):
        yield from ((key, name) for name in config[key] or [])
    for names in (config["unused_col"] or {}).values():
        yield from (("unused_col", name) for name in names if name not in standard)


def _side_features(config: Mapping[str, Any]) -> list[str]:
    return config["side_features"] or [] if "side_features" in config else []


def _side_files(config: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The columns of the files of users and items that RecBole reads beside the ratings."""
    more = config["additional_feat_suffix"] or []
    more = [more] if isinstance(more, str) else more
    stem, found = str(Path(config["data_path"]) / config["dataset"]), {}
    for suffix in ("user", "item", *more):
        path = Path(f"{stem}.{suffix}")
        if path.is_file():
            with open(path, encoding=config["encoding"], errors="replace") as lines:
                first = lines.readline().rstrip("\r\n")
            found[suffix] = typed_columns(path, first, config["field_separator"])
        elif suffix in more:
            raise OptionError(f"additional_feat_suffix: there is no file {path}; leave {suffix!r} out")
    return found


def _loaded(config: Mapping[str, Any], suffix: str, columns: Mapping[str, str]) -> set[str]:
    without = set((config["unload_col"] or {}).get(suffix, []))
    wanted = "*" if config["load_col"] is None else config["load_col"].get(suffix, [])
    return {name for name in columns if (wanted == "*" or name in wanted) and name not in without}


def _check_filter(name: str, value: Any, kind: str) -> None:
    """Check a filter: intervals for a column of numbers, a list of the texts to keep for a column of texts."""
    if kind == NUMBERS:
        check_intervals(f"{FILTER}: {name}", value)
    elif kind != TEXTS:
        raise OptionError(f"{FILTER}: {name!r} is a column of type {kind}; filters go by {NUMBERS} or {TEXTS}")
    elif not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
        said = f"must list the texts that stay, in quotes: ['1', '2']; it is a column of type {TEXTS}"
        raise OptionError(f"{FILTER}: {name}={value!r} {said}")
