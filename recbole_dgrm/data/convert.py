"""Convert ratings to a data set: a file in RecBole's atomic format, and a YAML file that describes it."""

import csv
import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from recbole_dgrm.data.rating_scale import RatingScale, find_scale
from recbole_dgrm.data.ratings import Ratings, no_frame, read_ratings
from recbole_dgrm.data.tables import as_frame
from recbole_dgrm.data.text_tables import Reading
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.options import check, check_name
from recbole_dgrm.system.files import make_folder, plain, write_text, write_whole
from recbole_dgrm.system.yaml_files import load_yaml

LOG = logging.getLogger(__name__)
TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
WHOLE = ""  # the part of a data set that is not split
FRAMES = "data"  # folder in ``output_dir`` for data sets that were DataFrames
DESCRIBED = "convert"  # key of a data set's YAML file: how its source files were read
LAYOUT = ("separator", "encoding", "columns", "missing")  # attributes of ``Reading`` that are stored there


class Conversion(NamedTuple):
    """The ``.inter`` files that were written, and sentences about their contents, columns and scale."""

    files: list[Path]
    lines: list[str]


def convert(sources: Mapping[str, Path], target: Path, name: str, reading: Reading | None = None) -> Conversion:
    """Write ``target/name/name.inter``, or a file per part of a split, and ``target/name/name.yaml``.

    Args:
        sources: part (``train``, ``valid``, ``test``) to file, or ``WHOLE`` to a single file; see ``read_ratings``.

    Raises:
        OptionError: the name has characters that are not allowed.
        DataError: a file or a column is missing, a value cannot be used, or the target exists.
    """
    stem = target / check_name("name", name) / name
    paths = {part: Path(f"{stem}.{part}.inter" if part else f"{stem}.inter") for part in sources}
    for path in (*paths.values(), Path(f"{stem}.yaml")):
        if path.exists():
            raise DataError(f"{path} exists already; choose another --name or remove it")
    return write_ratings({part: read_ratings(source, reading) for part, source in sources.items()}, paths, reading)


def write_ratings(read: Mapping[str, Ratings], paths: Mapping[str, Path], reading: Reading | None = None) -> Conversion:
    """Write the checked ratings of each part to its path, and the YAML file of the data set, whole or not at all."""
    if len({tuple(ratings.table) for ratings in read.values()}) > 1:
        raise DataError("some parts have timestamps and others have none; --timestamp= leaves them out of all parts")
    scale, notes = _scale(read)
    folder = next(iter(paths.values())).parent
    make_folder(folder)
    more: dict[str, Any] = {"benchmark_filename": list(read)} if WHOLE not in read else {}
    if described := _described(reading or Reading()):
        more[DESCRIBED] = described
    try:
        for part, ratings in read.items():
            write_whole(paths[part], partial(write_atomic, ratings.table))
        names = ", ".join(Path(ratings.source).name for ratings in read.values())
        write_description(folder / f"{folder.name}.yaml", names, scale, more)
    except BaseException:
        for path in paths.values():
            path.unlink(missing_ok=True)
        raise
    first = next(iter(read.values()))
    lines = [f"{paths[part].name}: {ratings.sentence()}" for part, ratings in read.items()]
    lines.append("columns: " + ", ".join(f"{field} from {column!r}" for field, column in first.columns.items()))
    if first.others:
        lines.append(f"columns that are left out: {', '.join(map(repr, first.others))}")
    return Conversion(list(paths.values()), [*lines, *notes])


def _scale(read: Mapping[str, Ratings]) -> tuple[RatingScale, list[str]]:
    """The scale of the ratings of all parts, and sentences about it."""
    rating = pd.concat([ratings.table["rating"] for ratings in read.values()], keys=read)

    def place(row: int) -> str:
        part, number = rating.index[row]
        return f"{read[part].table.index.name} {number} of {read[part].source}"

    notes: list[str] = []
    try:
        scale = find_scale(rating.to_numpy(), None, None, None, place, notes.append)
    except DataError as error:
        raise DataError(f"{' and '.join(ratings.source for ratings in read.values())}: {error}") from None
    return scale, notes if scale.step is None else [f"{notes[0]}, in steps of {scale.step:g}", *notes[1:]]


def write_atomic(ratings: pd.DataFrame, path: Path) -> None:
    """Write a table in RecBole's atomic format."""
    header = [f"{field}:{TYPES[field]}" for field in ratings]
    # quotation marks in ids are ordinary characters in this format
    ratings.to_csv(path, sep="\t", index=False, header=header, quoting=csv.QUOTE_NONE)


def write_description(path: Path, names: str, scale: RatingScale, more: Mapping[str, Any]) -> None:
    """Write the YAML file of a data set with this ``scale``; ``names`` are those of its source files."""
    content = {"rating_scale": [scale.low, scale.high]} | ({} if scale.step is None else {"rating_step": scale.step})
    note = f"# Taken from {names}; correct the scale if not every rating occurs in it.\n"
    write_text(path, note + yaml.safe_dump(plain({**more, **content}), default_flow_style=None, sort_keys=False))


def _described(reading: Reading) -> dict[str, Any]:
    """The settings of ``reading`` that are not defaults, for the key ``convert`` of the data set's YAML file."""
    layout = {name: value for name in LAYOUT if (value := getattr(reading, name)) != getattr(Reading, name)}
    return {**{field.removesuffix("_id"): column for field, column in reading.fields.items()}, **plain(layout)}


def described(path: Path) -> Reading:
    """How the source files of a data set were read: the key ``convert`` of its YAML file."""
    content = load_yaml(path.read_text(encoding="utf-8")) if path.is_file() else None
    stored = check(f"{path}: {DESCRIBED}", (content or {}).get(DESCRIBED, {}), dict[str, str | list[str]])
    layout: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items() if name in LAYOUT
    }
    fields = {name: stored[short] for name in TYPES if (short := name.removesuffix("_id")) in stored}
    return Reading(usual=fields, **layout)


def as_dataset(data: Any, output_dir: Path | str | None) -> tuple[str, dict[str, str]]:
    """The name of a data set and the keys for its folder; a DataFrame is first written as a data set.

    The name of a written data set is a hash of its ratings, so equal ratings are written once.
    """
    if isinstance(data, str):
        return data, {}
    if as_frame(data) is None:
        raise no_frame(data, "the name of a data set")
    ratings, data_path = read_ratings(data), Path(output_dir or "runs").resolve() / FRAMES
    rows = pd.util.hash_pandas_object(ratings.table, index=False).to_numpy()
    name = f"ratings-{hashlib.sha256(repr(list(ratings.table)).encode() + rows.tobytes()).hexdigest()[:12]}"
    if not (data_path / name / f"{name}.yaml").is_file():  # it is written last
        for line in write_ratings({WHOLE: ratings}, {WHOLE: data_path / name / f"{name}.inter"}).lines:
            LOG.info("%s", line)
    LOG.info("the ratings of %s are in %s", ratings.source, data_path / name)
    return name, {"data_path": str(data_path)}


def run_keys(model: str, data: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """``keys`` with the keys of the model and the data set; a DataFrame is first written as a data set."""
    keys = {key: plain(value) for key, value in keys.items()}
    if "data_path" in keys and as_frame(data) is not None:
        raise OptionError(f"data_path={keys['data_path']} names data sets on disk; leave it out with a DataFrame")
    dataset, where = as_dataset(data, keys.get("output_dir"))
    return {**keys, "model": model, "dataset": dataset, **where}
