"""``retz-tui`` as a person meets it: the real program in a pseudo-terminal, a real server, real jobs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retz.client import Client
from retz.config import ClientConfig
from tests.acceptance.window import Window
from tests.server_process import ServerProcess
from tui.places import PLACES

SECRETS = {"ann": "ann's secret", "bob": "bob's secret"}
TALKS = "for i in $(seq 1 600); do echo line number $i; sleep 0.1; done"
RESTORED = {"?25", "?7"}
"""Modes of the terminal after a program that left it as it was: cursor shown, lines wrap."""

Show = Callable[..., Window]


def start(home: Path) -> ServerProcess:
    """A server with the users ann (an administrator) and bob."""
    server = ServerProcess(home, settings={"RETZ_LOCAL_CPUS": "4", "RETZ_LOCAL_MEM": "4g"})
    users = [{"key": key, "secret": secret, "admin": key == "ann"} for key, secret in SECRETS.items()]
    seed = {"users": users, "jobs": [], "total": {}, "until": time.time()}
    subprocess.run(
        [sys.executable, "-P", "-m", "retz.server.seed", str(server.data)],
        input=json.dumps(seed).encode(),
        env=server.environment,
        check=True,
    )
    server.start()
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = start(tmp_path_factory.mktemp("window") / "home")
    yield running
    running.destroy()


@pytest.fixture(autouse=True)
def _quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing of one test runs on in the next."""
    yield
    if "server" in request.fixturenames:
        with client(request.getfixturevalue("server")) as ann:
            ann.kill_many(user="*", state=["QUEUED", "STARTING", "STARTED"])


def config(server: ServerProcess, user: str = "ann") -> ClientConfig:
    return ClientConfig(server_uri=server.uri, access_key=user, access_secret=SECRETS[user])


def client(server: ServerProcess, user: str = "ann") -> AbstractContextManager[Client]:
    return Client(config(server, user))


def environment(server: ServerProcess, user: str = "ann", uri: str = "") -> dict[str, str]:
    return server.environment | {
        "RETZ_SERVER_URI": uri or server.uri,
        "RETZ_ACCESS_KEY": user,
        "RETZ_ACCESS_SECRET": SECRETS[user],
    }


@pytest.fixture
def show(server: ServerProcess) -> Iterator[Show]:
    """Opens windows; all are closed at the end."""
    opened: list[Window] = []

    def open_(*words: str, user: str = "ann", uri: str = "", extra: dict[str, str] | None = None, **how: Any) -> Window:
        window = Window(environment(server, user, uri) | (extra or {}), *words, cwd=server.home, **how)
        opened.append(window)
        return window

    yield open_
    for window in opened:
        window.close()


def submit(server: ServerProcess, command: str, user: str = "ann", **fields: Any) -> int:
    with client(server, user) as mine:
        return mine.submit(command, **{"cpus": 0.1, "mem": 64, "kill_grace_s": 0.2, **fields})


def test_a_working_day(server: ServerProcess, show: Show) -> None:
    number = submit(server, TALKS, name="talker")
    submit(server, "sleep 600", name="sleeper")
    window = show()
    window.sees("● live")
    window.until(lambda text: "talker" in text and "sleeper" in text, "both jobs")
    window.press("/name:talker\r")
    window.loses("sleeper")
    window.until(lambda text: any("● started" in line and "talker" in line for line in text.splitlines()), "it to run")
    window.until(lambda text: text.splitlines()[2].startswith(" name:talker"), "the filter to be closed")
    window.press("\r")
    window.sees(f"queue ▸ {number}")
    first = window.until(lambda text: "line number" in text, "the log")
    window.until(lambda text: "line number" in text and text != first, "the log to go on")
    window.press("\x1b")
    window.loses("queue ▸")
    window.press("K")
    window.sees("talker")
    window.sees("y kill")
    window.press("y")
    with client(server) as mine:
        assert mine.wait(number, 30).state == "KILLED"
    window.until(lambda text: "● started" not in text.split("filter", 1)[-1], "the job to leave the list")
    assert window.quit() == 0
    assert window.modes_now == window.modes_before and window.screen.modes == RESTORED
    assert window.screen.strange == []


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    server = start(tmp_path / "home")
    window = Window(environment(server), columns=110, rows=30)
    try:
        submit(server, "sleep 600", name="before")
        window.sees("before")
        server.kill()
        window.sees("✘ lost")
        for words in ("what you see is old", "trying again", "before"):
            window.sees(words)
        window.press("?")
        window.sees("keys and commands")
        window.press("\x1b")
        server.start()
        window.sees("● live")
        window.loses("what you see is old")
        submit(server, "sleep 600", name="afterwards")
        window.sees("afterwards")
        assert window.quit() == 0
    finally:
        window.close()
        server.destroy()


