"""Find the files of a data set in RecBole's atomic format, and compare the config with their first lines."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recbole_dgrm.data.intervals import check_intervals
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.options import check_known

NUMBERS, TEXTS = "float", "token"
FILTER = "val_interval"


def source_files(config: Any, with_test: bool = True) -> list[Path]:
    """The ``.inter`` files of the data set of ``config``; ``with_test``, also a test part that is a file of its own."""
    folder, name, parts = Path(config["data_path"]), config["dataset"], config.run.benchmark_filename
    if parts is None:
        return [folder / f"{name}.inter"]
    return [folder / f"{name}.{part}.inter" for part in (parts if with_test else parts[:-1])]


def source_hash(config: Any, with_test: bool = True) -> str:
    """Hash of the bytes of all files of the data set: ratings, users, items and its YAML file.

    Args:
        with_test: see ``source_files``.

    Raises:
        DataError: a file of ratings cannot be read.
    """
    digest = hashlib.sha256()
    others = _side_files(config, "yaml").values()
    for path in [*source_files(config, with_test), *others]:
        if path in others:
            digest.update(path.suffix.encode())
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"the data file {path} cannot be read: {error.strerror}; put it back") from error
    return digest.hexdigest()[:16]


def check_source(config: Any, with_test: bool = True) -> None:
    """Check that the files exist, and that their first lines have every column that the config needs or names.

    Args:
        with_test: see ``source_files``.

    Raises:
        DataError: what is missing and where it belongs.
        OptionError: key, column and remedy.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}; put the ratings into {folder}/{name}.inter (recbole-dgrm convert makes it "
            "from a table, recbole-dgrm download fetches well-known ones) or say where they are: "
            f"--data_path=DIR with DIR/{name}/{name}.inter"
        )
    needed = {config["USER_ID_FIELD"]: TEXTS, config["ITEM_ID_FIELD"]: TEXTS}
    if config.run.feedback == "rating":
        needed[config["RATING_FIELD"]] = NUMBERS
    for path in source_files(config, with_test):
        if not path.is_file():
            raise DataError(f"{path} does not exist; RecBole's atomic format wants the ratings there")
        header = typed_columns(path, config)
        for column, kind in needed.items():
            if header.get(column) != kind:
                raise DataError(
                    f"{path} has no column {column}:{kind}; its first line must name columns as name:type, separated "
                    f"by {config['field_separator']!r}, and names {', '.join(header) or 'none'}; other names are set "
                    "with USER_ID_FIELD, ITEM_ID_FIELD, RATING_FIELD"
                )
        _check_columns(config, header)


def typed_columns(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The columns that the first line of an atomic file names, with their types.

    Raises:
        DataError: it is no text, or a name occurs twice.
    """
    try:
        with open(path, encoding=config["encoding"]) as lines:
            first = lines.readline().rstrip("\r\n")
    except (UnicodeError, LookupError) as error:
        remedy = "save it in UTF-8, or say --encoding=latin-1, cp1252, ..."
        raise DataError(f"{path} cannot be read as text in {config['encoding']}: {error}; {remedy}") from None
    pairs = [name.rpartition(":")[::2] for name in first.split(config["field_separator"]) if ":" in name]
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path} has {names.count(twice)} columns {twice!r}; rename all but one of them")
    return dict(pairs)


def _check_columns(config: Mapping[str, Any], header: Mapping[str, str]) -> None:
    """Check that every column that the config names exists, is loaded, and has a suitable type."""
    sides = {suffix: typed_columns(path, config) for suffix, path in _side_files(config).items()}
    files = {"inter": dict(header), **sides}
    kinds = {name: kind for columns in files.values() for name, kind in columns.items()}
    for key, name in _named(config):
        check_known(f"{key}: there is no column", [name], kinds)
        if not any(name in columns and _is_loaded(config, suffix, name) for suffix, columns in files.items()):
            raise OptionError(f"{key}: the column {name!r} is not loaded; name it in load_col, too")
        if key.startswith("alias") and not kinds[name].startswith(TEXTS):
            raise OptionError(f"{key}: {name} is a column of numbers, not of ids; leave it out")
    for name, value in (config[FILTER] or {}).items():
        if kinds[name] == NUMBERS:
            check_intervals(f"{FILTER}: {name}", value)
        elif not (kinds[name] == TEXTS and isinstance(value, list) and all(isinstance(text, str) for text in value)):
            said = f"must list the texts that stay, in quotes: ['1', '2']; it is a column of type {kinds[name]}"
            raise OptionError(f"{FILTER}: {name}={value!r} {said}")
    time = config["TIME_FIELD"]
    if config["eval_args"]["order"] == "TO" and header.get(time) != NUMBERS:
        found = f"{time}:float (TIME_FIELD), and the data has {', '.join(header)} only"
        raise OptionError(f"eval_args: order=TO needs the column {found}; say order: RO")


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The columns that must exist, each with the key that names it."""
    standard = [config[f"{role}_FIELD"] for role in ("USER_ID", "ITEM_ID", "RATING", "TIME")]
    for key in ("load_col", "unused_col"):
        for suffix, names in (config[key] or {}).items():
            if names != "*" and suffix in ("inter", "user", "item"):
                yield from ((key, name) for name in names if name not in standard)
    if config["eval_args"]["mode"]["test"] == "labeled":
        yield "RATING_FIELD", config["RATING_FIELD"]
    for key in (FILTER, "seq_len", "alias_of_user_id", "alias_of_item_id"):
        yield from ((key, name) for name in config[key] or [])


def _side_files(config: Mapping[str, Any], *others: str) -> dict[str, Path]:
    """The files of users and items that RecBole reads, too, and others of the data set, by suffix, if they exist."""
    more = config["additional_feat_suffix"] or []
    more = [more] if isinstance(more, str) else more
    stem = Path(config["data_path"]) / config["dataset"]
    paths = {suffix: Path(f"{stem}.{suffix}") for suffix in ("user", "item", *more, *others)}
    for suffix in more:
        if not paths[suffix].is_file():
            raise OptionError(f"additional_feat_suffix: there is no file {paths[suffix]}; leave {suffix!r} out")
    return {suffix: path for suffix, path in paths.items() if path.is_file()}


def _is_loaded(config: Mapping[str, Any], suffix: str, name: str) -> bool:
    wanted = "*" if config["load_col"] is None else config["load_col"].get(suffix, [])
    return (wanted == "*" or name in wanted) and name not in (config["unload_col"] or {}).get(suffix, [])
