"""The filter line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.filters import FilterError, parse


@pytest.mark.parametrize(
    ("line", "parameters"),
    [
        ("", {}),
        ("resnet", {"text": "resnet"}),
        ("train resnet", {"text": "train", "where": ["text~resnet"]}),
        ('"train resnet"', {"text": "train resnet"}),
        ('"half open', {"text": "half open"}),
        ("!resnet", {"where": ["!text~resnet"]}),
        ("state:queued", {"state": "QUEUED"}),
        ("state:q,started", {"state": "QUEUED,STARTED"}),
        ("state:all", {"state": "ALL"}),
        ("!state:queued", {"where": ["!state=QUEUED"]}),
        ("user:ann app:etl pipeline:p", {"user": "ann", "application": "etl", "pipeline": "p"}),
        ("user:ann user:bo", {"user": "ann", "where": ["user=bo"]}),
        ("!user:ann", {"where": ["!user=ann"]}),
        ("user!=ann", {"where": ["!user=ann"]}),
        ("tag:a tag:b !tag:c", {"tag": ["a", "b"], "where": ["!tag=c"]}),
        ("name:sweep", {"where": ["name~sweep"]}),
        ("agent:n7", {"where": ["agent=n7"]}),
        ("gpu>0 cpu>=4", {"where": ["gpus>0", "cpus>=4"]}),
        ("mem>8g wait>10m run<1h", {"where": ["mem>8g", "wait>10m", "run<1h"]}),
        ("!gpu>0", {"where": ["!gpus>0"]}),
        ("held", {"held": True}),
        ("!held", {"held": False}),
        ("id:3-9,12", {"ids": "3-9,12"}),
        ("user:", {}),
        ("--day=3", {"text": "--day=3"}),
        ("http://x", {"text": "http://x"}),
    ],
)
def test_lines(line: str, parameters: dict[str, Any]) -> None:
    assert parse(line).parameters == parameters


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gpu>", "gpu>4"),
        ("gpu>many", "gpu>4"),
        ("mem>8q", "mem>8g"),
        ("wait>soon", "wait>10m"),
        ("gpu:1", "gpu>0"),
        ("state:asleep", "queued"),
        ("state:f", "finished, failed"),
        ("!state:all", "which state"),
        ("id:x", "id:12,20-29"),
    ],
)
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse(line)


def test_actions_take_states_as_a_list() -> None:
    assert parse("state:queued,started gpu>0").bulk == {"state": ["QUEUED", "STARTED"], "where": ["gpus>0"]}


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_sentence(line: str) -> None:
    try:
        parse(line)
    except FilterError as error:
        assert str(error)
