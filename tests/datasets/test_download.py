"""Downloads from a local server that breaks off, sends wrong bytes, or does not support ranges."""

import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from flda import cli, datasets
from flda.datasets import _download, _files

pytest.importorskip("pooch", reason="pooch is in the extra 'data'")

CONTENT = np.random.default_rng(0).bytes(300_000)


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; sends at most ``server.breaks.pop()`` bytes of an answer while there are any."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = 0
        if server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = start + server.breaks.pop(0) if server.breaks else len(content)
        self.wfile.write(content[start:stop])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.files, served.breaks, served.requests, served.ranges = {"/toy.bin": CONTENT}, [], [], True
        served.url = f"http://127.0.0.1:{served.server_port}"
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(_download, "CHUNK", 10_000)
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """A data set of one file at that server; returns a function that writes its manifest."""
    folder = tmp_path / "manifests"
    folder.mkdir()

    def write(**changes):
        entry = {
            "name": "toy.bin",
            "url": f"{server.url}/toy.bin",
            "bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
        }
        manifest = {"name": "toy", "folder": "toy", "licence": "none", "title": "toy", "files": [entry | changes]}
        (folder / "toy.json").write_text(json.dumps(manifest))

    write()
    monkeypatch.setattr(_files, "_folder", lambda: folder)
    monkeypatch.delenv("FLDA_DATA_DIR", raising=False)
    monkeypatch.setattr(_files._pooch(), "os_cache", lambda name: tmp_path / "cache")
    return write


def names(tmp_path):
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and p.name != "toy.json")


def test_downloads_once(toy, server, tmp_path):
    assert datasets.verify("toy")["status"].tolist() == ["missing"]
    path = datasets.fetch("toy", "toy.bin")
    assert path.read_bytes() == CONTENT
    assert datasets.fetch("toy", "toy.bin") == path
    assert server.requests == [("/toy.bin", None)]
    assert names(tmp_path) == ["toy.bin"]
    assert datasets.verify("toy")["status"].tolist() == ["ok"]


def test_a_broken_transfer_continues_at_once(toy, server, tmp_path):
    server.breaks = [100_000, 50_000]
    assert datasets.fetch("toy", "toy.bin").read_bytes() == CONTENT
    assert [r for _, r in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert names(tmp_path) == ["toy.bin"]


def test_a_broken_transfer_continues_in_a_later_process(toy, server, tmp_path):
    server.breaks = [120_000, *[0] * 10]
    with pytest.raises(OSError, match=r"toy\.bin"):
        datasets.fetch("toy", "toy.bin")
    assert names(tmp_path) == ["toy.bin.part"]
    server.breaks, server.requests = [], []
    assert datasets.fetch("toy", "toy.bin").read_bytes() == CONTENT
    assert server.requests == [("/toy.bin", "bytes=120000-")]


def test_a_server_without_ranges_starts_afresh(toy, server):
    server.ranges = False
    server.breaks = [120_000]
    assert datasets.fetch("toy", "toy.bin").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("kept", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_already_whole_or_too_long(toy, server, tmp_path, kept):
    part = tmp_path / "cache" / "toy" / "toy.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((CONTENT + b"12345")[:kept])
    assert datasets.fetch("toy", "toy.bin").read_bytes() == CONTENT
    assert names(tmp_path) == ["toy.bin"]


def test_wrong_bytes_are_not_kept(toy, server, tmp_path):
    server.files["/toy.bin"] = CONTENT[::-1]
    toy(on_mismatch="Versions before today are wrong.")
    with pytest.raises(ValueError, match=r"toy\.bin.*Versions before today are wrong"):
        datasets.fetch("toy", "toy.bin")
    assert names(tmp_path) == []


def test_a_file_that_changes_on_disk_is_refused(toy, server, tmp_path):
    path = datasets.fetch("toy", "toy.bin")
    path.write_bytes(CONTENT[:-1])
    assert datasets.verify("toy")["status"].tolist() == ["damaged"]
    with pytest.raises(ValueError, match=r"toy\.bin"):
        datasets.fetch("toy", "toy.bin")


def test_an_unknown_checksum_is_recorded_and_then_holds(toy, server, tmp_path):
    toy(sha256=_files.UNKNOWN, bytes=_files.UNKNOWN)
    server.breaks = [100_000]  # without a checksum a second half is not trusted to belong to the first
    path = datasets.fetch("toy", "toy.bin")
    assert path.read_bytes() == CONTENT
    record = path.with_name("toy.bin.sha256")
    assert record.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  toy.bin\n"
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(ValueError, match=r"toy\.bin"):
        datasets.fetch("toy", "toy.bin")
    record.unlink()
    assert datasets.fetch("toy", "toy.bin") == path
    assert datasets.verify("toy")["status"].tolist() == ["no checksum known"]


def test_offline_and_missing_on_the_server(toy, server, tmp_path, capsys):
    toy(url=f"{server.url}/elsewhere.bin")
    with pytest.raises(OSError, match=r"elsewhere\.bin.*404"):
        datasets.fetch("toy", "toy.bin")
    toy(url="http://127.0.0.1:9/toy.bin")  # nothing listens there
    assert cli.main(["datasets", "fetch", "toy"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "http://127.0.0.1:9/toy.bin" in error
    assert names(tmp_path) == []


def test_a_proxy_of_the_environment(toy, server, monkeypatch):
    toy(url="http://data.invalid/toy.bin")
    server.files["http://data.invalid/toy.bin"] = CONTENT
    monkeypatch.setenv("http_proxy", server.url)
    assert datasets.fetch("toy", "toy.bin").read_bytes() == CONTENT


def test_with_a_data_folder_nothing_is_downloaded_unless_asked(toy, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLDA_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match=r"toy\.bin.*flda datasets fetch toy"):
        datasets.fetch("toy", "toy.bin")
    assert server.requests == []
    assert cli.main(["datasets", "verify", "toy"]) == 2
    assert "toy.bin is missing" in capsys.readouterr().err
    assert cli.main(["datasets", "fetch", "toy"]) == 0
    path = tmp_path / "data" / "toy" / "toy.bin"
    assert capsys.readouterr().out == f"{path}\n"
    assert datasets.fetch("toy", "toy.bin") == path
    assert path.stat().st_mode & 0o044, "others may read a shared data folder"
    assert cli.main(["datasets", "verify"]) == 0
    path.write_bytes(b"")
    assert cli.main(["datasets", "verify"]) == 2
    assert "toy.bin is damaged" in capsys.readouterr().err
    path.rename(tmp_path / "data" / "toy.bin")
    assert datasets.verify("toy")["status"].tolist() == ["damaged"], "files may lie directly in the folder"


def test_a_folder_that_cannot_be_written(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLDA_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"toy\.bin"):
        datasets.fetch("toy", "toy.bin", download=True)


def test_without_pooch(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'flda\[data\]'"):
        datasets.fetch("toy", "toy.bin")
