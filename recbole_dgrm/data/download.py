"""Download well-known data sets from their publishers, check their SHA-256, and write RecBole's atomic format."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_dgrm.data.convert import TYPES, write_atomic, write_description
from recbole_dgrm.data.rating_scale import find_scale
from recbole_dgrm.errors import DataError, DownloadError
from recbole_dgrm.options import check_known, read
from recbole_dgrm.start import __version__
from recbole_dgrm.system.files import make_folder, write_whole
from recbole_dgrm.system.yaml_files import load_yaml, properties_dir

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 16  # bytes
ROWS = 1_000_000  # converted at a time
BYTES = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
ON_TERMINAL = {"leave": False, "disable": None}  # of a progress bar: none is shown elsewhere


@dataclass(frozen=True)
class Source:
    """Where a data set is found and how it is read; ``properties/download.yaml`` explains the keys."""

    name: str
    file: str
    page: str
    licence: str
    mirrors: list[str]
    sha256: str
    size: int | None
    member: str | None
    separator: str
    columns: list
    header: bool


def find_source(name: str) -> Source:
    """Where to get a data set, from ``properties/download.yaml``.

    Raises:
        OptionError: there is no data set of that name.
    """
    known = load_yaml((properties_dir() / "download.yaml").read_text(encoding="utf-8"))
    check_known("a file of your own goes through recbole-dgrm convert; to download there is no data set", [name], known)
    return read(Source, {"name": name, **known[name]})


def download(source: Source, data_path: Path, file: Path | None = None) -> tuple[Path, bool]:
    """Lay a data set out as ``data_path/name/name.inter``; what is there already is left alone.

    Args:
        file: the archive, if it was fetched by hand; it stays where it is.

    Returns:
        The ``.inter`` file, and whether it is new.

    Raises:
        DownloadError: no mirror delivers the archive; what to do by hand.
        DataError: ``file`` is missing or not the archive.
    """
    path = data_path / source.name / f"{source.name}.inter"
    if path.exists():
        return path, False
    if file is not None:
        if not file.is_file():
            raise DataError(f"{file} does not exist")
        if found := _wrong_sum(file, source):
            raise DataError(f"{file} is not {source.file}: {found}; it is found on {source.page}")
        _lay_out(source, file, path)
    else:
        make_folder(data_path)
        part = data_path / f"{source.file}.part"
        _fetch(source, part)
        _lay_out(source, part, path)
        part.unlink()
    return path, True


def _fetch(source: Source, part: Path) -> None:
    """Download the archive into ``part`` from the first mirror that delivers it; a part that is there is continued."""
    if part.exists() and not _wrong_sum(part, source):  # stopped after the last byte
        return
    failures = []
    for mirror in source.mirrors:
        try:
            resumed = part.exists()
            _receive(mirror, part, source.size)
            if _wrong_sum(part, source) and resumed:  # begun by something else: once more from its first byte
                part.unlink()
                _receive(mirror, part, source.size)
            if found := _wrong_sum(part, source):
                part.unlink()
                raise OSError(found)
        except (OSError, HTTPException) as error:
            failures.append(f"  {mirror}: {error.reason if type(error) is URLError else error}")
        else:
            return
    begun = f"{part.stat().st_size:,} bytes are there, the same command goes on from them. " if part.exists() else ""
    raise DownloadError(
        f"{source.name} could not be fetched:\n" + "\n".join(failures) + f"\n{begun}By hand: get {source.file} from "
        f"{source.page} and say recbole-dgrm download {source.name} --file={source.file}"
    )


def _receive(url: str, part: Path, size: int | None) -> None:
    """Download what is missing of ``part``.

    Raises:
        OSError, HTTPException: the server cannot be reached, refuses, stops early or sends too much.
    """
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        return
    headers = {"User-Agent": f"recbole-dgrm/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if have and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # there is no more
            return
        raise
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends everything, whatever was asked
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else size
        bar = tqdm(desc=part.stem, initial=have, total=total, **BYTES, **ON_TERMINAL)
        with open(part, "ab" if have else "wb") as file, bar:
            while block := response.read(BLOCK):
                if size is not None and file.tell() + len(block) > size:
                    raise OSError(f"sends more than the {size:,} bytes of the archive")
                file.write(block)
                bar.update(len(block))
            if total is not None and file.tell() < total:
                raise OSError(f"stopped after {file.tell():,} of {total:,} bytes")


def _wrong_sum(path: Path, source: Source) -> str | None:
    """What is wrong with the checksum of a file; None if it is right."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == source.sha256 else f"its sha256 is {found}, but must be {source.sha256}"


def _lay_out(source: Source, archive: Path, path: Path) -> None:
    """Write the ``.inter`` file, and the YAML file where ``properties/dataset/`` has none."""
    make_folder(path.parent)
    levels: set[float] = set()
    try:
        write_whole(path, lambda partial: _convert(source, archive, partial, levels))
        if not (properties_dir() / "dataset" / f"{source.name}.yaml").is_file():
            scale = find_scale(np.array(sorted(levels)), None, None, None, str, lambda _: None)
            write_description(path.with_suffix(".yaml"), source.file, scale, {})
    finally:
        with suppress(OSError):  # gone only if nothing is in it: RecBole's copy of ml-100k serves where there is none
            path.parent.rmdir()


def _convert(source: Source, archive: Path, path: Path, levels: set[float]) -> None:
    """Write the atomic file piece by piece, and collect the different ratings in ``levels``."""
    wanted = {place: field for place, field in enumerate(source.columns) if field is not None}
    types = {place: str if TYPES[field] == "token" else float for place, field in wanted.items()}
    with _table(source, archive) as file:
        layout = {"sep": source.separator, "header": None, "skiprows": int(source.header)}
        pieces = pd.read_csv(file, **layout, usecols=list(wanted), dtype=types, chunksize=ROWS)
        for piece in tqdm(pieces, desc=path.parent.name, unit=" million ratings", **ON_TERMINAL):
            piece = piece.rename(columns=wanted)
            levels.update(piece["rating"].unique().tolist())
            write_atomic(piece, path, append=path.exists())


@contextmanager
def _table(source: Source, archive: Path) -> Iterator[IO[bytes]]:
    """Open the table of ratings, which is read out of the archive without unpacking it."""
    if source.member is None:
        with open(archive, "rb") as file:
            yield file
    else:
        with zipfile.ZipFile(archive) as zipped, zipped.open(source.member) as file:
            yield file
