"""Made-up logs: what the translators find in them is what was put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from estimator.sample import Line, native_log, resource_manager_log, tpch_q12
from estimator.translator.base import Report, SingleLineParser
from estimator.translator.native import NativeLineParser
from estimator.translator.reading import BaseLogParser
from estimator.translator.resource_manager import ResourceManagerLineParser

MAKERS: dict[str, tuple[Callable[..., Iterator[Line]], type[SingleLineParser], dict[str, Any]]] = {
    "native": (native_log, NativeLineParser, {"units": 7, "interval": 3}),
    "rm": (resource_manager_log, ResourceManagerLineParser, {}),
    "rm, mixed": (resource_manager_log, ResourceManagerLineParser, {"mixed": True, "containers": 30}),
    "rm, log4j": (resource_manager_log, ResourceManagerLineParser, {"layout": "log4j"}),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_truth_is_found(tmp_path: Path, name: str, seed: int) -> None:
    make, parser, options = MAKERS[name]
    lines = list(make(40, seed=seed, **options))
    path = tmp_path / "log"
    path.write_text("".join(f"{line.text}\n" for line in lines))
    report = Report()
    found = list(BaseLogParser().parse([path], parser(options.get("interval", 5)), report))
    assert found == [line.finishes for line in lines if line.finishes]
    assert len(found) == 40 and report.bad_lines == 0 and report.unfinished == 0
    assert any(not job.skyline.is_empty for _, job in found)


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_makes_one_log(name: str) -> None:
    make, _, options = MAKERS[name]
    texts = [[line.text for line in make(5, seed=seed, **options)] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def test_applications_overlap_and_time_goes_forward() -> None:
    lines = list(resource_manager_log(5))
    times = [datetime.strptime(line.text.split(",")[1], "%m/%d/%Y %H:%M:%S") for line in lines]
    assert times == sorted(times)
    submissions = [index for index, line in enumerate(lines) if "Submit Application" in line.text]
    assert len([line for line in lines[: submissions[-1]] if line.finishes]) < 4


def test_the_query_of_the_demo() -> None:
    parser = NativeLineParser()
    found = [finished for line in tpch_q12() if (finished := parser.parse_line(line.encode()))]
    assert tpch_q12() == tpch_q12()
    assert [run for run, _ in found] == [("tpch_q12", f"tpch_q12_{number}") for number in range(9)]
    for _, job in found:
        stages = [amount for amount, _ in groupby(job.skyline.column("vcores")[:-1].tolist())]
        assert len(stages) in (4, 5) and stages[0] == 1
        assert 200 <= job.skyline.duration <= 290
        assert 2e6 < job.skyline.peak()["memory"] < 3e6  # MB: some 2.5 TB
    assert len({job.skyline.duration for _, job in found}) > 5
