"""Downloads against a server on loopback that breaks off, changes, lies or crawls."""

import hashlib
import logging
import random

import pytest

from hmmtts.data.fetch import NotTheFile, Patience, Remote, download
from tests.recipes.server import Server

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
QUICK = Patience(attempts=4, pause=0.001, timeout=5.0)


@pytest.fixture
def server():
    serving = Server(CONTENT)
    yield serving
    serving.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "archive"


def remote(server, content=CONTENT):
    return Remote(server.url, len(content), hashlib.sha256(content).hexdigest())


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def test_download(server, path):
    assert download(remote(server), path, QUICK) == path
    assert path.read_bytes() == CONTENT
    assert names(path) == ["archive"]


def test_a_broken_off_download_goes_on_where_it_stopped(server, path, caplog):
    server.bad = ["short", "short", "broken"]
    with caplog.at_level(logging.INFO):
        download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=150000-", "bytes=225000-", "bytes=225000-"]
    assert server.sent == len(CONTENT)  # not a byte twice
    assert "resumed at byte 225000" in caplog.text


def test_the_part_is_kept_for_the_next_run(server, path):
    server.bad = ["short"] + ["broken"] * 4
    with pytest.raises(OSError, match=r"150000 of 300000 bytes are kept in .*archive\.part: run it again"):
        download(remote(server), path, QUICK)
    assert names(path) == ["archive.part", "archive.part.json"]
    assert (path.parent / "archive.part").read_bytes() == CONTENT[:150_000]
    download(remote(server), path, QUICK)
    assert server.asked[-1] == "bytes=150000-"
    assert names(path) == ["archive"]


def test_without_range_support_it_begins_again(server, path, caplog):
    server.ranges = False
    server.bad = ["short"]
    with caplog.at_level(logging.INFO):
        download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT
    assert "begun again" in caplog.text


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_changed_file_is_not_glued_to_the_old_one(server, path, honours_if_range, monkeypatch):
    """The half that arrived is of another version."""
    server.content, server.bad = OTHER, ["short"] + ["broken"] * 4
    with pytest.raises(OSError, match="kept"):
        download(remote(server), path, QUICK)
    server.content = CONTENT
    if honours_if_range:
        server.etag = '"two"'
    else:  # a server that sends the rest of whatever it has now
        monkeypatch.setattr("hmmtts.data.fetch._validator", lambda part: '"one"')
        answer = server.answer

        def careless(request):
            del request.headers["If-Range"]
            server.etag = '"two"'
            answer(request)

        server.answer = careless
    download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_continued(server, path):
    path.parent.mkdir()
    (path.parent / "archive.part").write_bytes(CONTENT[:1000])
    server.etag = None
    download(remote(server), path, QUICK)
    assert server.asked == [None]


@pytest.mark.parametrize("length", [len(CONTENT) + 5, len(CONTENT)])
def test_a_part_that_cannot_be_right_is_dropped(server, path, length):
    path.parent.mkdir()
    (path.parent / "archive.part").write_bytes(bytes(length))
    if length == len(CONTENT):
        with pytest.raises(ValueError, match="sha256 mismatch"):
            download(remote(server), path, QUICK)
        assert names(path) == []
    download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server, path):
    expected, got = hashlib.sha256(OTHER).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ValueError, match=f"sha256 mismatch: expected {expected}, got {got}; deleted"):
        download(Remote(server.url, len(CONTENT), expected), path, QUICK)
    assert names(path) == []


def test_an_existing_file_is_verified_not_trusted(server, path, caplog):
    path.parent.mkdir()
    path.write_bytes(OTHER)
    download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT
    assert "not the file that was asked for (sha256 mismatch" in caplog.text
    asked = len(server.asked)
    download(remote(server), path, QUICK)
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("page", "expected 300000 bytes, the server offers 21 of text/html"),
        ("chunked page", "the server offers some of text/html"),
        ("missing", "the server answers HTTP Error 404"),
        ("long", "expected 300000 bytes, the server sends more"),
        ("file", "'file:///etc/passwd' is not allowed"),
    ],
)
def test_what_no_further_attempt_would_mend(server, path, bad, message):
    server.bad = [bad]
    with pytest.raises(NotTheFile, match=message):
        download(remote(server), path, QUICK)
    assert len(server.asked) == 1
    assert not path.exists()


def test_an_honest_redirect_is_followed(server, path):
    server.bad = ["away"]
    download(remote(server), path, QUICK)
    assert path.read_bytes() == CONTENT


def test_a_crawling_server_is_left_and_asked_again(server, path):
    server.bad = ["drip"]
    download(remote(server), path, Patience(attempts=4, pause=0.001, timeout=0.2))
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_no_server(path):
    with pytest.raises(OSError, match="Connection refused"):
        download(Remote("http://127.0.0.1:9/archive", 5, "0"), path, Patience(attempts=2, pause=0.001))


def test_a_full_disk_is_noticed_before_the_download(server, path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(ValueError, match="300000 bytes are needed, 1000 are free"):
        download(remote(server), path, QUICK)
    assert server.asked == []
