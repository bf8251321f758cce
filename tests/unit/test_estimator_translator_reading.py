"""Reading logs: files of every kind, in bounded memory, into a store."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import ParseError
from estimator.model import RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.skylinestore.base import SkylineStore
from estimator.skylinestore.files import FileStore
from estimator.skylinestore.memory import InMemoryStore
from estimator.translator import lines, reading
from estimator.translator.base import MAX_LINE, MAX_PROBLEMS, Finished, Report, SingleLineParser
from estimator.translator.lines import BLOCK, Block, excerpt, whole_lines
from estimator.translator.native import NativeLineParser
from estimator.translator.reading import BaseLogParser, translate
from estimator.translator.resource_manager import ResourceManagerLineParser


class Words(SingleLineParser):
    """A user's own format: ``begin X`` and ``end X``."""

    name: ClassVar[str] = "words"

    def __init__(self, interval: int = 5) -> None:
        super().__init__(interval)
        self.lines: list[bytes] = []
        self.open: set[str] = set()

    def parse_line(self, line: bytes) -> Finished | None:
        self.lines.append(line)
        verb, _, name = line.decode("latin-1").partition(" ")
        if verb == "begin":
            self.open.add(name)
            return None
        if verb == "end":
            self.open.discard(name)
            return RecurrenceId("words", name), ResourceSkyline(name, Skyline.empty())
        if line:
            raise ParseError("no such verb")
        return None

    def unfinished(self) -> int:
        return len(self.open)


def parse(*paths: Path, parser: SingleLineParser | None = None, strict: bool = False) -> tuple[list[str], Report]:
    """Ids of the jobs found."""
    report = Report()
    jobs = BaseLogParser().parse(paths, parser or Words(), report, strict=strict)
    return [job.job_id for _, job in jobs], report


def native(run: str, pipeline: str = "p", units: str = "1:0|2:5|") -> bytes:
    return f"{pipeline} 1 2 3 4 {run} 8192:0| {units}\n".encode()


# -- lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines(tmp_path: Path, end: bytes, last: bool) -> None:
    path = tmp_path / "log"
    path.write_bytes(end.join([b"begin a", b"", b"end a", b"end b"]) + (end if last else b""))
    parser = Words()
    assert parse(path, parser=parser)[0] == ["a", "b"]
    assert parser.lines == [b"begin a", b"", b"end a", b"end b"]


def test_bad_lines_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"end a\nrubbish \x1b[31m\xff\x00 and " + b"more " * 50 + b"\r\nend b\n\x00\x00\nend c")
    jobs, report = parse(path)
    assert jobs == ["a", "b", "c"]
    assert (report.lines, report.bad_lines, report.jobs) == (5, 2, 3)
    where, _, what = report.problems[0].partition(" no such verb: ")
    assert where == f"{path}:2:" and what.startswith("rubbish ?[31m\ufffd?") and len(what) == 80
    assert report.problems[1] == f"{path}:4: no such verb: ??"
    with pytest.raises(ParseError, match=r"log:2: no such verb"):
        parse(path, strict=True)


def test_only_the_first_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x\n" * 1000)
    report = parse(path)[1]
    assert report.bad_lines == 1000 and len(report.problems) == MAX_PROBLEMS


