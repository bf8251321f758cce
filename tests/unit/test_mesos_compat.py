"""The stand-in for http-parser, against what a real Mesos sent; and how pymesos is found, imported, installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from retz.engine.base import EngineError
from retz.engine.mesos import compat, setup
from retz.engine.mesos.compat import HttpParser
from retz.engine.mesos.events import Records
from tests.conformance.recording import Entry, Kind, load

PIECES = (1, 7, 4096, 1 << 20)


def stream(name: str, stream: str) -> bytes:
    """All bytes that came on a stream."""
    kinds = (Kind.HEAD, Kind.CHUNK, Kind.LAST)
    return b"".join(entry.raw for entry in load(name).entries if entry.stream == stream and entry.kind in kinds)


def answers(name: str) -> list[Entry]:
    return [entry for entry in load(name).entries if entry.kind is Kind.RESPONSE]


def fed(data: bytes, piece: int) -> tuple[HttpParser, bytes]:
    """A parser that got all of it in pieces, and the body it gave out meanwhile."""
    parser, body = HttpParser(), b""
    for at in range(0, len(data), piece):
        part = data[at : at + piece]
        assert parser.execute(part, len(part)) == len(part)
        if parser.is_partial_body():
            body += parser.recv_body()
    assert not parser.is_partial_body()
    return parser, body


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    ("name", "of", "types"),
    [
        ("01", "S", ["SUBSCRIBED", "HEARTBEAT", "OFFERS", "HEARTBEAT", "HEARTBEAT", "HEARTBEAT"]),
        ("26", "S1", ["SUBSCRIBED", "HEARTBEAT", "OFFERS", "UPDATE", "UPDATE", "UPDATE", "UPDATE"]),
    ],
)
def test_a_stream_however_it_is_cut(name: str, of: str, types: list[str], piece: int) -> None:
    parser, body = fed(stream(name, of), piece)
    assert (parser.get_status_code(), parser.is_chunked(), parser.get_errno()) == (200, True, 0)
    assert len(parser.get_headers()["Mesos-Stream-Id"]) == 36
    events = [json.loads(record)["type"] for record in Records().feed(body)]
    assert events[: len(types)] == types
    # The second stream broke off with its master: nothing said that it ended.
    assert parser.is_message_complete() is (name == "01")


@pytest.mark.parametrize("piece", PIECES)
def test_a_stream_that_ends_with_an_error(piece: int) -> None:
    parser, body = fed(stream("12", "S2"), piece)
    assert json.loads(list(Records().feed(body))[-1])["error"] == {"message": "Framework failed over"}
    assert parser.is_message_complete()


@pytest.mark.parametrize("name", ["13", "24", "26"])
def test_whole_answers(name: str) -> None:
    checked = 0
    for entry in answers(name):
        head, _, body = entry.raw.partition(b"\r\n\r\n")
        if b"Content-Length" not in head or "HEAD" in entry.title:
            continue
        for piece in PIECES:
            parser, got = fed(entry.raw, piece)
            assert parser.get_status_code() == int(head.split()[1]), entry.title
            assert parser.is_headers_complete() and parser.is_message_complete(), entry.title
            assert got == body and not parser.is_chunked(), entry.title
        checked += 1
    assert checked > 5


def test_a_redirect_says_where() -> None:
    redirects = [entry for entry in answers("26") if entry.title.startswith("SUBSCRIBE to a non-leading")]
    parser, _ = fed(redirects[0].raw, 5)
    assert parser.get_status_code() == 307
    assert parser.get_headers()["Location"] == "//127.0.0.1:5050/master/api/v1/scheduler"


def test_what_pymesos_itself_got() -> None:
    segments = [entry for entry in load("25").entries if entry.stream == "conn2" and entry.kind is Kind.RECEIVED]
    parser, body = fed(b"".join(entry.raw for entry in segments), 13)
    assert [json.loads(record)["type"] for record in Records().feed(body)][:2] == ["SUBSCRIBED", "HEARTBEAT"]
    assert parser.get_errno() == 0


def test_several_chunks_in_one_segment_are_one_body() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n1\r\nf"
    parser, body = fed(data, len(data))
    assert body == b"abcdef"
    assert not parser.is_message_complete()


def test_garbage_is_not_taken() -> None:
    parser = HttpParser()
    assert parser.execute(b"SSH-2.0-OpenSSH_9.2\r\n", 21) < 21
    assert parser.get_errno() != 0 and not parser.is_headers_complete()
    assert parser.execute(b"HTTP/1.1 200 OK\r\n", 17) == 0


def test_what_follows_an_answer_is_ignored() -> None:
    data = b"HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\nno"
    parser, body = fed(data, len(data))
    more = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\n\r\nX"
    assert parser.execute(more, len(more)) == len(more)
    assert (body, parser.get_status_code(), parser.recv_body()) == (b"no", 503, b"")
    assert parser.get_headers() == {"Content-Length": "2"}


def test_only_the_first_bytes_count() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcdeXXXX"
    parser = HttpParser()
    assert parser.execute(data, len(data) - 4) == len(data) - 4
    assert parser.is_message_complete() and parser.recv_body() == b"abcde"


# -- pymesos ---------------------------------------------------------------------------------------------------


def test_importing_pymesos_leaves_sigint_alone() -> None:
    code = (
        "import signal, logging; from retz.engine.mesos.compat import load_pymesos;"
        "before = signal.getsignal(signal.SIGINT); print(load_pymesos().__VERSION__);"
        "assert signal.getsignal(signal.SIGINT) is before;"
        "assert not logging.getLogger('pymesos').handlers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0.3.15\n"), done.stderr


def test_without_pymesos_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "pymesos", "kazoo")
    with pytest.raises(EngineError, match=r"needs pymesos, kazoo.*retz-server setup-mesos"):
        compat.require_pymesos()


def test_looking_for_pymesos_does_not_import_it() -> None:
    """It takes SIGINT over."""
    code = "import sys; from retz.engine.mesos.compat import *; require_pymesos(); print('pymesos' in sys.modules)"
    code += ";from signal import *; assert getsignal(SIGINT) is default_int_handler"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_the_extra_is_what_is_needed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extra = {need.split(">")[0] for need in project["optional-dependencies"]["mesos"]}
    assert extra == set(compat.NEEDS)


# -- setup-mesos -----------------------------------------------------------------------------------------------


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))


class Pip:
    """Stands in for pip.

    Args:
        error: What it fails with; empty: it works.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: str = "") -> None:
        self.commands: list[list[str]] = []
        self._monkeypatch = monkeypatch
        self._error = error

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        if not self._error:
            self._monkeypatch.undo()
        return subprocess.CompletedProcess(command, int(bool(self._error)), "", self._error)


