"""One server per data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retz.store.database import Database, StoreLocked

HOLDER = """
import sys
from pathlib import Path
from retz.store.database import Database
database = Database.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
database.close()
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    """Start a process that has the directory open until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as process:
        with pytest.raises(StoreLocked, match=rf"process {process.pid}\b"):
            Database.open(tmp_path / "data")
        Database.open(tmp_path / "data", read_only=True).close()
        process.communicate(timeout=20)
    Database.open(tmp_path / "data").close()


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    with holder(tmp_path / "data") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        Database.open(tmp_path / "data").close()


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    with Database.open(tmp_path / "data"), pytest.raises(StoreLocked, match=str(os.getpid())):
        Database.open(tmp_path / "data")
