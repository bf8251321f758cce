"""How child processes of our own are started."""

from __future__ import annotations

import os
import sys


def command(module: str) -> list[str]:
    """Run a module of ours with this interpreter; what lies in the working directory is not looked at."""
    return [sys.executable, "-P", "-m", module]


def environment(**more: str) -> dict[str, str]:
    """This process's variables; what this process can import, the child can, the user's own classes too."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)  # noqa: PTH100 - text to text
    return {**os.environ, "PYTHONPATH": path, **more}