def test_setup_does_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pip, said = Pip(monkeypatch), list[str]()
    setup.setup_mesos(said.append, pip)
    assert pip.commands == []
    assert "are installed" in said[0] and "retz-server --engine mesos" in said[-1]


def test_setup_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "pymesos")
    pip, said = Pip(monkeypatch), list[str]()
    setup.setup_mesos(said.append, pip)
    needs, pymesos = pip.commands
    assert needs[-4:] == list(compat.NEEDS)
    assert pymesos[-2:] == ["--no-deps", "pymesos==0.3.15"]
    assert needs[:4] == [sys.executable, "-m", "pip", "install"]
    assert "Next: retz-server --engine mesos" in said[-1]


def test_setup_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "pymesos")
    error = "WARNING: Retrying ...\nERROR: No matching distribution found for six\n"
    with pytest.raises(EngineError, match=r"no package index.*PIP_INDEX_URL.*No matching distribution found for six"):
        setup.setup_mesos(lambda _: None, Pip(monkeypatch, error))


def test_setup_that_fails_otherwise_shows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "pymesos")
    with pytest.raises(EngineError, match="No space left on device"):
        setup.setup_mesos(lambda _: None, Pip(monkeypatch, "OSError: No space left on device"))


def test_setup_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "pymesos", "pip")
    with pytest.raises(EngineError, match=r"has no pip.*ensurepip.*uv pip install six"):
        setup.setup_mesos(lambda _: None, Pip(monkeypatch))


def test_setup_where_the_system_owns_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing(monkeypatch, "pymesos")
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    with pytest.raises(EngineError, match=r"managed by the operating system.*python3 -m venv"):
        setup.setup_mesos(lambda _: None, Pip(monkeypatch))
