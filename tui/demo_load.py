"""The life of the demo: submits as its users would, so that the queue never runs dry."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from retz.client import ApiError, Client, NoServer, RetzError
from retz.config import ClientConfig

from .demo_jobs import ADMIN, KINDS, PIPELINES, PROGRAM, USERS, Kind, Pipeline, command

QUEUE = 260
"""Fewer jobs waiting, and more are submitted."""
AT_ONCE = 25
"""As many at most in one breath."""
PROGRAMS = {kind.program for kind in KINDS} | {f"{step.name}.py" for pipe in PIPELINES for step in pipe.steps}

HOG = "hold = []\nwhile True:\n    hold.append(bytearray(b'x') * (1 << 20))\n"


def write_programs(work: Path) -> None:
    """What the jobs run."""
    work.mkdir()
    for name in PROGRAMS:
        (work / name).write_text(PROGRAM)
    (work / "hog.py").write_text(HOG)


class Load:
    """The users at their keyboards.

    Args:
        config: Where the server is.
        secrets: Of each user.
        work: Where their programs are.
    """

    def __init__(self, config: ClientConfig, secrets: Mapping[str, str], work: Path, dice: random.Random) -> None:
        patient = replace(config, server_retry=0.0)
        self._clients = {user: Client(patient, key=user, secret=secrets[user]) for user in USERS}
        self._work = work
        self._dice = dice
        self._runs: dict[str, float] = {}
        self._steps: list[tuple[float, str, dict[str, object]]] = []
        self._odd_at = 0.0
        self._made = 0

    def close(self) -> None:
        """Drop the connections."""
        for client in self._clients.values():
            client.close()

    def begin(self) -> None:
        """What is there only once: applications, jobs that are held, and one that can never start here."""
        for kind in KINDS:
            if kind.application != "default":
                self._clients[kind.owner].put_application(kind.application)
        self._clients[ADMIN].put_application("warehouse")
        cy = self._clients["cy"]
        spec = {"application": "default", "directory": str(self._work)}
        for name in ("paper-figures", "retrain-all"):
            cy.submit(command("notebook.py", 20, 20), name=name, held=True, cpus=2, mem="2g", **spec)
        rack = "python train.py 60 40"
        while self._top_up() == AT_ONCE:
            continue
        cy.submit(rack, name="train-on-rack-r9", attributes="rack=r9", cpus=4, mem="4g", gpus=1, **spec)

    def tick(self) -> None:
        """A second has passed. A server that is away is waited for."""
        with contextlib.suppress(NoServer):
            try:
                self._top_up()
                self._pipelines(time.monotonic())
                self._odd_ones(time.monotonic())
            except ApiError as error:
                if error.status < 500 and error.status != 409:
                    raise
            except RetzError:
                return  # the connection broke: the next second finds out more

    def _top_up(self) -> int:
        """Submit some of what is lacking; how many."""
        lacking = max(0, min(AT_ONCE, QUEUE - self._clients[ADMIN].status().queued))
        kinds = self._dice.choices(KINDS, weights=[kind.hourly for kind in KINDS], k=lacking)
        for user in {kind.owner for kind in kinds}:
            self._clients[user].submit_many([self._spec(kind) for kind in kinds if kind.owner == user])
        return lacking

    def _spec(self, kind: Kind) -> dict[str, object]:
        self._made += 1
        code = 3 if self._dice.random() * 100 < kind.fails else 0
        line = command(kind.program, self._dice.uniform(*kind.seconds), kind.memory, code)
        return {
            "command": line,
            "name": f"{kind.name}[{self._made % 97}]" if kind.name in ("sweep", "render") else kind.name,
            "application": kind.application,
            "priority": kind.priority,
            "tags": list(kind.tags),
            "directory": str(self._work),
            "resources": {"cpus": kind.resources.cpus, "mem": kind.resources.mem, "gpus": kind.resources.gpus},
            "environment": {"SEED": str(self._made), "API_TOKEN": "not shown to anybody"},
            "kill_grace_s": 2.0,
        }

    def _pipelines(self, now: float) -> None:
        for pipeline in PIPELINES:
            if now >= self._runs.get(pipeline.name, now):
                self._runs[pipeline.name] = now + pipeline.every_s
                self._plan(pipeline, now)
        for due, owner, spec in [step for step in self._steps if step[0] <= now]:
            self._steps.remove((due, owner, spec))
            self._clients[owner].submit_many([spec])

    def _plan(self, pipeline: Pipeline, now: float) -> None:
        pace = self._dice.uniform(0.9, 1.15)
        run = time.strftime("run-%H%M%S")
        for step in pipeline.steps:
            spec: dict[str, object] = {
                "command": command(f"{step.name}.py", step.seconds * pace, step.memory),
                "name": step.name,
                "application": "warehouse",
                "priority": -10,
                "pipeline": pipeline.name,
                "run": run,
                "directory": str(self._work),
                "resources": {"cpus": step.resources.cpus, "mem": step.resources.mem},
            }
            self._steps.append((now + step.after * pace, pipeline.owner, spec))

    def _odd_ones(self, now: float) -> None:
        """Now and then something ends as it should not: too much memory, too slow, killed by its owner."""
        if now < self._odd_at:
            return
        self._odd_at = now + 40
        bo, dee, where = self._clients["bo"], self._clients["dee"], str(self._work)
        bo.submit("python hog.py", name="hungry", mem=48, cpus=0.5, priority=-10, directory=where)
        dee.submit(
            "python render.py 60 10", name="endless", timeout_s=5, cpus=0.5, mem=64, priority=-10, directory=where
        )
        running = bo.list(state="STARTED", name="train-resnet", limit=1).jobs
        if running:
            bo.kill(running[0].id)