def test_bad_lines_of_blocks_have_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    many = [native(f"r{number}") for number in range(20_000)]
    assert sum(map(len, many)) > 2 * BLOCK
    many[0], many[777], many[19_999] = b"a\n", b"b\n", b"c"
    path.write_bytes(b"".join(many))
    jobs, report = parse(path, parser=NativeLineParser())
    assert len(jobs) == 19_997 and report.lines == 20_000
    assert [problem.split(":")[1] for problem in report.problems] == ["1", "778", "20000"]
    assert [problem[-3:] for problem in report.problems] == [": a", ": b", ": c"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([b"\n", b"a", b"bb\n", b"c\nd", b"\n\n", b"eeeeeeeeee", b"f" * 30 + b"\n"]), max_size=30)
)
def test_pieces_of_any_size_give_the_same_lines(pieces: list[bytes]) -> None:
    """Lines of more than 20 bytes are too long here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MAX_LINE", 20)
        waiting = iter([*pieces, b""])
        found = list(whole_lines(lambda: next(waiting)))
    expected = b"".join(pieces).split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert b"".join(block.data for block in found if not block.problem).split(b"\n")[:-1] == [
        line for line in expected if len(line) <= 20
    ]
    assert len([block for block in found if block.problem]) == len([line for line in expected if len(line) > 20])
    assert all(block.data.endswith(b"\n") for block in found if not block.problem)


def test_the_longest_line_is_read_and_one_byte_more_is_not() -> None:
    for length in (MAX_LINE, MAX_LINE + 1):
        data = b"x" * length + b"\nend\n"
        pieces = iter([*(data[start : start + BLOCK] for start in range(0, len(data), BLOCK)), b""])
        found = list(whole_lines(lambda: next(pieces)))  # noqa: B023  # used at once
        assert [block.problem for block in found if block.problem] == (
            [] if length == MAX_LINE else [f"longer than {MAX_LINE} bytes"]
        )
        assert sum(len(block.data) for block in found if not block.problem) == (
            len(data) if length == MAX_LINE else len(b"end\n")
        )


def test_a_last_line_without_an_end_may_be_as_long_as_any_other() -> None:
    for length in (MAX_LINE, MAX_LINE + 1):
        pieces = iter([b"end a\n", b"x" * length, b""])
        found = list(whole_lines(lambda: next(pieces)))  # noqa: B023  # used at once
        assert [bool(block.problem) for block in found] == [False, length > MAX_LINE]


def test_a_line_of_a_gigabyte_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "wb") as file:
        file.write(b"end a\nhuge")
        file.seek(1 << 30)  # sparse: zeros that take no room on the disk
        file.write(b"\nend b\n")
    tracemalloc.start()
    try:
        jobs, report = parse(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert jobs == ["a", "b"] and report.bad_lines == 1 and report.lines == 3
    assert report.problems[0].startswith(f"{path}:2: longer than {MAX_LINE} bytes: huge??")
    assert peak < 4 * MAX_LINE


@pytest.mark.parametrize("parser", [Words, NativeLineParser, ResourceManagerLineParser])
def test_binary_garbage_is_survived(tmp_path: Path, parser: type[SingleLineParser]) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(256)) * 100 + b"\n" + b"\x00" * 5000 + b"\n" + b", Resource:\xff" * 10)
    jobs, report = parse(path, parser=parser())
    assert not jobs and report.bad_lines > 0 and report.lines == 103


def test_excerpts_can_be_printed() -> None:
    assert excerpt(b"a\x1b]0;x\x07\xe2\x80\xae\xc3\xa9\xc3\r\n") == "a?]0;x??é\ufffd"
    assert len(excerpt(b"x" * 1000)) == 80


# -- files ------------------------------------------------------------------------------------------------------


def test_a_directory_is_its_files_in_the_order_of_their_names_and_state_lives_on(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "deeper").mkdir(parents=True)
    (logs / "deeper" / "3").write_bytes(b"end z\n")
    (logs / "2.gz").write_bytes(gzip.compress(b"end a\nbegin c\n"))
    (logs / "1").write_bytes(b"begin a\nend b\n")
    os.mkfifo(logs / "pipe")
    jobs, report = parse(logs)
    assert jobs == ["b", "a"] and report.unfinished == 1 and report.lines == 4 and not report.problems


def test_links_out_of_a_directory_are_not_followed(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (tmp_path / "secret").write_bytes(b"end secret\n")
    (logs / "a").write_bytes(b"end a\n")
    (logs / "b").symlink_to("a")
    (logs / "c").symlink_to(tmp_path / "secret")
    (logs / "d").symlink_to("nowhere")
    (logs / "e").symlink_to("e")
    jobs, report = parse(logs)
    assert jobs == ["a", "a"]
    assert report.problems == [f"{logs / 'c'}: not read: the link leads out of its directory"]
    assert parse(logs / "c")[0] == ["secret"]  # named on purpose


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        parse(tmp_path / "nothing")


def test_gzip_is_known_by_its_content_and_may_have_members(tmp_path: Path) -> None:
    path = tmp_path / "plain.log"
    path.write_bytes(gzip.compress(b"end a\nen") + gzip.compress(b"d b\nend c") + b"\x00" * 9)
    assert parse(path)[0] == ["a", "b", "c"]


def test_damaged_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    path, other = tmp_path / "1.gz", tmp_path / "2"
    data = b"".join(b"end %d\n" % number for number in range(20_000))
    packed = gzip.compress(data)
    other.write_bytes(b"end last\n")
    for damaged in (packed[:-9], packed[:-8] + b"\x00" * 8, packed[:-100], packed + b"rubbish"):
        path.write_bytes(damaged)
        jobs, report = parse(tmp_path)
        assert jobs[0] == "0" and len(jobs) > 15_000 and jobs[-1] == "last"
        assert jobs[:-1] == [str(number) for number in range(len(jobs) - 1)]
        assert report.bad_lines == 1 and "damaged gzip" in report.problems[0]
        assert report.problems[0].startswith(f"{path}:{len(jobs)}: ")
        with pytest.raises(ParseError, match="damaged gzip"):
            parse(path, strict=True)
    path.write_bytes(packed[:9000] + b"\x55" * 150 + packed[9150:])  # what it unpacks to is not always told as damage
    assert parse(path)[1].bad_lines > 0
    path.write_bytes(b"\x1f\x8b")
    assert "damaged gzip" in parse(path)[1].problems[0]


def test_a_gzip_bomb_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(b"\x00" * (64 << 20)) * 4)
    tracemalloc.start()
    try:
        jobs, report = parse(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not jobs and report.bad_lines == 1 and peak < 4 * MAX_LINE


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_progress_tells_the_bytes_on_disk(tmp_path: Path, pack: type[bytes]) -> None:
    path = tmp_path / "log"
    path.write_bytes(pack(b"end a\n" * 30_000))
    seen: list[int] = []
    assert len(list(BaseLogParser().parse([path, path], Words(), Report(), progress=seen.append))) == 60_000
    assert sum(seen) == 2 * path.stat().st_size


# -- into a store -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SkylineStore:
    return InMemoryStore() if request.param == "memory" else FileStore(tmp_path / "store")


def everything(store: SkylineStore) -> dict[str, list[str]]:
    found = store.get_history(RecurrenceId("*", "*")) or {}
    return {f"{run.pipeline}/{run.run}": [job.job_id for job in jobs] for run, jobs in found.items()}


def test_translate_adds_to_the_store_once(tmp_path: Path, store: SkylineStore) -> None:
    path = tmp_path / "log"
    path.write_bytes(native("r1") + native("r2") + b"bad\n" + native("r1", "q"))
    report = translate([path], store, parser=NativeLineParser())
    assert (report.jobs, report.bad_lines, report.duplicates) == (3, 1, {})
    assert list(report.runs) == [("p", "r1"), ("p", "r2"), ("q", "r1")]
    assert everything(store) == {"p/r1": ["r1"], "p/r2": ["r2"], "q/r1": ["r1"]}
    path.write_bytes(path.read_bytes() + native("r3"))
    report = translate([path], store, parser=NativeLineParser())
    assert report.jobs == 4 and report.duplicates == {("p", "r1"): 1, ("p", "r2"): 1, ("q", "r1"): 1}
    assert everything(store) == {"p/r1": ["r1"], "p/r2": ["r2"], "p/r3": ["r3"], "q/r1": ["r1"]}


def test_a_run_that_has_one_of_the_jobs_gets_the_others(tmp_path: Path, store: SkylineStore) -> None:
    class Same(Words):
        def parse_line(self, line: bytes) -> Finished | None:
            finished = super().parse_line(line)
            return finished and (RecurrenceId("words", "run"), finished[1])

    path = tmp_path / "log"
    path.write_bytes(b"end a\n")
    translate([path], store, parser=Same())
    path.write_bytes(b"end a\nend b\nend a\nend c\n")
    assert translate([path], store, parser=Same()).duplicates == {("words", "run"): 2}
    assert everything(store) == {"words/run": ["a", "b", "c"]}


def test_the_jobs_that_a_run_lacks_are_written_at_once(
    tmp_path: Path, store: SkylineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same(Words):
        def parse_line(self, line: bytes) -> Finished | None:
            finished = super().parse_line(line)
            return finished and (RecurrenceId("words", "run"), finished[1])

    path = tmp_path / "log"
    path.write_bytes(b"end a\n")
    translate([path], store, parser=Same())
    path.write_bytes(b"".join(b"end %c\n" % letter for letter in b"abcdefghij"))
    rounds: list[int] = []
    add_many = type(store).add_many

    def counting(self: SkylineStore, runs: Iterable[tuple[RecurrenceId, list[ResourceSkyline]]]) -> list[RecurrenceId]:
        given = list(runs)
        rounds.append(sum(len(jobs) for _, jobs in given))
        return add_many(self, given)

    monkeypatch.setattr(type(store), "add_many", counting)
    assert translate([path], store, parser=Same()).duplicates == {("words", "run"): 1}
    assert rounds == [10, 9]
    assert everything(store) == {"words/run": list("abcdefghij")}


def test_two_lines_of_one_run_are_one_job(tmp_path: Path, store: SkylineStore) -> None:
    path = tmp_path / "log"
    path.write_bytes(native("r1") + native("r1", units="9:0|"))
    assert translate([path], store, parser=NativeLineParser()).duplicates == {("p", "r1"): 1}
    found = store.get_history(RecurrenceId("p", "r1")) or {}
    assert [job.skyline.peak()["vcores"] for jobs in found.values() for job in jobs] == [2]


def test_long_logs_are_stored_in_portions(tmp_path: Path, store: SkylineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    add_many = type(store).add_many

    def counting(self: SkylineStore, runs: Iterator[tuple[RecurrenceId, list[ResourceSkyline]]]) -> list[RecurrenceId]:
        portion = list(runs)
        sizes.append(len(portion))
        return add_many(self, portion)

    monkeypatch.setattr(type(store), "add_many", counting)
    monkeypatch.setattr(reading, "PORTION", 10 * 19)  # three steps and what a job costs beside them
    path = tmp_path / "log"
    path.write_bytes(b"".join(native(f"r{number}") for number in range(25)))
    assert len(translate([path], store, parser=NativeLineParser()).runs) == 25
    assert sizes == [10, 10, 5] and len(everything(store)) == 25


def test_strict_stops_and_what_came_before_stays(
    tmp_path: Path, store: SkylineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PORTION", 1)
    path = tmp_path / "log"
    path.write_bytes(native("r1") + b"bad\n" + native("r2"))
    with pytest.raises(ParseError, match="log:2: "):
        translate([path], store, parser=NativeLineParser(), strict=True)
    assert everything(store) == {"p/r1": ["r1"]}
    assert translate([path], store, parser=NativeLineParser()).duplicates == {("p", "r1"): 1}
    assert len(everything(store)) == 2


def test_an_own_log_parser_reads_what_it_likes(store: SkylineStore) -> None:
    class Canned(BaseLogParser):
        def parse(self, *arguments: object, **options: object) -> Iterator[Finished]:
            yield RecurrenceId("p", "r"), ResourceSkyline("j", Skyline.empty())

    translate([], store, parser=Words(), log_parser=Canned())
    assert everything(store) == {"p/r": ["j"]}


def test_blocks_say_what_they_are() -> None:
    assert Block(b"a\n").problem == ""
