"""Ratings in a DataFrame, written as a data set."""

import hashlib
import logging
from pathlib import Path
from typing import Any

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


def run_keys(model: str, data: str | pd.DataFrame, keys: dict[str, Any]) -> dict[str, Any]:
    """Config keys with the model and the data set, after a DataFrame is written as one."""
    keys = {key: plain(value) for key, value in keys.items()}
    if not isinstance(data, pd.DataFrame):
        return {**keys, "model": model, "dataset": data}
    if "data_path" in keys:
        raise OptionError(f"data_path={keys['data_path']} names data sets on disk; leave it out with a DataFrame")
    data_path = Path(keys.get("output_dir") or "runs").resolve() / FRAMES
    return {**keys, "model": model, "dataset": write_frame(data, data_path), "data_path": str(data_path)}