def test_every_size_is_drawn_to_its_edges(server: ServerProcess, show: Show) -> None:
    for number in range(30):
        submit(server, "sleep 600", name=f"job-{number}", held=True)
    window = show(columns=200, rows=60)
    window.sees("job-29")
    for columns, rows in ((80, 24), (200, 60), (40, 12), (120, 40)):
        window.resize(columns, rows)
        window.until(
            lambda text: text.startswith(" retz") and "job-29" in text and "quit" in text.splitlines()[-1],
            f"{columns}x{rows}",
        )
    assert window.quit() == 0
    assert window.screen.strange == []


HOSTILE = {
    "escape": "\x1b[2J\x1b[1;1HGOTCHA\x1b]0;title\x07\x1b[?1049l",
    "one byte": "\x9b2J\x9d0;title\x9c",
    "bell and back": "\a\b\b\b\r\nover",
    "reversed": "\u202egnitirw\u2066",
    "wide": "日本語の名前",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈é",
    "markup": "[red]not red[/red] [@click=app.quit]quit[/]",
    "long": "x" * 150,
}


def test_what_strangers_wrote_cannot_draw(server: ServerProcess, show: Show) -> None:
    for name, text in HOSTILE.items():
        label = "".join(c for c in text if c.isprintable() or c in "\u202e\u2066\u200d\ufe0f")
        submit(server, f"true # {text}", user="bob", name=f"N{label}", held=True)
        submit(server, f"printf %s '{text}'; sleep 600", user="bob", name=f"log {name}", environment={"V": text})
    window = show(columns=140, rows=40)
    window.sees("log long")
    for name in HOSTILE:
        window.press(f"/\x15log {name}\r")
        window.until(lambda text: "1 job" in text and f"log {name}" in text, f"the job {name}")  # noqa: B023
        window.press("\r")
        window.until(lambda text: "queue ▸" in text and "stdout" in text, "its page")
        window.press("\x1b")
        window.loses("queue ▸")
    window.press("\x1b")
    # Not before escape has done its work: with a key behind it, it would be that key with alt.
    window.until(lambda text: text.splitlines()[2].startswith(" / filter") and "log escape" in text, "the whole list")
    assert window.quit() == 0
    assert window.screen.strange == []
    assert b"GOTCHA" in window.raw and b"title\x07" not in window.raw and b"\x9b" not in _controls(bytes(window.raw))
    assert "\u202e" not in window.raw.decode() and "\u2066" not in window.raw.decode()


def _controls(raw: bytes) -> bytes:
    """C1 control characters, as UTF-8 has them, one byte each."""
    return "".join(c for c in raw.decode() if "\x80" <= c < "\xa0").encode("latin-1")


def test_columns_stay_in_line_beside_wide_names(server: ServerProcess, show: Show) -> None:
    names = ["日本語の名前です", "emoji 🎉🎉", "plain", "x" * 60]
    for name in names:
        submit(server, "sleep 600", name=name, user="bob")
    window = show(columns=120, rows=30)

    def drawn(text: str) -> list[int]:
        return [row for row, line in enumerate(text.splitlines()) if "● started" in line and " 64M " in line]

    window.until(lambda text: len(drawn(text)) >= len(names), "all of them to run, in rows drawn to the end")
    rows = drawn(window.screen.text)
    assert len(rows) == len(names)
    assert len({window.screen.column_of(row, " 64M ") for row in rows}) == 1
    assert window.quit() == 0


def test_pasted_text_is_text(server: ServerProcess, show: Show) -> None:
    number = submit(server, "sleep 600", name="survivor")
    window = show()
    window.sees("survivor")
    window.paste("Kyq\x1b")
    window.press("/")
    window.paste("survivor\nKy")
    window.until(lambda text: text.splitlines()[2].startswith(" survivor"), "the filter")
    window.sees("esc to the list")
    window.press("\x1b")
    window.loses("esc to the list")
    with client(server) as mine:
        assert mine.job(number).kill_requested is None
    assert window.quit() == 0


def test_without_colours(server: ServerProcess, show: Show) -> None:
    submit(server, "sleep 600", name="grey")
    window = show(extra={"NO_COLOR": "1"}, columns=80, rows=24)
    assert "● started" in window.until(lambda text: "● started" in text and "grey" in text, "the job")
    assert window.quit() == 0
    assert not window.screen.coloured


