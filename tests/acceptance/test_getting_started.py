"""The story "What the queue learns" of docs/getting-started.md, typed as it stands there, with nothing configured."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

from .conftest import MakeServer

DOCS = Path(__file__).parents[2] / "docs" / "getting-started.md"
SHAPE = 12
"""So many characters of a line of output are as in the page, numbers apart: what follows depends on the machine."""


def story() -> str:
    text = DOCS.read_text(encoding="utf-8")
    return text[text.index("## What the queue learns") : text.index("Next: [")]


def shape(line: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.]*[a-zA-Z%]?", "#", line)).strip()[:SHAPE]


def commands() -> list[tuple[str, list[str]]]:
    """Each command with the lines that the page shows of its output."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", story(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line != "…":
                found[-1][1].append(shape(line))
    return found


@pytest.fixture
def alone(make_server: MakeServer) -> ServerProcess:
    """A server as it comes; its jobs are this test's only."""
    server = make_server()
    server.start()
    return server


def test_a_guess_becomes_a_size_and_the_queue_says_why_and_when(alone: ServerProcess, tmp_path: Path) -> None:
    programs, directory = tmp_path / "bin", tmp_path / "work"
    programs.mkdir()
    directory.mkdir()
    retz = programs / "retz"
    retz.write_text(f'#!/bin/sh\nexec {sys.executable} -P -c "from retz.cli import main; main()" "$@"\n')
    retz.chmod(0o755)
    (program,) = re.findall(r"```python\n(.*?)```", story(), re.DOTALL)
    (directory / "etl.py").write_text(program)
    environment = {**alone.environment, "PATH": f"{programs}:{alone.environment['PATH']}"}
    said: dict[str, str] = {}
    for command, lines in commands():
        if "--predicted" in command:  # it runs until we have asked what the next one waits for
            (directory / "etl.py").write_text(program.replace("time.monotonic() < end", "not os.path.exists('go')")
                                              .replace("import sys", "import os, sys"))  # fmt: skip
        if "watch" in command:
            (directory / "go").touch()
        done = subprocess.run(
            ["bash", "-c", command], cwd=directory, env=environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == (137 if "--wait" in command else 0), (command, done.stderr)
        output = done.stdout
        assert set(lines) <= {shape(line) for line in output.splitlines()}, (command, lines, output)
        said[command] = output
    given = int(re.search(r"--predicted gives (\d+)M", said["retz predict etl"])[1])  # type: ignore[index]
    assert 300 < given < 600
    assert (directory / "etl.png").read_bytes().startswith(b"\x89PNG")
    assert f"{given}M" in said["retz eff --pipeline etl"]
    cpus = len(os.sched_getaffinity(0))
    assert f"needs {cpus} cpu" in said["retz why 5"] and f"{cpus - 1} free" in said["retz why 5"]


def test_the_picture_of_the_page_is_there() -> None:
    for name in re.findall(r"\]\((pictures/[^)]+)\)", story()):
        assert (DOCS.parent / name).stat().st_size > 10_000
