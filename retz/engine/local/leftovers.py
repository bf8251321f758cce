"""What is left of containers whose keepers were killed, and how it is taken away; see ``container.py``.

Apart from it, because the launcher wants to start quickly.
"""

# ruff: noqa: PTH106, PTH108, PTH208
from __future__ import annotations

import json
import os

from .system import complain

ROOT = "containers"
"""Of the engine's directory: one directory per container that is, or may be, there."""


def removal(task: str) -> tuple[list[str], dict[str, str]] | None:
    """Return the command that takes away the container of a task, and its environment; None if there is none."""
    try:
        with open(f"{ROOT}/{task}/remove", encoding="utf-8") as file:
            argv, environment = json.load(file)
    except (OSError, ValueError):
        return None
    return argv, environment


def forget(task: str, base: str = ".") -> None:
    """The container of this task is gone."""
    place = f"{base}/{ROOT}/{task}"
    try:
        for name in os.listdir(place):
            os.unlink(f"{place}/{name}")
        os.rmdir(place)
    except OSError:
        return  # found again, and tried again, by the next launcher


def clean_up(*, last: bool) -> None:
    """Take away all containers that are left.

    Called twice: while all of them still live, because a runtime whose monitor was killed waits for it in vain, and,
    as the ``last``, when nobody is left who could start one.
    """
    try:
        tasks = os.listdir(ROOT)
    except FileNotFoundError:
        return
    groups: dict[tuple[str, ...], list[str]] = {}
    environments = {}
    for task in tasks:
        command = removal(task)
        if command is not None:
            *front, name = command[0]
            groups.setdefault(tuple(front), []).append(name)
            environments[tuple(front)] = command[1]
    # At the second try podman no longer waits for the monitor.
    done = all(any(_call([*front, *names], environments[front]) for _ in "12") for front, names in groups.items())
    if last and done:
        for task in tasks:
            forget(task)


def _call(argv: list[str], environment: dict[str, str]) -> bool:
    from . import runtime

    done = runtime.call(argv, environment, runtime.CALL_S)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    # One that was killed, or did not answer, says nothing of errors.
    if done.returncode and not (errors and all(map(runtime.is_unknown, errors))):
        complain(f"cannot remove containers: {done.stderr}")
        return False
    return True
