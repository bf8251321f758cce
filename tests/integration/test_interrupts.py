"""Ctrl-C while ``retz run`` follows a job: it is never dropped."""

from __future__ import annotations

import subprocess
import sys

FOLLOWS = """
import os, signal, sys, threading
from types import SimpleNamespace
from retz.cli import attached

class Copier:
    reader_gone = threading.Event()
    def __init__(self, *args): pass
    def start(self): pass
    def join(self): pass

class Odd:
    def __del__(self):
        os.kill(os.getpid(), signal.SIG{name})
        for _ in range(1000): pass  # here the exception is raised, and dropped

class Attached(attached.Attached):
    def _ended(self, number, copiers):
        Odd()
        print("dropped", flush=True)
        threading.Event().wait(30)
        return dict(state="FINISHED", exit_code=0)

    def _interrupted(self):
        print("asked", flush=True)
        return False

attached.Copier = Copier
app = SimpleNamespace(transport=SimpleNamespace(close=lambda: None))
sys.exit(Attached(app, [1]).follow(1))
"""


def ran(name: str) -> subprocess.CompletedProcess[str]:
    script = FOLLOWS.replace("{name}", name)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_an_interrupt_that_falls_into_a_finalizer_is_raised_again() -> None:
    for name in ("INT", "TERM"):
        done = ran(name)
        assert (done.stdout, done.stderr, done.returncode) == ("dropped\nasked\n", "", 0)
