"""The native format: what Hadoop's own test expects, and lines that nobody meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import ParseError
from estimator.model import RecurrenceId
from estimator.skyline import MAX_TIME, Skyline
from estimator.translator.base import Finished
from estimator.translator.lines import each_line
from estimator.translator.native import NativeLineParser

RUN = b"tpch_q12 50 1462148517000 1462148527345 1462148952345 tpch_q12_0 8192:0| "


def containers(*steps: tuple[int, int]) -> Skyline:
    return Skyline.of({time: {"memory": 1024.0 * count, "vcores": count} for time, count in steps})


def parse(units: bytes, interval: int = 5) -> Finished:
    """The job of a line with these units; the two ways of parsing must agree."""
    finished = NativeLineParser(interval).parse_line(RUN + units)
    assert finished is not None
    assert block(RUN + units + b"\n", interval) == ([finished], [])
    return finished


def block(data: bytes, interval: int = 5) -> tuple[list[Finished], list[tuple[int, str]]]:
    bad: list[tuple[int, str]] = []
    jobs = list(NativeLineParser(interval).parse_block(data, lambda offset, why: bad.append((offset, why))))
    return jobs, bad


def test_hadoops_own_line() -> None:
    run, job = parse(b"1:0|1:5|1074:10|2538:15|2468:20|")
    assert run == RecurrenceId("tpch_q12", "tpch_q12_0")
    assert (job.job_id, job.submitted, job.finished, job.input_size) == ("tpch_q12_0", 0, 25, 0.0)
    assert job.container == {"memory": 1024.0, "vcores": 1.0} and job.used is None
    assert job.skyline == containers((0, 1), (10, 1074), (15, 2538), (20, 2468), (25, 0))
    for time, count in ((9, 1), (10, 1074), (14, 1074), (19, 2538), (24, 2468), (25, 0)):
        assert job.skyline.at(time)["memory"] == 1024 * count


def test_one_interval_survives() -> None:
    assert parse(b"7:0")[1].skyline == containers((0, 7), (5, 0))
    assert parse(b"7:0|", 20)[1].skyline == containers((0, 7), (20, 0))


def test_units_that_overlap_add_up_and_may_come_in_any_order() -> None:
    _, job = parse(b"4:10|1:0|2:2|")
    assert job.skyline == containers((0, 1), (2, 3), (5, 2), (7, 0), (10, 4), (15, 0))
    assert job.finished == 15
    assert parse(b"3:5|3:5")[1].skyline == containers((5, 6), (10, 0))


def test_gaps_and_zeros() -> None:
    _, job = parse(b"0:0|2:100|2:105|0:110|")
    assert job.skyline == containers((100, 2), (110, 0))
    assert job.finished == 115
    assert parse(b"0:0|")[1].skyline.is_empty


def test_a_run_that_held_nothing_is_a_run() -> None:
    _, job = parse(b"|")
    assert job.skyline.is_empty and job.finished == 0


def test_blanks_tabs_more_fields_and_line_ends_make_no_difference() -> None:
    line = RUN.replace(b" ", b" \t ") + b"1:0| and more"
    finished = NativeLineParser().parse_line(line)
    assert finished is not None and finished[1].skyline == containers((0, 1), (5, 0))
    assert block(line + b"\r\n\n  \n" + line + b"\n") == ([finished, finished], [])


@pytest.mark.parametrize(
    "units",
    [
        b"x",
        b"1",
        b"1:",
        b":1",
        b"1:2:3",
        b"1:0||2:5",
        b"-1:0",
        b"1:-5",
        b"+1:0",
        b"1.5:0",
        b"1e3:0",
        b"nan:0",
        b"inf:0",
        b"1_0:0",
        "١:0".encode(),
        b"18446744073709551616:0",
        b"1:18446744073709551616",
        b"1:9007199254740992",
        b"9007199254740992:0",
        b"8796093022208:0|8796093022208:0",
        b"9" * 5000 + b":0",
        b"1\x00:0",
        b"\xff\xfe:0",
    ],
)
def test_bad_units(units: bytes) -> None:
    with pytest.raises(ParseError):
        NativeLineParser().parse_line(RUN + units)
    good = RUN + b"1:0|\n"
    jobs, bad = block(good * 30 + RUN + units + b"\n" + good * 30)
    assert len(jobs) == 60 and [offset for offset, _ in bad] == [30 * len(good)]


def test_the_largest_numbers() -> None:
    _, job = parse(b"8796093022208:%d" % (MAX_TIME - 5))
    assert job.skyline.peak()["memory"] == 2.0**53 and job.finished == MAX_TIME
    assert parse(b"%s1:0" % (b"0" * 300))[1].skyline == containers((0, 1), (5, 0))


@pytest.mark.parametrize("line", [b"a b c", RUN.strip(), b"\x00" * 100, bytes(range(256)), b"// a remark"])
def test_too_few_fields(line: bytes) -> None:
    for piece in line.split(b"\n"):
        with pytest.raises(ParseError, match="8"):
            NativeLineParser().parse_line(piece)


def test_names() -> None:
    line = RUN.replace(b"tpch_q12 ", "größe ".encode()) + b"1:0|"
    finished = NativeLineParser().parse_line(line)
    assert finished is not None and finished[0].pipeline == "größe"
    finished = NativeLineParser().parse_line(RUN.replace(b"tpch_q12 ", b"a\xff ") + b"1:0|")
    assert finished is not None and finished[0].pipeline == "a\\xff"
    for name in (b"a\x1b[31m", b"a\x00", b"x" * 1001):
        with pytest.raises(ParseError, match="name of the pipeline"):
            NativeLineParser().parse_line(RUN.replace(b"tpch_q12 ", name + b" ") + b"1:0|")
        assert len(block(RUN.replace(b"tpch_q12 ", name + b" ") + b"1:0|\n")[1]) == 1


unit_texts = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 30)).map(lambda unit: b"%d:%d" % unit),
    st.tuples(st.integers(0, 10**13), st.integers(0, 10**16)).map(lambda unit: b"%d:%d" % unit),
    st.sampled_from([b"", b"1:", b"-1:2", b"1:2.5"]),
)
ordinary = st.lists(st.integers(0, 9), max_size=6).map(
    lambda counts: b"|".join(b"%d:%d" % (count, 5 * k) for k, count in enumerate(counts)) + b"|"
)
skylines = st.one_of(ordinary, ordinary, st.lists(unit_texts, max_size=6).map(b"|".join))
lines = st.one_of(
    skylines.map(lambda units: RUN + units),
    skylines.map(lambda units: RUN + units),
    st.sampled_from([b"", b" ", b"\r", b"a b", RUN + b"1:0| extra", b"\xe4 " * 8, b"\x00"]),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b" ")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=50), st.integers(1, 7))
def test_a_block_is_its_lines(several: list[bytes], interval: int) -> None:
    data = b"".join(line + b"\n" for line in several)
    bad: list[Any] = []
    parser = NativeLineParser(interval)
    one_by_one = list(each_line(data, parser.parse_line, lambda *problem: bad.append(problem)))
    assert block(data, interval) == (one_by_one, bad)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 40)), min_size=1, max_size=8), st.integers(1, 9))
def test_units_against_seconds(units: list[tuple[int, int]], interval: int) -> None:
    dense = [0] * 50
    for count, start in units:
        for second in range(start, start + interval):
            dense[second] += count
    _, job = parse(b"|".join(b"%d:%d" % unit for unit in units), interval)
    assert [job.skyline.at(second)["vcores"] for second in range(50)] == dense
