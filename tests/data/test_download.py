"""Downloads from a server of the test's own: cuts, wrong bytes, mirrors, archives fetched by hand."""

import hashlib
import io
import re
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

import pandas as pd
import pytest

from recbole_dgrm.cli import main
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import download as module
from recbole_dgrm.data import text_tables
from recbole_dgrm.data.download import Source, download, find_source
from recbole_dgrm.errors import DataError, DownloadError, OptionError
from recbole_dgrm.system.yaml_files import properties_dir

ROWS = "1::10::5::100\n1::20::3.5::200\n2::10::1::300\n" * 400
EXPECTED = pd.read_csv(io.StringIO(ROWS), sep=":", header=None, usecols=[0, 2, 4, 6]).to_numpy()


def zipped(text: str = ROWS) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("set/ratings.dat"), text)
    return buffer.getvalue()


@dataclass
class Site:
    """A server that sends ``content``, or by the path of the request something else; and what it was asked for."""

    content: bytes
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        if handler.path == "/forbidden":
            return handler.send_error(403)
        content = b"not the archive" if handler.path == "/wrong" else self.content
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: 1000 if handler.path == "/cut" else None])
        return None


@pytest.fixture
def site():
    """A server; every request is noted."""
    state = Site(zipped())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def source(site):
    """``source(*paths, **changes)``: a data set called mine with these mirrors."""

    def make(*paths: str, **changes) -> Source:
        known = Source(
            "mine",
            "mine.zip",
            "https://example.org/mine",
            "free",
            [site.url + path for path in paths],
            hashlib.sha256(site.content).hexdigest(),
            len(site.content),
            "set/ratings.dat",
            "::",
            ["user", "item", "rating", "timestamp"],
        )
        return replace(known, **changes)

    return make


def written(folder):
    """All files below ``folder``, as text."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_download_becomes_an_atomic_file_and_what_is_there_is_left_alone(source, site, tmp_path):
    path, is_new = download(source("/good"), tmp_path)
    assert is_new
    assert written(tmp_path) == ["mine/mine.inter", "mine/mine.yaml"]
    table = pd.read_csv(path, sep="\t")
    assert list(table) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    assert (table.to_numpy() == EXPECTED).all()
    assert read_yaml(tmp_path / "mine" / "mine.yaml") == {"rating_scale": [1.0, 5.0]}
    path.write_text("mine")
    assert download(source("/good"), tmp_path) == (path, False)
    assert path.read_text() == "mine"
    assert site.asked == ["/good"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/cut", "stopped after 1,000 of "),
        ("/wrong", rf"its sha256 is {hashlib.sha256(b'not the archive').hexdigest()}, but must be \w+"),
        ("/forbidden", "HTTP Error 403: Forbidden"),
    ],
)
def test_a_mirror_that_fails_is_named_and_the_next_one_is_asked(source, site, tmp_path, path, said):
    with pytest.raises(DownloadError, match=f"{site.url}{path}: {said}"):
        download(source(path), tmp_path)
    assert written(tmp_path) == []
    download(source(path, "/good"), tmp_path)
    assert site.asked == [path, path, "/good"]
    assert written(tmp_path) == ["mine/mine.inter", "mine/mine.yaml"]


def test_a_server_that_sends_too_much_is_stopped(source, tmp_path):
    with pytest.raises(DownloadError, match="sends more than the 100 bytes"):
        download(source("/good", size=100), tmp_path)


def test_without_network_every_mirror_and_the_way_by_hand_are_said(source, site, tmp_path):
    closed = "http://127.0.0.1:9/mine.zip"
    with pytest.raises(DownloadError) as said:
        download(source("/forbidden", mirrors=[closed, f"{site.url}/forbidden"]), tmp_path)
    assert re.search(rf"{closed}: .*refused", str(said.value))
    assert "/forbidden: HTTP Error 403: Forbidden" in str(said.value)
    assert "get mine.zip from https://example.org/mine and run recbole-dgrm download mine --file=mine.zip" in str(
        said.value
    )
    assert written(tmp_path) == []


def test_an_archive_fetched_by_hand_serves_and_stays_and_a_wrong_or_missing_one_is_refused(source, site, tmp_path):
    archive = tmp_path / "by_hand.zip"
    for content, said in [
        (None, r"by_hand.zip does not exist"),
        (b"wrong", r"by_hand.zip is not mine.zip: its sha256"),
    ]:
        if content:
            archive.write_bytes(content)
        with pytest.raises(DataError, match=said):
            download(source(), tmp_path / "data", archive)
    assert not (tmp_path / "data").exists()
    archive.write_bytes(site.content)
    download(source(), tmp_path / "data", archive)
    assert written(tmp_path / "data") == ["mine/mine.inter", "mine/mine.yaml"]
    assert archive.exists()


def test_a_plain_table_with_a_header_needs_no_archive(source, site, tmp_path):
    site.content = b"user,item,rating\nann,x,1\nbob,y,2\n"
    path, _ = download(source("/good", member=None, separator=",", columns=[], size=None), tmp_path)
    assert path.read_text() == "user_id:token\titem_id:token\trating:float\nann\tx\t1.0\nbob\ty\t2.0\n"


def test_a_failed_conversion_leaves_no_folder_and_keeps_what_was_fetched(source, site, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(module, "write_atomic", Mock(side_effect=OSError("No space left on device")))
        with pytest.raises(OSError, match="No space"):
            download(source("/good"), tmp_path)
    assert written(tmp_path) == ["mine.zip.part"]
    assert not (tmp_path / "mine").exists()  # RecBole's copy of ml-100k serves where there is no folder
    download(source("/good"), tmp_path)
    assert site.asked == ["/good"]  # a whole part needs no network


def test_every_listed_source_is_whole_and_named_by_the_help(capsys):
    with pytest.raises(SystemExit):
        main.main(["download", "--help"])
    helped = capsys.readouterr().out
    for name in read_yaml(properties_dir() / "download.yaml"):
        assert name in helped
        known = find_source(name)
        assert re.fullmatch(r"[0-9a-f]{64}", known.sha256)
        assert all(mirror.startswith(("https://", "http://")) for mirror in known.mirrors)
        assert not known.columns or {"user", "item", "rating"} <= set(known.columns)
        assert known.separator in text_tables.SEPARATORS


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(OptionError, match=r"use .* convert; .* a data set 'ml-10k'; did you mean 'ml-100k'"):
        find_source("ml-10k")
    with pytest.raises(OptionError, match=r"a data set 'mine'; one of .*ml-100k, ml-10m, ml-1m"):
        find_source("mine")


def test_the_command_says_what_it_did_and_what_comes_next(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_source", lambda name: source("/good"))
    assert main.main(["download", "mine", f"--data_path={tmp_path}"]) == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert f"{tmp_path}/mine/mine.inter is written" in out
    assert "licence: free (https://example.org/mine)" in out
    assert f"--dataset=mine --data_path={tmp_path}" in out
    assert main.main(["download", "mine", f"--data_path={tmp_path}"]) == 0
    assert "exists already" in capsys.readouterr().out
