"""Ratings in a DataFrame, written as a data set."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import pandas as pd

from recbole_dgrm.data.convert import WHOLE, convert
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.system.files import plain

LOG = logging.getLogger(__name__)
FRAMES = "data"  # folder in ``output_dir`` of the data sets that were given as DataFrames
SOURCE = Path("the DataFrame")  # what errors and the description call it


def write_frame(frame: pd.DataFrame, data_path: Path) -> str:
    """Write a DataFrame of ratings as a data set below ``data_path``, with the checks of ``convert``.

    Equal frames have one data set: its name is made of their content.

    Args:
        frame: user, item, rating and perhaps timestamp, in columns of these or other usual names.

    Returns:
        The name of the data set.

    Raises:
        DataError: a column is missing, or a value cannot be used.
    """
    try:
        rows = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    except TypeError as error:
        raise DataError(f"{SOURCE} holds values that are neither texts nor numbers ({error}); convert them") from error
    content = [list(map(str, frame.columns)), list(map(str, frame.dtypes))]
    name = f"ratings-{hashlib.sha256(repr(content).encode() + rows.tobytes()).hexdigest()[:12]}"
    folder = data_path / name
    if not (folder / f"{name}.yaml").is_file():  # it is written last
        for line in convert({WHOLE: SOURCE}, data_path, name, frame=frame).lines:
            LOG.info("%s", line)
    LOG.info("the ratings of %s lie in %s", SOURCE, folder)
    return name


def as_pandas(data: Any) -> pd.DataFrame | None:
    """A DataFrame of pandas, of polars or of another library that narwhals knows, as one of pandas; None for others."""
    if isinstance(data, pd.DataFrame):
        return data
    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        return None
    return pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns})  # to_pandas of polars needs pyarrow


def as_dataset(data: Any, output_dir: Path | str | None) -> tuple[Any, dict[str, str]]:
    """The name of a data set and the keys that say where it lies, after a DataFrame is written as one."""
    frame = as_pandas(data)
    if frame is None:
        return data, {}
    data_path = Path(output_dir or "runs").resolve() / FRAMES
    return write_frame(frame, data_path), {"data_path": str(data_path)}


def run_keys(model: str, data: Any, keys: dict[str, Any]) -> dict[str, Any]:
    """Config keys with the model and the data set, after a DataFrame is written as one."""
    keys = {key: plain(value) for key, value in keys.items()}
    if "data_path" in keys and as_pandas(data) is not None:
        raise OptionError(f"data_path={keys['data_path']} names data sets on disk; leave it out with a DataFrame")
    dataset, where = as_dataset(data, keys.get("output_dir"))
    return {**keys, "model": model, "dataset": dataset, **where}
