"""What ``retz eta`` says, in words and local times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from retz.cli.eta import about, between, sentence
from retz.cli.jobs import details, waited_text
from retz.cli.listing import clock, eta_text
from retz.cli.output import print_text
from tests.doubles.api import job

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def iso(hours: float) -> str:
    return datetime.fromtimestamp(NOW + hours * 3600, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def moment(half: float, most: float) -> dict[str, str]:
    return {"p50": iso(half), "p90": iso(most)}


def eta(**fields: Any) -> dict[str, Any]:
    known = {"id": 12, "name": "", "state": "QUEUED", "start": None, "end": None, "not_before": None}
    return known | {"source": None, "note": None, "as_of": None, "age_s": None} | fields


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (-3, "now"),
        (0.0002, "now"),
        (0.0025, "in 9s"),
        (0.05, "14:03:00"),
        (2.1, "16:06"),
        (20, "Sat 10:00"),
        (24 * 40, "2026-12-30"),
    ],
)
def test_times_are_local_and_as_short_as_they_are_clear(hours: float, text: str) -> None:
    assert clock(iso(hours), NOW) == text


def test_half_and_most() -> None:
    assert about(moment(1, 1.5), NOW) == "about 15:00 (by 15:30 in 9 of 10)"
    assert about(moment(1, 1.001), NOW) == "about 15:00"
    assert about(moment(0, 1), NOW) == "now (by 15:00 in 9 of 10)"
    assert about(moment(0.0025, 0.005), NOW) == "in about 9s (within 18s in 9 of 10)"
    assert about(moment(0.0025, 0.0025), NOW) == "in about 9s"
    assert about(moment(0.0025, 1), NOW) == "in about 9s (by 15:00 in 9 of 10)"
    assert between(moment(0.0025, 0.005), NOW) == "in 9s-18s"
    assert between(moment(1, 1.5), NOW) == "15:00-15:30"
    assert between(None, NOW) == ""


def test_a_list_says_when_what_waits_starts_and_what_runs_ends() -> None:
    assert eta_text({"eta": {"start": moment(1, 2), "end": moment(2, 3)}}, NOW) == "start 15:00"
    assert eta_text({"eta": {"start": None, "end": moment(2, 3)}}, NOW) == "end 16:00"
    assert eta_text({"eta": {"start": None, "end": None}}, NOW) == eta_text({}, NOW) == ""


def test_sentences() -> None:
    queued = eta(name="fit", start=moment(1, 1.5), end=moment(2, 4), source="similar")
    assert sentence(queued, NOW) == (
        "job 12 (fit) starts about 15:00 (by 15:30 in 9 of 10), ends about 16:00 (by 18:00 in 9 of 10);"
        " from your last similar jobs"
    )
    running = eta(state="STARTED", end=moment(2, 2), source="limit")
    assert sentence(running, NOW) == "job 12 ends about 16:00; supposing that it uses all of its time limit"
    deep = eta(not_before=iso(5), note="too far behind others to be looked at one by one")
    assert sentence(deep, NOW) == (
        "job 12 starts not before 19:00, about: it is too far behind others to be looked at one by one"
    )
    near = eta(not_before=iso(0.0025), note="too far behind")
    assert sentence(near, NOW) == "job 12 starts not before 9s from now, about: it is too far behind"
    assert sentence(eta(note="it has ended"), NOW) == "job 12: it has ended"


def test_a_job_says_when_it_starts_and_ends() -> None:
    told = dict(details(job(eta={"start": moment(1, 1.5), "end": moment(2, 2)}), NOW))
    assert told["eta"] == "starts about 15:00 (by 15:30 in 9 of 10), ends about 16:00"
    assert dict(details(job(eta=None), NOW))["eta"] == ""


def test_long_lines_are_broken_on_terminals_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "why: " + "runs stray by 4%; " * 6 + "a-long-word"
    print_text(text, "  ")
    assert capsys.readouterr().out == text + "\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_text(text, "  ")
    first, second = capsys.readouterr().out.splitlines()
    assert len(first) <= 80 and second.startswith("  ") and second.endswith(" a-long-word")


def test_a_wait_is_as_long_as_its_parts() -> None:
    waited = [{"cause": "held", "resource": None, "seconds": 5.6, "text": "6s held"}]
    answer = {"state": "QUEUED", "waited_s": 5.6, "waited": waited, "unknown_s": 0.0}
    assert waited_text(answer) == "it has waited 6s: 6s held"
