"""The files of a data set in RecBole's atomic format: where they are, and checks of their header lines."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.utils import FeatureType

from recbole_dgrm.data.intervals import check_interval
from recbole_dgrm.data.tables import first_line
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.options import check_known

NUMBERS, TEXTS = FeatureType.FLOAT.value, FeatureType.TOKEN.value


def source_files(config: Any, with_test: bool = True) -> list[Path]:
    """The ``.inter`` files of the data set of ``config``; without ``with_test`` the file of a test part is left out."""
    folder, name, parts = Path(config["data_path"]), config["dataset"], config.run.benchmark_filename
    if parts is None:
        return [folder / f"{name}.inter"]
    return [folder / f"{name}.{part}.inter" for part in (parts if with_test else parts[:-1])]


def source_hash(config: Any, with_test: bool = True) -> str:
    """Hash of the bytes of all files of the data set: ``source_files``, users, items and its YAML file."""
    digest, others = hashlib.sha256(), _other_files(config, "yaml").values()
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
    """Check that the files exist, and that their header lines have every column that the config needs or names.

    Raises:
        DataError: a file (see ``source_files``) or a column is missing.
        OptionError: a key names a column that does not exist or has another type.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}; put the ratings into {folder}/{name}.inter (recbole-dgrm convert makes it "
            "from a table, recbole-dgrm download fetches well-known data sets) or name their folder: "
            f"--data_path=DIR with DIR/{name}/{name}.inter"
        )
    needed = {config["USER_ID_FIELD"]: TEXTS, config["ITEM_ID_FIELD"]: TEXTS}
    if config.run.feedback == "rating" or config["eval_args"]["mode"]["test"] == "labeled":
        needed[config["RATING_FIELD"]] = NUMBERS
    for path in source_files(config, with_test):
        if not path.is_file():
            raise DataError(f"{path} does not exist; in RecBole's atomic format it has the ratings")
        kinds = column_types(path, config)
        for column, kind in needed.items():
            if kinds.get(column) != kind:
                raise DataError(
                    f"{path} has no column {column}:{kind}; its first line must name columns as name:type, separated "
                    f"by {config['field_separator']!r}, and names {', '.join(kinds) or 'none'}; other names are set "
                    "with USER_ID_FIELD, ITEM_ID_FIELD, RATING_FIELD"
                )
        _check_columns(config, kinds)


def column_types(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The columns in the header line of an atomic file, with their types; no name may occur twice."""
    first = first_line(path, config["encoding"])
    pairs = [name.rpartition(":")[::2] for name in first.split(config["field_separator"]) if ":" in name]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path} has {names.count(name)} columns {name!r}; rename all but one of them")
    return dict(pairs)


def _check_columns(config: Mapping[str, Any], inter: Mapping[str, str]) -> None:
    """Check that filters fit the columns of the files, and that there is a column of times if the split needs it."""
    kinds = dict(inter)
    for path in _other_files(config).values():
        kinds |= column_types(path, config)
    check_known("val_interval: there is no column", config["val_interval"] or {}, kinds)
    for name, value in (config["val_interval"] or {}).items():
        if kinds[name] == NUMBERS:
            check_interval(f"val_interval: {name}", value)
        elif not (kinds[name] == TEXTS and isinstance(value, list) and all(isinstance(text, str) for text in value)):
            form = f"list the texts to keep, in quotes: ['1', '2']; the type of the column is {kinds[name]}"
            raise OptionError(f"val_interval: {name}={value!r} must {form}")
    time = config["TIME_FIELD"]
    if config["eval_args"]["order"] == "TO" and inter.get(time) != NUMBERS:
        columns = f"the column {time}:float (TIME_FIELD), and the data has only {', '.join(inter)}"
        raise OptionError(f"eval_args: order=TO needs {columns}; set order: RO")


def _other_files(config: Mapping[str, Any], *others: str) -> dict[str, Path]:
    """The existing files of users and items and those with other suffixes, which RecBole also reads, by suffix."""
    more = config["additional_feat_suffix"] or []
    stem = Path(config["data_path"]) / config["dataset"]
    suffixes = ["user", "item", *([more] if isinstance(more, str) else more), *others]
    paths = {suffix: Path(f"{stem}.{suffix}") for suffix in suffixes}
    return {suffix: path for suffix, path in paths.items() if path.is_file()}
