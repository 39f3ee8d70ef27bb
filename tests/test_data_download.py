"""Downloads: resumable, whole or not at all, under every fault of a server."""

from __future__ import annotations

import hashlib
import logging
import sys
import threading

import pytest
from helpers.data import d4rl_arrays
from helpers.server import Server

from rlop.data import load_dataset, write_hdf5
from rlop.data.formats import d4rl, download
from rlop.data.formats.mirrors import addresses
from rlop.data.scores import Published, source_of, sources
from rlop.types import InputError


@pytest.fixture(autouse=True)
def _near(tmp_path, monkeypatch):
    """Keep downloads in the test's folder, and off a proxy."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("RLOP_MIRRORS", raising=False)


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


def published_of(server):
    return Published(len(server.content), hashlib.sha256(server.content).hexdigest())


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
    served = about._replace(url=server.url, published=published_of(server))
    monkeypatch.setattr(d4rl, "source_of", lambda name: served)
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
    assert names(target) == ["file.hdf5.part", "file.hdf5.part.origin"]
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
    message = r"bytes are not a whole HDF5 file; nothing is kept$"
    with pytest.raises(InputError, match=message):
        download.download(server.url, target)
    assert names(target) == []


def test_errors_of_the_server_leave_nothing(server, target):
    server.fault = "404"
    with pytest.raises(InputError, match=r"file\.hdf5: 404 Not Found$"):
        download.download(server.url, target)
    assert names(target) == []


def test_nobody_there(target):
    with Server(b"") as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}/file.hdf5"
    with pytest.raises(InputError, match=rf"^{url}: .*refused"):
        download.download(url, target)
    assert not target.parent.exists()


def test_an_interruption_keeps_what_has_come(server, target, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 1000)
    copy = download._copy

    def interrupted(response, file, advance, limit):
        def stop(n):
            if file.tell() > 5000:
                raise KeyboardInterrupt

        return copy(response, file, stop, limit)

    monkeypatch.setattr(download, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.download(server.url, target)
    assert names(target) == ["file.hdf5.part", "file.hdf5.part.origin"]
    part = target.with_name("file.hdf5.part").read_bytes()
    assert len(part) > 5000
    assert server.content.startswith(part)

    monkeypatch.setattr(download, "_copy", copy)
    download.download(server.url, target)
    assert target.read_bytes() == server.content


def test_two_at_once(server, target, monkeypatch):
    second = []

    def meanwhile(response, file, advance, limit):
        with pytest.raises(InputError, match="another process is downloading it") as error:
            download.download(server.url, target)
        second.append(error)
        return copy(response, file, advance, limit)

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


# ---- what was fetched is what was published


def leave_part(target, content):
    """Leave the beginning of a download on disk."""
    target.parent.mkdir(parents=True)
    target.with_name("file.hdf5.part").write_bytes(content)


def test_a_part_of_unknown_origin_begins_anew(server, target):
    leave_part(target, b"x" * 1000)
    download.download(server.url, target)
    assert server.asked == [None]
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("fault", ["", "ignores If-Range"])
def test_a_file_that_changed_meanwhile_begins_anew(server, target, fault):
    server.fault = "truncated"
    with pytest.raises(InputError, match="broke off"):
        download.download(server.url, target)

    # Of the same size, and HDF5 opens what the two halves make.
    changed = server.content[:-8] + b"changed!"
    server.content, server.tag, server.fault = changed, '"second"', fault
    download.download(server.url, target)
    assert target.read_bytes() == changed
    assert len(server.asked) == (3 if fault else 2)
    assert names(target) == ["file.hdf5"]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_validator_nothing_is_continued(server, target, tag):
    server.fault, server.tag = "truncated", tag
    with pytest.raises(InputError, match="broke off"):
        download.download(server.url, target)
    assert names(target) == ["file.hdf5.part"]

    server.fault = ""
    download.download(server.url, target)
    assert server.asked == [None, None]
    assert target.read_bytes() == server.content


def test_a_known_checksum_continues_any_part(server, target):
    server.tag = ""
    leave_part(target, server.content[:1000])
    download.download(server.url, target, published_of(server))
    assert server.asked == ["bytes=1000-"]
    assert target.read_bytes() == server.content


@pytest.mark.parametrize("size", [1000, 10**7])
def test_a_wrong_part_is_found_by_the_checksum(server, target, size):
    leave_part(target, bytes(size))
    download.download(server.url, target, published_of(server))
    assert server.asked == (["bytes=1000-", None] if size == 1000 else [None])
    assert target.read_bytes() == server.content


def test_a_whole_part_needs_no_server(server, target):
    leave_part(target, server.content)
    download.download(server.url, target, published_of(server))
    assert server.asked == []
    assert names(target) == ["file.hdf5"]


@pytest.mark.parametrize("fault", ["", "no length"])
def test_another_file_is_refused(server, target, fault):
    published, server.fault = published_of(server), fault
    server.content = server.content[:-8] + b"changed!"
    message = r"file\.hdf5: sha256 is [0-9a-f]{16}\.\.\., .* was published; nothing is kept$"
    with pytest.raises(InputError, match=message):
        download.download(server.url, target, published)
    assert names(target) == []

    server.content *= 3
    message = "bytes, .* were published" + ("; nothing is kept$" if fault else "$")
    with pytest.raises(InputError, match=message):
        download.download(server.url, target, published)
    assert names(target) == []


# ---- addresses


def test_mirrors_come_first_and_the_next_continues(server, target, monkeypatch, tmp_path):
    base = server.url.removesuffix("/x/file.hdf5")
    monkeypatch.setenv("RLOP_MIRRORS", f"{base}/one/, {base}/two  https://a.b/c")
    found = addresses("http://rail.edu/all/v2/file.hdf5", "v2/file.hdf5")
    assert found == [
        f"{base}/one/v2/file.hdf5",
        f"{base}/one/file.hdf5",
        f"{base}/two/v2/file.hdf5",
        f"{base}/two/file.hdf5",
        "https://a.b/c/v2/file.hdf5",
        "https://a.b/c/file.hdf5",
        "https://rail.edu/all/v2/file.hdf5",
    ]

    # A mirror that is a flat folder: only the second address has the file.
    server.fault = "flat"
    monkeypatch.setenv("RLOP_MIRRORS", base)
    about = source_of("hopper-medium-v2")._replace(published=published_of(server))
    monkeypatch.setattr(d4rl, "source_of", lambda name: about)
    assert len(load_dataset("d4rl:hopper-medium-v2")) == 5000 - 2
    assert server.paths == ["/gym_mujoco_v2/hopper_medium-v2.hdf5", "/hopper_medium-v2.hdf5"]


def test_all_addresses_are_named_when_none_has_it(server, target):
    server.fault = "404"
    urls = [server.url, server.url + "2"]
    message = r"file\.hdf5: 404 Not Found; .*file\.hdf52: 404 Not Found$"
    with pytest.raises(InputError, match=message) as error:
        download.download(urls, target)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://example.org/a.hdf5", "file:///etc/passwd", "ftp://a/b", "a.hdf5", "http://[/x"]
)
def test_only_secure_addresses(url, server, target, monkeypatch):
    with pytest.raises(InputError, match=r"expected an address that begins with https://$"):
        download.download(url, target)

    monkeypatch.setenv("RLOP_MIRRORS", url)
    with pytest.raises(InputError, match=r"no download: .*begins with https://$"):
        load_dataset("d4rl:hopper-medium-v2")

    # Nor by way of a redirection.
    server.fault = f"to {url}"
    message = r"https://$|302 .*not allowed|302 .*infinite loop.*Found|Invalid IPv6 URL"
    with pytest.raises(InputError, match=message) as error:
        download.download(server.url, target)
    assert "\n" not in str(error.value)
    assert names(target) == []


def test_files_without_a_checksum_are_said_so(server, monkeypatch, caplog):
    about = source_of("maze2d-umaze-v1")
    assert about.published is None
    monkeypatch.setattr(d4rl, "source_of", lambda name: about._replace(url=server.url))
    load_dataset("d4rl:maze2d-umaze-v1")
    assert "size and sha256 of its file are not known" in caplog.text


def test_checksums_are_those_of_the_list(shared_data):
    listed = (shared_data / "d4rl_checksums.tsv").read_text().splitlines()[1:]
    known = {about.url: about.published for about in sources().values() if about.published}
    assert len(listed) == len(known) == 104
    for line in listed:
        url, size, digest = line.split("\t")
        assert known[url] == Published(int(size), digest)


# ---- what `rlop info` says of the file


def test_state_of_a_file(server, monkeypatch, tmp_path):
    about = source_of("hopper-medium-v2")
    path = tmp_path / "d4rl" / "hopper_medium-v2.hdf5"
    lines = d4rl.state("hopper-medium-v2")
    assert lines[0] == f"not on disk: expected {path}"
    assert lines[1] == f"published: {about.published.size:,} bytes, sha256 {about.published.sha256}"
    assert lines[2].startswith("origin: https://rail.eecs.berkeley.edu/")
    assert lines[3].startswith("license: CC BY 4.0")

    path.parent.mkdir()
    path.write_bytes(server.content)
    size = len(server.content)
    line = d4rl.state("d4rl:hopper-medium-v2")[0]
    assert line.startswith(f"on disk: {path}, {size:,} bytes; not the published file: {size:,} ")

    served = about._replace(published=published_of(server))
    monkeypatch.setattr(d4rl, "source_of", lambda name: served)
    line = d4rl.state("hopper-medium-v2")[0]
    assert line.endswith("bytes; whole: size and sha256 are the published ones")
    path.write_bytes(server.content[:-1] + b"?")
    assert "; not the published file: sha256 is " in d4rl.state("hopper-medium-v2")[0]

    served = about._replace(published=None)
    lines = d4rl.state("hopper-medium-v2")
    assert lines[0].endswith("HDF5 opens it; its published size and sha256 are not known")
    assert len(lines) == 3
    path.write_bytes(server.content[:5000])
    assert d4rl.state("hopper-medium-v2")[0].endswith("; the 5,000 bytes are not a whole HDF5 file")
