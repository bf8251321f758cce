"""``retz-tui --demo``: one command, something to see, and nothing left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.terminal import until
from tests.acceptance.window import Window
from tui.demo import serving

NUMBERS = {"quit": None, "SIGTERM": signal.SIGTERM, "kill -9": signal.SIGKILL, "hang-up": None}


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    """The demo, with temporary files below ``tmp_path``."""
    shown = Window(environment(tmp_path), "--demo", columns=120, rows=40)
    yield shown
    shown.close()
    until(lambda: not left_of(tmp_path), "the demo's processes to end")


def environment(tmp_path: Path) -> dict[str, str]:
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    root = str(Path(__file__).parents[2])
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(temporary), "LANG": "C.UTF-8"} | {
        "PYTHONPATH": root
    }


def left_of(tmp_path: Path) -> list[str]:
    """Processes that know of the demo's directory, and what is in it."""
    needle = str(tmp_path / "tmp").encode()
    found = [path.name for path in (tmp_path / "tmp").iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended while we looked, or is none of ours
            if needle in told:
                found.append(told.decode(errors="replace"))
    return found


@pytest.mark.parametrize("how", NUMBERS)
def test_is_lively_and_leaves_nothing_behind(window: Window, tmp_path: Path, how: str) -> None:
    window.sees("● live")
    window.until(lambda text: "◌ queued" in text and "● started" in text, "jobs of the demo")
    window.until(lambda text: sum(user in text for user in ("ann", "bo", "cy", "dee")) >= 2, "jobs of several users")
    number = NUMBERS[how]
    if number is not None:
        window.process.send_signal(number)
    elif how == "quit":
        window.press("q")
    else:
        window.hang_up()
        window.process.wait(30)
    if how != "hang-up":
        assert window.ended() == {"quit": 0, "kill -9": -9}.get(how, window.process.returncode)
    until(lambda: not left_of(tmp_path), "the demo's processes and files to go")


def test_has_a_past_and_pipelines_with_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retz.client import Client

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with serving() as config:
        with Client(config) as client:
            status = client.status()
            assert status.user.admin and status.total.gpus == 8 and status.queued >= 200
            assert {pipeline.name: pipeline.runs >= 24 for pipeline in client.pipelines()} == {
                "etl-daily": True,
                "features": True,
            }
            skyline = client.prediction("etl-daily", kind="used").skyline
            assert skyline
            points = client.aggregates(step_s=3600).points
            assert len(points) >= 23 and {"ann", "bo", "cy", "dee"} == {
                user for point in points for user in point.by_user
            }
            assert client.list(state="FAILED", user="*").total > 10
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
