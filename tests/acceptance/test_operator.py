"""The unlucky operator: what goes wrong around a server, what it says, and that nothing acknowledged is lost."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_process import ServerProcess
from tests.wire import Wire

from .conftest import MakeServer
from .terminal import Said, job, retz, submit, until


def retz_server(server: ServerProcess, *words: str, **environment: str) -> Said:
    """Run ``retz-server`` to its end, which comes soon."""
    done = subprocess.run(
        [sys.executable, "-m", "retz.server.main", *words],
        env={**server.environment, **environment},
        capture_output=True,
        cwd=server.home.parent,
        timeout=30,
        check=False,
        text=True,
    )
    return Said(done.returncode, done.stdout, done.stderr)


ANY_PORT = ("--bind", "http://127.0.0.1:0")


def _refused(said: Said, *words: str) -> None:
    """It failed with one line for people, that says all of this."""
    assert said.code == 1, said
    assert "Traceback" not in said.err
    assert said.out == ""
    for word in words:
        assert word in said.err, said.err


def test_a_second_server_on_the_same_directory(server: ServerProcess) -> None:
    assert server.process is not None
    said = retz_server(server, *ANY_PORT, "--data-dir", str(server.data))
    _refused(said, str(server.data), f"process {server.process.pid}", "--data-dir")
    assert retz(server, "run", "--", "echo", "unharmed").out == "unharmed\n"


def test_a_port_in_use(make_server: MakeServer) -> None:
    stranger = socket.create_server(("127.0.0.1", 0))
    port = stranger.getsockname()[1]
    server = make_server()
    server.home.mkdir()
    with stranger:
        said = retz_server(server, "--bind", f"http://127.0.0.1:{port}", "--data-dir", str(server.data))
    _refused(said, f"127.0.0.1:{port}", "in use", "--bind")
    assert not server.data.exists(), "a server that cannot listen touches nothing"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[retz]\nengine = 'local'\nengin = 'null'\n", 3, ["retz.engin", "did you mean retz.engine?"]),
        ("[retz.local]\ncpus = 'many'\n", 2, ["retz.local.cpus", "number"]),
        ("[retz.archive]\n# how long\nkeep = '3 fortnights'\n", 3, ["retz.archive.keep", "duration"]),
        ("[retz]\nengine = 'slurm'\n", 2, ["retz.engine", "local", "null"]),
        ("[retz]\nbind = 'localhost'\n", 2, ["retz.bind", "http://HOST:PORT"]),
        ("[retz\nengine = 'local'\n", 1, ["not valid TOML"]),
        ("[retz.planner]\nname = 'fastest'\n", 2, ["retz.planner.name", "fifo", "priority"]),
    ],
)  # fmt: skip
def test_a_damaged_configuration(make_server: MakeServer, text: str, line: int, words: list[str]) -> None:
    server = make_server()
    file = server.home / "config" / "retz" / "retz.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    said = retz_server(server, *ANY_PORT, "--data-dir", str(server.data))
    _refused(said, str(file), *words)
    assert re.search(rf":{line}:|line {line}\b", said.err), said.err
    assert not server.data.exists()


def test_no_authentication_is_for_loopback_only(make_server: MakeServer) -> None:
    server = make_server()
    server.home.mkdir()
    said = retz_server(
        server, "--bind", "http://0.0.0.0:0", "--data-dir", str(server.data), RETZ_AUTHENTICATION="false"
    )
    _refused(said, "retz.authentication", "127.0.0.1")


def _fill(server: ServerProcess, count: int) -> list[int]:
    return [submit(server, "--hold", "-N", f"job {number}", "--", "true") for number in range(count)]


def _flip(journal: Path, needle: bytes) -> int:
    """Damage one byte of the record that holds ``needle``; its offset."""
    data = bytearray(journal.read_bytes())
    at = data.index(needle)
    data[at] ^= 0x20
    journal.write_bytes(data)
    return at


def test_a_damaged_journal(make_server: MakeServer) -> None:
    server = make_server(engine="null")
    server.start()
    ids = _fill(server, 4)
    server.stop()
    journal = max((server.data / "store").glob("journal-*.log"))
    _flip(journal, b"job 1")
    said = retz_server(server, *ANY_PORT, "--data-dir", str(server.data))
    _refused(said, f"{journal}, byte ")
    advice = f"retz-server fsck --data-dir {server.data}"
    assert advice in said.err
    checked = retz_server(server, *advice.split()[1:])
    assert checked.code == 1
    assert journal.name in checked.out
    advice = f"retz-server fsck --repair --data-dir {server.data}"
    assert advice in checked.err
    repaired = retz_server(server, *advice.split()[1:])
    assert journal.name in repaired.out, repaired
    assert retz_server(server, "--data-dir", str(server.data), "fsck").code == 0
    server.start()
    kept = {found["id"] for found in retz(server, "list", "--json").json["jobs"]}
    assert set(ids) - kept == {ids[1]}
    assert submit(server, "--", "true") > max(ids)


def test_a_torn_tail_is_cut_and_told(make_server: MakeServer) -> None:
    server = make_server(engine="null")
    server.start()
    ids = _fill(server, 2)
    server.kill()
    journal = max((server.data / "store").glob("journal-*.log"))
    with journal.open("ab") as file:
        file.write(b"\x00half a rec")
    server.start()
    assert "cut an unfinished record of 11 bytes" in server.log()
    assert {found["id"] for found in retz(server, "list", "--json").json["jobs"]} == set(ids)


def test_fsck_wants_the_server_stopped(server: ServerProcess) -> None:
    _refused(retz_server(server, "--data-dir", str(server.data), "fsck"), "in use by process")
    _refused(retz_server(server, "--data-dir", str(server.data / "nothing"), "fsck"), "no store", "--data-dir")


def test_a_data_directory_that_is_no_directory(make_server: MakeServer) -> None:
    server = make_server()
    server.home.mkdir()
    server.data.write_text("a file\n")
    said = retz_server(server, *ANY_PORT, "--data-dir", str(server.data))
    assert said.code in (1, 2)
    assert str(server.data) in said.err and "Traceback" not in said.err


def test_a_data_directory_that_cannot_be_written(make_server: MakeServer, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with mounted(tmp_path / "disk", "ro,size=1m") as disk:
            _cannot_be_written(make_server(), disk / "data", "Read-only file system")
    else:
        place = tmp_path / "locked"
        place.mkdir(mode=0o500)
        _cannot_be_written(make_server(), place / "data", "Permission denied")


def _cannot_be_written(server: ServerProcess, data: Path, why: str) -> None:
    server.home.mkdir()
    _refused(retz_server(server, *ANY_PORT, "--data-dir", str(data)), why, str(data), "--data-dir")


class mounted:
    """A small disk of its own, for as long as the block lasts."""

    def __init__(self, place: Path, options: str) -> None:
        self.place = place
        self._options = options

    def __enter__(self) -> Path:
        self.place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", self._options, "tmpfs", str(self.place)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small disk here: {done.stderr.decode().strip()}")
        return self.place

    def grow(self, size: str) -> None:
        """More room."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[mounted]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = mounted(tmp_path / "disk", "size=1m")
    with disk:
        yield disk


