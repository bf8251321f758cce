"""What a master and its agents answer, compared with what a real Mesos answered to the same requests.

One test per recording. The double is asked; with ``--mesos HOST:PORT`` a real master is, and what would need power over
the cluster is skipped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance import scenarios
from tests.conformance.double import double
from tests.conformance.recording import load, names, unproxied
from tests.conformance.replay import Replay
from tests.conformance.scenario import NotPossible
from tests.conformance.target import RealCluster


@pytest.mark.parametrize("name", names())
def test_answers_are_those_of_mesos(name: str, mesos: tuple[str, int] | None, tmp_path: Path) -> None:
    problems = asyncio.run(_problems(name, mesos, tmp_path))
    assert not problems, "\n".join(problems)


async def _problems(name: str, mesos: tuple[str, int] | None, work_dir: Path) -> list[str]:
    recording = unproxied(load(name)) if name == "25" else load(name)
    scenario = scenarios.of(recording)
    if mesos is not None:
        replay = Replay(recording, scenario, await RealCluster.at(*mesos))
        try:
            return await replay.run()
        except NotPossible as error:
            if not replay.problems:
                pytest.skip(f"up to here as recorded; {error}")
            return replay.problems
    if scenario.missing is not None:
        pytest.skip(f"the double has not {scenario.missing}")
    async with double(name, work_dir) as cluster:
        return await Replay(recording, scenario, cluster).run()
