"""Downloads: resumable, whole or not at all, under every fault of a server."""

from __future__ import annotations

import logging
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.data import d4rl_arrays

from rlop.data import load_dataset, write_hdf5
from rlop.data.formats import d4rl, download
from rlop.data.scores import source_of
from rlop.types import InputError


@pytest.fixture(autouse=True)
def _near(tmp_path, monkeypatch):
    """Keep downloads in the test's folder, and off a proxy."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Server(ThreadingHTTPServer):
    """Serves `content` at every address; `fault` says how it misbehaves."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.fault = ""
        self.asked = []  # the Range of every request
        self.url = f"http://127.0.0.1:{self.server_address[1]}/x/file.hdf5"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, fault = self.server.content, self.server.fault
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        start = int(asked[6:-1]) if asked and fault != "no ranges" else 0

        if fault == "404":
            self.send_error(404)
        elif start and start >= len(content):
            self.send_error(416)
        else:
            self.answer(content, fault, start)

    def answer(self, content, fault, start):
        self.send_response(206 if start else 200)
        if start:
            first = start + 1 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")

        body = content[start:]
        announced = len(body)
        if fault == "short length":
            body = body[:-100]
            announced = len(body)
        elif fault == "long length":
            announced += 100
        elif fault == "truncated":
            body = content[start : len(content) // 2]
        if fault != "no length":
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    write_hdf5(tmp_path / "source.hdf5", d4rl_arrays(5000, [10], [50]), {})
    made = Server((tmp_path / "source.hdf5").read_bytes())

    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made

    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "file.hdf5"


def names(path):
    return sorted(item.name for item in path.parent.iterdir()) if path.parent.exists() else []


def test_download(server, target, caplog):
    caplog.set_level(logging.INFO, logger="rlop")
    download.download(server.url, target)
    assert target.read_bytes() == server.content
    assert names(target) == ["file.hdf5"]
    assert f"downloading {server.url} -> {target} (0." in caplog.text


def test_a_data_set_is_fetched_once(server, monkeypatch, tmp_path):
    about = source_of("hopper-medium-v2")
    monkeypatch.setattr(d4rl, "source_of", lambda name: about._replace(url=server.url))
    data = load_dataset("d4rl:hopper-medium-v2")
    assert len(data) == 5000 - 2
    assert len(load_dataset("d4rl:hopper-medium-v2")) == 5000 - 2
    assert len(server.asked) == 1
    assert [path.name for path in (tmp_path / "d4rl").iterdir()] == ["file.hdf5"]


@pytest.mark.parametrize("fault", ["truncated", "long length"])
def test_a_broken_transfer_is_continued(server, target, fault):
    server.fault = fault
    message = r"broke off after .* bytes.*file\.hdf5\.part, run again to continue"
    with pytest.raises(InputError, match=message) as error:
        download.download(server.url, target)
    assert "\n" not in str(error.value)
    assert names(target) == ["file.hdf5.part"]
    size = target.with_name("file.hdf5.part").stat().st_size
    assert size == len(server.content) // (2 if fault == "truncated" else 1)

    server.fault = ""
    download.download(server.url, target)
    assert server.asked[1] == f"bytes={size}-"
    # A part that is complete already is fetched from its beginning.
    assert len(server.asked) == (2 if fault == "truncated" else 3)
    assert target.read_bytes() == server.content
    assert names(target) == ["file.hdf5"]


@pytest.mark.parametrize("fault", ["no ranges", "wrong range"])
def test_servers_that_cannot_continue_start_again(server, target, fault):
    target.parent.mkdir()
    target.with_name("file.hdf5.part").write_bytes(b"something else")
    server.fault = fault
    download.download(server.url, target)
    assert target.read_bytes() == server.content


def test_without_a_length_the_file_itself_tells(server, target):
    server.fault = "no length"
    download.download(server.url, target)
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("fault", ["short length", "not HDF5"])
def test_what_is_no_whole_hdf5_file_is_thrown_away(server, target, fault):
    server.fault = fault
    server.content = b"<html>please log in</html>" if fault == "not HDF5" else server.content
    message = r"bytes received are not a whole HDF5 file; nothing is kept$"
    with pytest.raises(InputError, match=message):
        download.download(server.url, target)
    assert names(target) == []


def test_errors_of_the_server_leave_nothing(server, target):
    server.fault = "404"
    with pytest.raises(InputError, match=r"file\.hdf5: 404 Not Found$"):
        download.download(server.url, target)
    assert names(target) == []


def test_nobody_there(target):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}/file.hdf5"
    with pytest.raises(InputError, match=rf"^{url}: .*refused"):
        download.download(url, target)
    assert not target.parent.exists()


def test_an_interruption_keeps_what_has_come(server, target, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    copy = download._copy

    def interrupted(response, file, advance):
        def stop(n):
            if file.tell() > 5000:
                raise KeyboardInterrupt

        return copy(response, file, stop)

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.download(server.url, target)
    assert names(target) == ["file.hdf5.part"]
    part = target.with_name("file.hdf5.part").read_bytes()
    assert len(part) > 5000
    assert server.content.startswith(part)

    monkeypatch.setattr(download, "_copy", copy)
    download.download(server.url, target)
    assert target.read_bytes() == server.content


def test_two_at_once(server, target, monkeypatch):
    second = []

    def meanwhile(response, file, advance):
        with pytest.raises(InputError, match="another process is downloading it") as error:
            download.download(server.url, target)
        second.append(error)
        return copy(response, file, advance)

    copy = download._copy
    monkeypatch.setattr(download, "_copy", meanwhile)
    download.download(server.url, target)
    assert len(second) == 1
    assert target.read_bytes() == server.content


def test_bar_on_a_terminal(server, target, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="rlop")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    download.download(server.url, target)
    assert target.exists()
    assert "downloading" in caplog.text


def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path, server):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "taken"))
    about = source_of("hopper-medium-v2")
    monkeypatch.setattr(d4rl, "source_of", lambda name: about._replace(url=server.url))

    message = r"^d4rl:hopper-medium-v2: no file .*taken/file\.hdf5, and no download: "
    with pytest.raises(InputError, match=message):
        load_dataset("d4rl:hopper-medium-v2")
