"""docs/mesos.md explains every word of Mesos that Retz understands, and every reason that Retz gives."""

from __future__ import annotations

import re
import typing
from pathlib import Path

from retz.engine.mesos import statuses
from retz.engine.mesos.statuses import MEANINGS
from retz.model.job import Reason

DOCUMENT = (Path(__file__).parents[2] / "docs/mesos.md").read_text()
ROWS = dict(re.findall(r"^\| `((?:TASK|REASON)_[A-Z_]+)` \| (.+) \|$", DOCUMENT, re.MULTILINE))


def test_every_state_and_reason_has_its_row_with_the_meaning_that_the_code_gives() -> None:
    assert MEANINGS.items() <= ROWS.items()


def test_every_state_and_reason_that_is_treated_specially_has_a_meaning() -> None:
    source = Path(statuses.__file__).read_text()
    words = set(re.findall(r'"((?:TASK|REASON)_[A-Z_]+)"', source))
    going_well = {"TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"}
    assert words - going_well <= MEANINGS.keys()
    assert len(words) > 30


def test_every_reason_of_a_job_is_explained() -> None:
    of_the_queue = {"dependency", "max_fails", "tasks"}  # they have nothing to do with where a job runs
    reasons = set(typing.get_args(Reason)) - of_the_queue
    assert len(reasons) == 10
    assert [reason for reason in reasons if f"`{reason}`" not in DOCUMENT] == []


def test_every_word_of_mesos_in_the_document_is_one_that_retz_knows() -> None:
    words = set(re.findall(r"\b(?:TASK|REASON)_[A-Z_]+", DOCUMENT)) - {"TASK_KILLING_STATE"}
    assert words <= MEANINGS.keys()
