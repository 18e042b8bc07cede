"""Write ratings of a user's own as a data set: RecBole's atomic format, with a YAML file that describes it."""

import csv
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recbole_dgrm.data.rating_scale import RatingScale, find_scale
from recbole_dgrm.data.ratings import Layout, Ratings, Reading, as_frame, no_frame, read_ratings
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.options import check, check_name
from recbole_dgrm.system.files import make_folder, plain, write_text, write_whole
from recbole_dgrm.system.yaml_files import load_yaml

LOG = logging.getLogger(__name__)
TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
WHOLE = ""  # the part of a data set that is not split
FRAMES = "data"  # folder in ``output_dir`` of the data sets that were given as DataFrames
DESCRIBED = "convert"  # key of a data set's YAML file: what was said about the files that it was made of
LAYOUT, COLUMNS = ("separator", "encoding", "columns"), ("user", "item", "rating", "timestamp")


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        files: the ``.inter`` files.
        lines: sentences: what each file holds, what was left out, the columns, the scale.
    """

    files: list[Path]
    lines: list[str]


def convert(sources: Mapping[str, Path], target: Path, name: str, reading: Reading | None = None) -> Conversion:
    """Write ``target/name/name.inter``, or a file per part of a split, and ``target/name/name.yaml``.

    Args:
        sources: part (``train``, ``valid``, ``test``) to file, or ``WHOLE`` to the only one; see ``read_ratings``.

    Raises:
        OptionError: the name is no plain one.
        DataError: a file or a column is missing, a value cannot be used, or the target exists.
    """
    reading, stem = reading or Reading(), target / check_name("name", name) / name
    paths = {part: Path(f"{stem}.{part}.inter" if part else f"{stem}.inter") for part in sources}
    for path in (*paths.values(), Path(f"{stem}.yaml")):
        if path.exists():
            raise DataError(f"{path} exists already; choose another --name or remove it")
    return write_ratings({part: read_ratings(source, reading) for part, source in sources.items()}, paths, reading)


def write_ratings(read: Mapping[str, Ratings], paths: Mapping[str, Path], reading: Reading) -> Conversion:
    """Write the checked ratings of each part to its path, and the YAML file of the data set, whole or not at all."""
    if len({tuple(ratings.table) for ratings in read.values()}) > 1:
        raise DataError("some parts have a timestamp and others have none; --timestamp= leaves it out of all")
    scale, notes = _scale(read)
    folder = next(iter(paths.values())).parent
    make_folder(folder)
    written: list[Path] = []
    try:
        for part, ratings in read.items():
            write_whole(paths[part], partial(write_atomic, ratings.table))
            written.append(paths[part])
        more: dict[str, Any] = {"benchmark_filename": list(read)} if WHOLE not in read else {}
        if said := as_yaml(reading):
            more[DESCRIBED] = said
        names = ", ".join(Path(ratings.source).name for ratings in read.values())
        write_description(folder / f"{folder.name}.yaml", names, scale, more)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    first = next(iter(read.values()))
    lines = [f"{paths[part].name}: {ratings.sentence()}" for part, ratings in read.items()]
    lines.append("columns: " + ", ".join(f"{field} from {column!r}" for field, column in first.columns.items()))
    if first.others:
        lines.append(f"columns that are left out: {', '.join(map(repr, first.others))}")
    return Conversion(written, [*lines, *notes])


def _scale(read: Mapping[str, Ratings]) -> tuple[RatingScale, list[str]]:
    """The scale of all ratings, and sentences about it for the user."""
    rating = pd.concat([ratings.table["rating"] for ratings in read.values()], keys=read)

    def place(row: int) -> str:
        part, number = rating.index[row]
        return f"{read[part].table.index.name} {number} of {read[part].source}"

    where = " and ".join(ratings.source for ratings in read.values())
    notes: list[str] = []
    try:
        scale = find_scale(rating.to_numpy(), None, None, None, place, notes.append)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return scale, notes if scale.step is None else [f"{notes[0]}, in steps of {scale.step:g}", *notes[1:]]


def write_atomic(ratings: pd.DataFrame, path: Path, append: bool = False) -> None:
    """Write a table in RecBole's atomic format, or append its rows to such a file."""
    header = False if append else [f"{field}:{TYPES[field]}" for field in ratings]
    # quotation marks of ids stay as they are: between tabs nothing is quoted
    ratings.to_csv(path, sep="\t", index=False, header=header, mode="a" if append else "w", quoting=csv.QUOTE_NONE)