def test_once_prints_a_frame(server: ServerProcess) -> None:
    submit(server, "sleep 600", name="only-one")
    said = once(server, "--once", "--size", "80x24")
    lines = said.stdout.splitlines()
    assert said.returncode == 0 and len(lines) == 24 and "only-one" in said.stdout
    assert "\x1b" not in said.stdout and max(map(len, lines)) <= 80
    wrong = once(server, "--once", "nowhere")
    assert wrong.returncode == 1 and "queue" in wrong.stderr
    server_gone = once(server, "--once", "--server", "http://127.0.0.1:1")
    assert server_gone.returncode == 1 and "127.0.0.1:1" in server_gone.stderr and not server_gone.stdout


def once(server: ServerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", "from tui.main import main; main()", *words]
    env = environment(server)
    if "--server" in words:
        del env["RETZ_SERVER_URI"]
    return subprocess.run(command, env=env, cwd=server.home, capture_output=True, text=True, timeout=60, check=False)


def test_others_jobs_are_for_administrators(server: ServerProcess, show: Show) -> None:
    submit(server, "echo the secret plan; sleep 600", name="of-ann")
    mine = submit(server, "sleep 600", user="bob", name="of-bob")
    window = show(user="bob")
    window.sees("of-bob")
    assert "of-ann" not in window.screen.text
    for key in [place.key for place in PLACES if place.name not in ("queue", "job")]:
        window.press(key)
        window.until(lambda text: "▸ queue" not in text, "another screen")
        window.read(0.3)
        assert "of-ann" not in window.screen.text and "secret plan" not in window.screen.text
        window.press("1")
        window.sees("of-bob")
    assert window.quit() == 0
    assert b"of-ann" not in window.raw and b"secret plan" not in window.raw
    with client(server, "bob") as bob:
        assert bob.job(mine).owner == "bob"


def test_readonly_has_no_key_that_changes_anything(server: ServerProcess, show: Show) -> None:
    number = submit(server, "sleep 600", name="untouchable")
    window = show("--readonly")
    window.sees("read-only")
    window.sees("untouchable")
    window.press("Ky:kill\r")
    window.sees("there is no command")
    window.press("hyuy")
    window.sees("untouchable")
    assert window.quit() == 0
    with client(server) as mine:
        found = mine.job(number)
        assert found.kill_requested is None and not found.held


class SkewedProxy(ThreadingHTTPServer):
    """Passes on what the server says, with a Date that is ahead by so much."""

    daemon_threads = True

    def __init__(self, server: ServerProcess, ahead_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Skewing)
        self.behind = urlsplit(server.uri).netloc
        self.ahead_s = ahead_s


class _Skewing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        from email.utils import formatdate

        proxy = self.server
        assert isinstance(proxy, SkewedProxy)
        connection = HTTPConnection(proxy.behind)
        connection.request("GET", self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(time.time() + proxy.ahead_s, usegmt=True))
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Connection", "close")
        self.end_headers()
        while data := answer.read1(65536):
            try:
                self.wfile.write(data)
            except OSError:
                break  # the window went away
        connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_wrong_clock_on_this_side_does_not_show(server: ServerProcess, show: Show) -> None:
    submit(server, "sleep 600", name="ages")
    proxy = SkewedProxy(server, 7200.0)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        window = show(uri=f"http://127.0.0.1:{proxy.server_port}")
        # To a server two hours ahead, what began a moment ago by ours began two hours ago.
        window.until(lambda text: re.search(r"\bages\b.* 2:0\d:\d\d|2:0\d:\d\d .*\bages\b", text), "its clock")
        assert window.quit() == 0
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_leave_the_terminal_as_it_was(server: ServerProcess, show: Show, number: signal.Signals) -> None:
    window = show()
    window.sees("● live")
    window.process.send_signal(number)
    window.ended()
    assert window.modes_now == window.modes_before and window.screen.modes == RESTORED


CRASH = """
from tui.screens.queue import QueuePage
from tui.main import main
def broken(self):
    raise RuntimeError("a fault of ours")
QueuePage.action_sort = broken
main()
"""


def test_a_crash_leaves_the_terminal_as_it_was_and_tells(server: ServerProcess, show: Show) -> None:
    window = show(program=CRASH)
    window.sees("● live")
    window.press("s")
    assert window.ended() != 0
    assert window.modes_now == window.modes_before and window.screen.modes == RESTORED
    assert b"a fault of ours" in window.raw


def test_a_terminal_that_hangs_up_ends_it(server: ServerProcess, show: Show) -> None:
    window = show()
    window.sees("● live")
    window.hang_up()
    assert window.process.wait(30) is not None
