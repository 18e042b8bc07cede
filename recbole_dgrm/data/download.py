"""Download well-known data sets from their publishers, check their SHA-256, and write them in RecBole's format."""

import hashlib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from recbole_dgrm.data.convert import write_atomic, write_description
from recbole_dgrm.data.rating_scale import find_scale
from recbole_dgrm.data.ratings import read_ratings
from recbole_dgrm.data.text_tables import Reading
from recbole_dgrm.errors import DataError, DownloadError
from recbole_dgrm.options import check_known, read
from recbole_dgrm.start import __version__
from recbole_dgrm.system.files import make_folder, write_whole
from recbole_dgrm.system.yaml_files import load_yaml, properties_dir

TIMEOUT = 30  # seconds without a byte
BLOCK = 1 << 16  # bytes
LARGEST = 1 << 30  # bytes of an archive whose size is not listed
BAR = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "leave": False, "disable": None}  # terminals only


@dataclass(frozen=True)
class Source:
    """The addresses of a data set and how to read it; ``properties/download.yaml`` explains the keys."""

    name: str
    file: str
    page: str
    licence: str
    mirrors: list[str]
    sha256: str
    size: int | None
    member: str | None
    separator: str
    columns: list[str]


def find_source(name: str) -> Source:
    """The entry of a data set in ``properties/download.yaml``."""
    known = load_yaml((properties_dir() / "download.yaml").read_text(encoding="utf-8"))
    check_known("for a file of your own use recbole-dgrm convert; there is no download of a data set", [name], known)
    return read(Source, {"name": name, **known[name]})


def download(source: Source, data_path: Path, file: Path | None = None) -> tuple[Path, bool]:
    """Write a data set to ``data_path/name/name.inter``, unless the file exists.

    Args:
        file: the archive, if it was downloaded by hand; it is only read.

    Returns:
        The ``.inter`` file, and whether it is new.

    Raises:
        DownloadError: no mirror delivers the archive; the message says what to do by hand.
        DataError: ``file`` is missing or not the archive.
    """
    path = data_path / source.name / f"{source.name}.inter"
    if path.exists():
        return path, False
    if file is not None:
        if not file.is_file():
            raise DataError(f"{file} does not exist")
        if wrong := _wrong_sum(file, source):
            raise DataError(f"{file} is not {source.file}: {wrong}; get it from {source.page}")
        _lay_out(source, file, path)
    else:
        make_folder(data_path)
        archive = data_path / f"{source.file}.part"
        if not archive.exists() or _wrong_sum(archive, source):  # it exists if writing the ratings failed before
            _fetch(source, archive)
        _lay_out(source, archive, path)
        archive.unlink()
    return path, True


def _fetch(source: Source, archive: Path) -> None:
    """Download the archive from the first mirror that delivers it."""
    failures = []
    for mirror in source.mirrors:
        try:
            _receive(mirror, archive, source.size or LARGEST)
            if wrong := _wrong_sum(archive, source):
                raise OSError(wrong)
        except (OSError, HTTPException) as error:
            archive.unlink(missing_ok=True)
            failures.append(f"  {mirror}: {error.reason if type(error) is URLError else error}")
        else:
            return
    raise DownloadError(
        f"{source.name} could not be downloaded:\n" + "\n".join(failures) + f"\nBy hand: get {source.file} from "
        f"{source.page} and run recbole-dgrm download {source.name} --file={source.file}"
    )


def _receive(url: str, path: Path, most: int) -> None:
    """Download a file; OSError or HTTPException if the server refuses, stops early or sends too much."""
    request = Request(url, headers={"User-Agent": f"recbole-dgrm/{__version__}"})
    with urlopen(request, timeout=TIMEOUT) as response, open(path, "wb") as file:
        total = response.length
        with tqdm(desc=path.stem, total=total, **BAR) as bar:
            while block := response.read(BLOCK):
                bar.update(file.write(block))
                if file.tell() > most:
                    raise OSError(f"sends more than the {most:,} bytes of the archive")
        if total is not None and file.tell() < total:
            raise OSError(f"stopped after {file.tell():,} of {total:,} bytes")


def _wrong_sum(path: Path, source: Source) -> str | None:
    """A clause about a wrong checksum of a file; None if it is right."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest == source.sha256 else f"its sha256 is {digest}, but must be {source.sha256}"


def _lay_out(source: Source, archive: Path, path: Path) -> None:
    """Write the ``.inter`` file, and the YAML file unless ``properties/dataset/`` has one."""
    make_folder(path.parent)
    reading = Reading(separator=source.separator, columns=tuple(source.columns))
    try:
        with TemporaryDirectory(dir=path.parent) as folder:
            table = archive
            if source.member is not None:
                with zipfile.ZipFile(archive) as zipped:
                    table = Path(zipped.extract(source.member, folder))
            ratings = read_ratings(table, reading).table
        write_whole(path, partial(write_atomic, ratings))
        if not (properties_dir() / "dataset" / f"{source.name}.yaml").is_file():
            scale = find_scale(ratings["rating"].to_numpy(), None, None, None, str, lambda _: None)
            write_description(path.with_suffix(".yaml"), source.file, scale, {})
    finally:
        with suppress(OSError):  # removed if it is empty, because an empty folder would hide RecBole's own ml-100k
            path.parent.rmdir()