def write_description(path: Path, names: str, scale: RatingScale, more: Mapping[str, Any]) -> None:
    """Write the YAML file of a data set whose ratings have this ``scale``."""
    content = {"rating_scale": [scale.low, scale.high]} | ({} if scale.step is None else {"rating_step": scale.step})
    note = f"# Taken from {names}; correct the scale if not every rating occurs in it.\n"
    write_text(path, note + yaml.safe_dump(plain({**more, **content}), default_flow_style=None, sort_keys=False))


def as_yaml(reading: Reading) -> dict[str, Any]:
    """What was said about the files, for the key ``convert`` of the data set's YAML file."""
    said = {field.removesuffix("_id"): column for field, column in reading.columns.items()}
    said |= {name: value for name in LAYOUT if (value := getattr(reading.layout, name)) != getattr(Layout, name)}
    return said | ({"missing": list(reading.missing)} if reading.missing else {})


def described(path: Path) -> Reading:
    """What was said about the files that a data set was made of: the key ``convert`` of its YAML file.

    Raises:
        OptionError: the key has another form.
    """
    content = load_yaml(path.read_text(encoding="utf-8")) if path.is_file() else None
    said = check(f"{path}: {DESCRIBED}", (content or {}).get(DESCRIBED, {}), dict[str, str | list[str]])
    lists = {name: tuple(said.get(name, ())) for name in ("columns", "missing")}
    layout = {name: said[name] for name in LAYOUT[:2] if name in said} | {"columns": lists["columns"]}
    columns = {name if name in TYPES else f"{name}_id": said[name] for name in COLUMNS if name in said}
    return Reading({}, Layout(**layout), lists["missing"], columns)


def as_dataset(data: Any, output_dir: Path | str | None) -> tuple[str, dict[str, str]]:
    """The name of a data set and the keys that say where it lies, after a DataFrame is written as one.

    Equal ratings have one data set: its name is made of them.

    Raises:
        DataError: ``data`` is neither a name nor a DataFrame, or its ratings cannot be used.
    """
    if isinstance(data, str):
        return data, {}
    if as_frame(data) is None:
        raise no_frame(data, "the name of a data set")
    ratings, data_path = read_ratings(data), Path(output_dir or "runs").resolve() / FRAMES
    rows = pd.util.hash_pandas_object(ratings.table, index=False).to_numpy()
    name = f"ratings-{hashlib.sha256(repr(list(ratings.table)).encode() + rows.tobytes()).hexdigest()[:12]}"
    if not (data_path / name / f"{name}.yaml").is_file():  # it is written last
        for line in write_ratings({WHOLE: ratings}, {WHOLE: data_path / name / f"{name}.inter"}, Reading()).lines:
            LOG.info("%s", line)
    LOG.info("the ratings of %s lie in %s", ratings.source, data_path / name)
    return name, {"data_path": str(data_path)}


def run_keys(model: str, data: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """Config keys with the model and the data set, after a DataFrame is written as one."""
    keys = {key: plain(value) for key, value in keys.items()}
    if "data_path" in keys and as_frame(data) is not None:
        raise OptionError(f"data_path={keys['data_path']} names data sets on disk; leave it out with a DataFrame")
    dataset, where = as_dataset(data, keys.get("output_dir"))
    return {**keys, "model": model, "dataset": dataset, **where}