def test_a_full_disk(small_disk: mounted, make_server: MakeServer) -> None:
    server = make_server(engine="null")
    server.data = small_disk.place / "data"
    server.start()
    wire = Wire(server.uri, *server.credentials())
    promised: list[int] = []
    body = {"jobs": [{"command": "true", "held": True, "environment": {"FILL": "x" * 30_000}}]}
    status = 201
    while status == 201:
        status, answer = wire.call("POST", "/api/v2/jobs", body)
        promised += answer.get("ids", [])
    assert status == 503, answer
    assert answer["type"] == "urn:retz:unavailable"
    assert len(promised) > 3
    _is_read_only(server, wire, promised)
    server.kill()
    small_disk.grow("64m")
    server.start()
    listed = retz(server, "list", "--json").json["jobs"]
    assert {found["id"] for found in listed} >= set(promised)
    assert retz(server, "release", f"{promised[0]}").code == 0
    assert retz(server, "watch", f"{promised[0]}").code == 0
    assert submit(server, "--", "true") > max(promised)


def _is_read_only(server: ServerProcess, wire: Wire, promised: list[int]) -> None:
    """It says so wherever one looks, and goes on showing what there is."""
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(f"{server.uri}/healthz", timeout=10)
    with told.value as answer:
        assert answer.code == 503
        assert b"read-only" in answer.read()
    assert wire.call("DELETE", f"/api/v2/jobs/{promised[0]}")[0] == 503
    assert wire.call("GET", f"/api/v2/jobs/{promised[0]}")[1]["state"] == "QUEUED"
    said = retz(server, "schedule", "--", "true")
    assert said.code == 1
    assert "read-only" in said.err and "No space left on device" in said.err and "restart" in said.err
    shown = retz(server, "status")
    assert "READ-ONLY" in shown.out and "No space left" in shown.out
    assert "No space left on device" in server.log()


def test_a_start_on_a_full_disk_says_so(small_disk: mounted, make_server: MakeServer) -> None:
    server = make_server()
    server.home.mkdir()
    data = small_disk.place / "data"
    with (small_disk.place / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)
    _refused(retz_server(server, *ANY_PORT, "--data-dir", str(data)), "No space left on device", str(data))
    (small_disk.place / "ballast").unlink()
    server.data = data
    server.start()
    assert retz(server, "run", "--", "echo", "room").out == "room\n"


def test_a_job_that_fills_the_disk_hurts_itself_and_is_told(small_disk: mounted, make_server: MakeServer) -> None:
    server = make_server(settings={"RETZ_LOCAL_CPUS": "2", "RETZ_LOCAL_MEM": "1g"})
    server.data = small_disk.place / "data"
    server.start()
    greedy = submit(server, "-c", "head -c 8000000 /dev/zero; sleep 60")
    until(lambda: _full(small_disk.place), "a full disk")
    # The last page of the journal may still have room for a record or two.
    said = until(lambda: (refused := retz(server, "schedule", "--", "true")).code and refused, "a refusal")
    assert said.code == 1
    assert "read-only" in said.err and "No space left on device" in said.err
    server.kill()
    small_disk.grow("64m")
    server.start()
    assert job(server, greedy)["state"] == "STARTED"
    assert retz(server, "kill", str(greedy), "--wait").code == 0
    assert retz(server, "run", "--", "echo", "room").out == "room\n"


def _full(place: Path) -> bool:
    room = os.statvfs(place)
    return room.f_bavail * room.f_frsize < 8192
