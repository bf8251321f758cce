"""What a job may ask for depends on the agents there are, as far as they are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from retz.config_server import load_server
from retz.model.agent import Agent
from retz.model.resources import Resources
from retz.model.submission import JobSpec, ResourcesSpec
from retz.server.admission import Admission
from retz.server.problem import Problem


def memory_of(tmp_path: Path, agents: list[Agent], **asked: float) -> int:
    """Submit a job; the memory it gets."""
    config = load_server({}, environ={"HOME": str(tmp_path)})
    admission = Admission(config, lambda: agents, lambda key: None, frozenset())
    (job,) = admission.build([JobSpec("true", resources=ResourcesSpec(**asked))], "ann", [1], 0.0)  # type: ignore[arg-type]
    return job.resources.mem


def agent(name: str, cpus: float, mem: int, *, guessed: bool = False) -> Agent:
    return Agent(id=name, host=name, total=Resources(cpus=cpus, mem=mem), guessed=guessed)


def test_more_than_the_largest_agent_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="4 cpus is more than the largest agent has"):
        memory_of(tmp_path, [agent("a", 2, 2048)], cpus=4)


def test_an_agent_that_may_have_more_than_was_seen_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """A cluster of which only the rests are on offer right after the server's start."""
    agents = [agent("a", 2, 2048), agent("b", 0.25, 2048, guessed=True)]
    assert memory_of(tmp_path, agents, cpus=4) == 512, "nor is the memory per cpu of a rest what a job should get"
    assert memory_of(tmp_path, agents[:1], cpus=1) == 1024


def admission_of(tmp_path: Path, agents: list[Agent], engine: str) -> Admission:
    config = load_server({"retz.engine": engine}, environ={"HOME": str(tmp_path)})
    return Admission(config, lambda: agents, lambda key: None, frozenset())


LARGE = JobSpec("true", resources=ResourcesSpec(cpus=4, mem=100))
ODD = JobSpec("true", resources=ResourcesSpec(cpus=1, mem=100), attributes="rack=r9")


def test_on_a_cluster_whose_agents_come_and_go_it_is_a_warning(tmp_path: Path) -> None:
    agents = [agent("a", 2, 2048)]
    admission = admission_of(tmp_path, agents, "mesos")
    assert admission.build([LARGE], "ann", [1], 0.0)
    assert admission.warnings([LARGE, ODD, LARGE], [5, 6, 7]) == [
        (5, 2, "would never fit: needs 4 cpus, the largest agent has 2"),
        (6, 1, "needs rack=r9: no agent has it"),
    ]
    agents.append(agent("b", 8, 2048))
    admission.agents_changed()
    assert admission.warnings([LARGE], [5]) == []


def test_nobody_is_warned_while_no_agent_is_known(tmp_path: Path) -> None:
    assert admission_of(tmp_path, [], "mesos").warnings([LARGE, ODD], [5, 6]) == []


@pytest.mark.parametrize("engine", ["local", "mesos"])
def test_strict_refuses_what_could_never_run(tmp_path: Path, engine: str) -> None:
    admission = admission_of(tmp_path, [agent("a", 2, 2048)], engine)
    with pytest.raises(Problem, match="strict: it could never run here as things are: needs rack=r9: no agent has it"):
        admission.build([replace(ODD, strict=True)], "ann", [1], 0.0)
    assert admission.build([replace(ODD, attributes=None, strict=True)], "ann", [1], 0.0)
    assert admission.build([ODD], "ann", [1], 0.0)
