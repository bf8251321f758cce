"""Decoding of large submissions in pieces: the same as in one piece, whatever is in the texts."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.server.http import params, submission
from retz.server.http.files import Span, parse_range
from retz.server.http.views import secret_name, time_of
from retz.server.problem import Problem

TRICKY = st.text(st.sampled_from('{}[],:" \\\n},{"x€😀'), max_size=12)
JOB = st.fixed_dictionaries(
    {"command": TRICKY}, optional={"name": TRICKY, "environment": st.dictionaries(TRICKY, TRICKY, max_size=2)}
)
STYLES: list[dict[str, Any]] = [{"separators": (",", ":")}, {}, {"indent": 1}, {"ensure_ascii": False}]


def in_pieces(data: bytes, piece: int) -> submission.SubmitRequest:
    with patch.object(submission, "SMALL", 0), patch.object(submission, "PIECE", piece):
        return asyncio.run(submission.decode(data))


@settings(max_examples=60, deadline=None)
@given(st.lists(JOB, min_size=1, max_size=30), st.integers(0, 200), st.sampled_from(STYLES), st.booleans())
def test_pieces_make_the_whole(jobs: list[dict[str, Any]], piece: int, style: dict[str, Any], key_first: bool) -> None:
    request = {"key": '},{"', "jobs": jobs} if key_first else {"jobs": jobs, "key": '},{"'}
    data = json.dumps(request, **style).encode()
    assert in_pieces(data, piece) == msgspec.json.decode(data, type=submission.SubmitRequest)


@settings(max_examples=60, deadline=None)
@given(st.lists(JOB, min_size=2, max_size=20), st.integers(0, 100), st.data())
def test_what_is_damaged_is_refused(jobs: list[dict[str, Any]], piece: int, data: st.DataObject) -> None:
    whole = json.dumps({"jobs": jobs}).encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(Problem) as caught:
        in_pieces(whole[:cut], piece)
    assert caught.value.code == "bad-request"


def test_memory_is_given_back_in_slices() -> None:
    specs = in_pieces(json.dumps({"jobs": [{"command": "true"}] * 5000}).encode(), 1000).jobs
    assert len(specs) == 5000
    asyncio.run(submission.free(specs))
    assert specs == []


@given(st.text(max_size=30), st.integers(0, 2**63))
def test_any_range_header_is_understood_or_ignored(header: str, size: int) -> None:
    span = parse_range(header, size)
    assert span == "all" or span == "unsatisfiable" or 0 <= span.start < span.stop <= size


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_ranges_select_what_they_name(first: int, last: int, size: int) -> None:
    content = bytes(range(size))
    span = parse_range(f"bytes={first}-{last}", size)
    if first > last:
        assert span == "all"
    elif first >= size:
        assert span == "unsatisfiable"
    else:
        assert isinstance(span, Span)
        assert content[span.start : span.stop] == content[first : last + 1]


@pytest.mark.parametrize("text", ["", " 1", "+1", "1_0", "٣", "1.0", "0x1", "1e3", "9" * 30])
def test_only_plain_digits_are_whole_numbers(text: str) -> None:
    with pytest.raises(Problem):
        params.integer("n", text, 0, 10**18)


def test_times_are_read_with_and_without_an_offset() -> None:
    assert params.parse_time("t", "2026-11-20T06:27:17.123Z") == 1795156037.123
    assert params.parse_time("t", "2026-11-20T06:27:17.123") == 1795156037.123
    # An offset whose plus was not escaped arrives as a space.
    assert params.parse_time("t", "2026-11-20T07:27:17.123 01:00") == 1795156037.123
    assert params.parse_time("t", "2026-11-20") == 1795132800.0
    assert time_of(1795156037.123) == "2026-11-20T06:27:17.123Z"


@pytest.mark.parametrize(
    ("name", "secret"), [("TOKEN", True), ("my_secret_x", True), ("PassWord", True), ("SSH_KEY", True), ("PATH", False)]
)
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert secret_name(name) is secret
