"""``retz-server setup-mesos``: install what the Mesos engine needs into the Python that runs the server."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from retz.engine.base import EngineError

from .compat import NEEDS, PYMESOS

NEXT = "Next: retz-server --engine mesos --mesos-master HOST:PORT (or set retz.mesos.master), see docs/mesos.md"

UNREACHABLE = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "NewConnectionError",
    "No matching distribution found",
    "Network is unreachable",
)

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def setup_mesos(echo: Callable[[str], None], run: Run | None = None) -> None:
    """Install pymesos and its needs with pip; does nothing if they are there.

    Args:
        echo: Takes lines for the operator.
        run: Runs a command and returns its output, for tests.

    Raises:
        EngineError: it cannot be done here; the text says what to do instead.
    """
    if installed():
        echo(f"{PYMESOS} and all it needs are installed in {sys.prefix}.")
        echo(NEXT)
        return
    require_pip()
    echo(f"Installing {PYMESOS} and what it needs into {sys.prefix} ...")
    # pymesos asks for http-parser, which no longer compiles; compat.py has the remedy.
    for arguments in (list(NEEDS), ["--no-deps", PYMESOS]):
        _pip(arguments, run or _run)
    importlib.invalidate_caches()
    if not installed():
        raise EngineError(f"pip said it installed {PYMESOS}, but {sys.executable} does not find it: is PYTHONPATH set?")
    echo("Done.")
    echo(NEXT)


def installed() -> bool:
    """Whether the right pymesos and all it needs can be imported."""
    if any(importlib.util.find_spec(name) is None for name in ("pymesos", *NEEDS)):
        return False
    name, _, version = PYMESOS.partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def require_pip() -> None:
    """See whether pip may install here.

    Raises:
        EngineError: see :func:`setup_mesos`.
    """
    if importlib.util.find_spec("pip") is None:
        raise EngineError(
            f"{sys.executable} has no pip. '{sys.executable} -m ensurepip' adds it; with uv, run {_by_hand('uv pip')}"
        )
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    if sys.prefix == sys.base_prefix and marker.exists():
        raise EngineError(
            f"{sys.prefix} is managed by the operating system, and pip may not install there. Run Retz from an "
            "environment of its own: 'python3 -m venv ~/retz', '~/retz/bin/pip install retz', "
            "'~/retz/bin/retz-server setup-mesos'"
        )


def _pip(arguments: Sequence[str], run: Run) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    result = run(command)
    if result.returncode == 0:
        return
    if any(text in result.stderr for text in UNREACHABLE):
        raise EngineError(
            "pip found no package index to install from. Behind a proxy set HTTPS_PROXY; with an index of your own set "
            f"PIP_INDEX_URL; without a network, 'pip download' on another machine, and here {_by_hand('pip')} "
            f"with '--no-index --find-links DIRECTORY'. pip's last words: {_last_line(result.stderr)}"
        )
    raise EngineError(f"'{' '.join(command)}' failed:\n{result.stderr.strip()}")


def _by_hand(pip: str) -> str:
    return f"'{pip} install {' '.join(NEEDS)}' and '{pip} install --no-deps {PYMESOS}'"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["nothing"])[-1]
