"""Applications: a named environment that jobs run in. The fields are those of Retz."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .container import Container as Container
from .container import Volume as Volume

Predict = Literal["off", "auto"]


class Application(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named environment of one user's jobs.

    Attributes:
        name: Unique among the owner's applications.
        owner: Access key of its user.
        files: URIs fetched for each attempt.
        large_files: URIs fetched once and cached on the agent.
        user: Unix user to run as; None means the engine's default.
        grace_period_s: Seconds between SIGTERM and SIGKILL for jobs that do not say; None means the server's.
        enabled: Jobs of a disabled application are refused; those queued already still run.
        predict: ``auto``: jobs of pipelines ask for what their past runs say, unless they say otherwise.
        predict_floor: MiB that a job whose memory past runs decide gets at least.
    """

    name: str
    owner: str
    files: tuple[str, ...] = ()
    large_files: tuple[str, ...] = ()
    user: str | None = None
    grace_period_s: float | None = None
    container: Container = Container()
    enabled: bool = True
    predict: Predict = "off"
    predict_floor: int = 0
    updated: float = 0.0

    @property
    def key(self) -> str:
        """Its id in the store: names are per user."""
        return f"{self.owner}/{self.name}"
