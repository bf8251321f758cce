"""From a client's JobSpec to a Job record: defaults filled in, everything checked that needs the server.

Called with a couple of hundred specs at a time, so that a bulk submit never holds the event loop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from retz.config_server import ServerConfig
from retz.model.agent import Agent
from retz.model.application import Application, Container
from retz.model.array import Array, parse_array
from retz.model.job import Job, Sized
from retz.model.resources import RESOURCE_NAMES, Resources, fits
from retz.model.submission import MAX_COMMAND_BYTES, MAX_ENVIRONMENT_BYTES, JobSpec, ResourcesSpec
from retz.model.units import format_size, parse_size
from retz.model.user import User
from retz.scheduler import constraints
from retz.scheduler.explain import never
from retz.scheduler.limits import UserLimits

from . import unix_users
from .notify.targets import target_of
from .problem import FieldError, Problem

DEFAULT_APPLICATION = "default"
MAX_PORTS = 1000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_NAMES = ("*", ".", "..")
"""They mean something else in the estimator's addresses: all of them, or a directory."""
_NO_ENVIRONMENT: dict[str, str] = {}


_UNBOUNDED = 64
"""Where nobody knows how large the agents are, past runs give at most so many times what was asked for."""
Past = Callable[[str, JobSpec, Resources, Application | None, Resources], tuple[Resources, Sized]]


MOST_WARNINGS = 20


class Warned(NamedTuple):
    """A warning about so many jobs of a request, the first of which has this id."""

    first: int
    jobs: int
    message: str


class _Invalid(ValueError):
    """A field is to blame; becomes a FieldError with the job's index in front."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Admission:
    """Builds Job records for one server.

    Args:
        config: Limits and defaults.
        agents: Called for the agents known now: the default memory and the per-job limits come from them.
        application: Looks up ``owner/name``.
        honours: Names of application features that the engine can honour (``files``, ``user``, ``container``).
        user: Looks up a user.
        past: What a job gets that asks for what its past runs say: given its owner, the spec, what it asks for, its
            application and the most that there is.
    """

    def __init__(
        self,
        config: ServerConfig,
        agents: Callable[[], Sequence[Agent]],
        application: Callable[[str], Application | None],
        honours: frozenset[str] = frozenset(),
        user: Callable[[str], User | None] = lambda key: None,
        past: Past = lambda owner, spec, asked, application, most: (asked, Sized(asked=asked)),
    ) -> None:
        self._config = config
        self._agents = agents
        self._application = application
        self._honours = honours
        self._user = user
        self._past = past
        self._callable = config.notify_networks
        self._sized: dict[tuple[object, ...], tuple[Resources, bool]] = {}
        self._sizes: dict[str, Resources] = {}
        self._never: dict[tuple[Resources, str], str | None] = {}
        self._comes_and_goes = config.engine == "mesos"
        """Agents do: that none is large enough today is worth a warning, and no refusal."""

    def agents_changed(self) -> None:
        """Forget what was derived from the agents' sizes."""
        self._sized.clear()
        self._sizes.clear()
        self._never.clear()

    def build(
        self, specs: Sequence[JobSpec], owner: str, ids: Sequence[int], now: float, *, base: int = 0
    ) -> list[Job]:
        """Return one queued Job per spec.

        Args:
            base: Index of the first spec in the whole request, for messages.

        Raises:
            Problem: ``unprocessable`` or ``bad-request`` naming every field to blame (at most twenty).
        """
        errors: list[FieldError] = []
        jobs: list[Job] = []
        for index, spec in enumerate(specs):
            try:
                jobs.append(self._build(spec, owner, ids[index], now))
            except _Invalid as error:
                errors.append(FieldError(f"jobs[{base + index}].{error.field}", str(error)))
                if len(errors) == 20:
                    break
        if errors:
            first = errors[0]
            raise Problem("unprocessable", f"{first.field}: {first.message}", errors)
        return jobs

    def _build(self, spec: JobSpec, owner: str, job_id: int, now: float) -> Job:
        _check_command(spec.command)
        application = self._checked_application(spec.application, owner)
        resources, mem_default = self._resources(spec.resources)
        _check_text("name", spec.name)
        _check_run(spec)
        sized: Sized | None = None
        if spec.predicted and spec.pipeline is None:
            raise _Invalid("predicted", "needs past runs of a pipeline: name it too (--pipeline NAME), or leave it out")
        for number, tag in enumerate(spec.tags or ()):
            _check_text(f"tags[{number}]", tag)
        if spec.attributes:
            _check_constraint(spec.attributes)
        if _is_sized(spec, application):
            resources, sized = self._by_past(spec, owner, application, resources)
        if spec.strict and (why := self._impossible(resources, spec.attributes or "")) is not None:
            raise _Invalid("strict", f"it could never run here as things are: {why}")
        if spec.directory is not None and (not spec.directory.startswith("/") or "\0" in spec.directory):
            raise _Invalid("directory", f"must be an absolute path, not {spec.directory!r}")
        if spec.timeout_s is not None and not math.isfinite(spec.timeout_s):
            raise _Invalid("timeout_s", "must be a finite number of seconds")
        _check_text("group", spec.group)
        array = _array(spec)
        grace = spec.kill_grace_s
        if grace is None and application is not None:
            grace = application.grace_period_s
        return Job(
            id=job_id,
            owner=owner,
            command=spec.command,
            resources=resources,
            submitted=now,
            mem_default=mem_default,
            application=spec.application or DEFAULT_APPLICATION,
            name=spec.name or "",
            tags=tuple(dict.fromkeys(spec.tags)) if spec.tags else (),
            priority=spec.priority or 0,
            environment=_checked_environment(spec.environment) if spec.environment else _NO_ENVIRONMENT,
            attributes=spec.attributes or "",
            directory=spec.directory,
            timeout_s=spec.timeout_s,
            kill_grace_s=self._config.kill_grace if grace is None else grace,
            max_retries=self._config.retries if spec.max_retries is None else spec.max_retries,
            pipeline=spec.pipeline,
            run=spec.run,
            held=spec.held,
            start_at=_start_at(spec.start_at),
            group=spec.group or "",
            max_fails=spec.max_fails or 0,
            array=array,
            sized=sized,
            on_end=self._checked_target(spec.on_end),
        )

    def _checked_target(self, text: str | None) -> str | None:
        if text is not None:
            try:
                target_of(text, self._callable)
            except ValueError as error:
                raise _Invalid("on_end", str(error)) from None
        return text

    def is_sized(self, spec: JobSpec, owner: str) -> bool:
        """Whether past runs decide what the job asks for."""
        return _is_sized(spec, self._application(f"{owner}/{spec.application or DEFAULT_APPLICATION}"))

    def _by_past(
        self, spec: JobSpec, owner: str, application: Application | None, asked: Resources
    ) -> tuple[Resources, Sized]:
        given, sized = self._past(owner, spec, asked, application, self.most_for(asked, spec.attributes or ""))
        try:
            self._check_limits(given)
            self._check_agents(given, self._agents())
        except _Invalid:  # more cpus and memory, and no agent has both
            return asked, Sized(asked=asked, runs=sized.runs)
        return given, sized

    def most_for(self, asked: Resources, attributes: str = "") -> Resources:
        """The most memory and cpus, each by itself, that a job that asks for ``asked`` could have."""
        config, largest = self._config, self._largest(attributes)
        mems = filter(None, (config.max_mem, config.max_user_mem, largest.mem))
        cpus = filter(None, (config.max_cpus, config.max_user_cpus, largest.cpus))
        return Resources(cpus=min(cpus, default=asked.cpus * _UNBOUNDED), mem=min(mems, default=asked.mem * _UNBOUNDED))

    def _largest(self, attributes: str) -> Resources:
        """Most cpus and memory of agents with these attributes; nothing where that is not known."""
        found = self._sizes.get(attributes)
        if found is None:
            constraint = constraints.parse(attributes)
            agents = [agent for agent in self._agents() if constraint.matches(agent.attributes)]
            found = Resources()
            if not any(agent.guessed for agent in agents):
                found = Resources(
                    max((agent.total.cpus for agent in agents), default=0),
                    max((agent.total.mem for agent in agents), default=0),
                )
            if len(self._sizes) > 1_000:
                self._sizes.clear()
            self._sizes[attributes] = found
        return found

    def _checked_application(self, name: str | None, owner: str) -> Application | None:
        found = self._application(f"{owner}/{name or DEFAULT_APPLICATION}")
        if found is None:
            if name is None or name == DEFAULT_APPLICATION:
                return None
            raise _Invalid("application", f"no such application: {name!r}; register it with 'retz load-app -A {name}'")
        if not found.enabled:
            raise _Invalid(
                "application",
                f"application {name!r} is disabled; enable it with 'retz load-app --enabled true'",
            )
        refused = unix_users.refusal(found, self._user(owner), self._config, "user" in self._honours)
        if refused is not None:
            raise _Invalid("application", f"application {name!r}: {refused}")
        unsupported = self.unsupported(found)
        if unsupported:
            raise _Invalid(
                "application",
                f"application {name!r} asks for {', '.join(unsupported)}, which engine "
                f"{self._config.engine!r} cannot do yet",
            )
        return found

    def unsupported(self, application: Application) -> list[str]:
        """What the application asks for and this engine cannot honour, in words."""
        asked = []
        if (application.files or application.large_files) and "files" not in self._honours:
            asked.append("files to fetch")
        if application.container != Container() and "container" not in self._honours:
            asked.append(f"a {application.container.type} container")
        return asked

    def _resources(self, spec: ResourcesSpec | None) -> tuple[Resources, bool]:
        key = (None,) if spec is None else (spec.cpus, spec.mem, spec.disk, spec.gpus, spec.ports)
        found = self._sized.get(key)
        if found is None:
            found = self._size(spec or ResourcesSpec())
            if len(self._sized) > 10_000:
                self._sized.clear()
            self._sized[key] = found
        return found

    def _size(self, spec: ResourcesSpec) -> tuple[Resources, bool]:
        cpus = 1.0 if spec.cpus is None else spec.cpus
        if not math.isfinite(cpus) or cpus < 0.001 or cpus > 1_000_000:
            raise _Invalid("resources.cpus", f"must be between 0.001 and 1000000, not {cpus:g}")
        cpus = round(cpus, 3)
        gpus, ports = spec.gpus or 0, spec.ports or 0
        if not 0 <= gpus <= 100_000:
            raise _Invalid("resources.gpus", f"must be a whole number from 0, not {gpus}")
        if not 0 <= ports <= MAX_PORTS:
            raise _Invalid("resources.ports", f"must be from 0 to {MAX_PORTS}, not {ports}")
        disk = _size_of("disk", spec.disk) if spec.disk is not None else 0
        agents = self._agents()
        mem_default = spec.mem is None
        mem = _size_of("mem", spec.mem) if spec.mem is not None else _default_mem(cpus, agents)
        if mem < 1:
            raise _Invalid("resources.mem", "must be at least 1 MiB")
        resources = Resources(cpus, mem, disk, gpus, ports)
        self._check_limits(resources)
        if not self._comes_and_goes:
            self._check_agents(resources, agents)
        return resources, mem_default

    def warnings(self, specs: Sequence[JobSpec], ids: Sequence[int]) -> list[Warned]:
        """Which of these jobs, accepted before, could never run on the agents known now, and why."""
        found: dict[str, Warned] = {}
        for spec, job_id in zip(specs, ids, strict=False):
            if not spec.attributes and not self._comes_and_goes:
                continue  # it would have been refused
            try:
                resources, _ = self._resources(spec.resources)
            except _Invalid:  # the machines became smaller since it was accepted
                continue
            why = self._impossible(resources, spec.attributes or "")
            if why is not None and (why in found or len(found) < MOST_WARNINGS):
                known = found.get(why)
                found[why] = Warned(job_id, 1, why) if known is None else known._replace(jobs=known.jobs + 1)
        return list(found.values())

    def _impossible(self, resources: Resources, attributes: str) -> str | None:
        key = resources, attributes
        if key not in self._never:
            if len(self._never) > 10_000:
                self._never.clear()
            self._never[key] = never(resources, attributes, self._agents())
        return self._never[key]

    def _check_limits(self, resources: Resources) -> None:
        for name in RESOURCE_NAMES:
            limit = getattr(self._config, f"max_{name}")
            if limit and getattr(resources, name) > limit:
                asked = _amount(name, getattr(resources, name))
                raise _Invalid(f"resources.{name}", f"{asked} is above this server's limit of {_amount(name, limit)}")
        user_limits = UserLimits(0, self._config.max_user_cpus, self._config.max_user_mem, self._config.max_user_gpus)
        name_above = user_limits.alone(resources.vector)
        if name_above is not None:
            asked = _amount(name_above, getattr(resources, name_above))
            limit = _amount(name_above, getattr(self._config, f"max_user_{name_above}"))
            raise _Invalid(
                f"resources.{name_above}",
                f"{asked} is above what one user may hold at a time, {limit} (retz.max.user.{name_above})",
            )

    def _check_agents(self, resources: Resources, agents: Sequence[Agent]) -> None:
        if not agents or any(agent.guessed or fits(resources.vector, agent.total.vector) for agent in agents):
            return  # what cannot be known yet is no reason to refuse
        for name in RESOURCE_NAMES:
            most = max(getattr(agent.total, name) for agent in agents)
            if getattr(resources, name) > most:
                asked = _amount(name, getattr(resources, name))
                raise _Invalid(
                    f"resources.{name}", f"{asked} is more than the largest agent has ({_amount(name, most)})"
                )
        raise _Invalid("resources", "no single agent has all of this together; ask for less of something")


def _default_mem(cpus: float, agents: Sequence[Agent]) -> int:
    """The largest agent's memory per cpu, times the cpus asked for, so that cpus run out before memory does."""
    if not agents or any(agent.guessed for agent in agents):
        return 512
    largest = max(agents, key=lambda agent: agent.total.mem)
    if largest.total.cpus <= 0:
        return max(1, largest.total.mem)
    share = largest.total.mem / largest.total.cpus * cpus
    return max(1, min(int(share), largest.total.mem))


def _size_of(field: str, value: int | float | str) -> int:
    try:
        return parse_size(value)
    except ValueError as error:
        raise _Invalid(f"resources.{field}", str(error)) from None


def _amount(name: str, value: float) -> str:
    if name in ("mem", "disk"):
        return format_size(int(value))
    return f"{value:g} {name.removesuffix('s') if value == 1 else name}"


def _check_command(command: str | tuple[str, ...]) -> None:
    if isinstance(command, str):
        if not command or command.isspace():
            raise _Invalid("command", "is empty")
        size, text = len(command), command
    else:
        if not command or not command[0]:
            raise _Invalid("command", "the argument vector has no program")
        size, text = sum(map(len, command)) + len(command), "".join(command)
    if "\0" in text:
        raise _Invalid("command", "must not contain NUL characters")
    # One character is at most four bytes: only long commands need to be encoded to be measured.
    if size > MAX_COMMAND_BYTES // 4 and size + len(text.encode()) - len(text) > MAX_COMMAND_BYTES:
        raise _Invalid(
            "command",
            f"is longer than {MAX_COMMAND_BYTES} bytes; put it into a script file and run that instead",
        )


def _check_text(field: str, text: str | None) -> None:
    if text and _CONTROL.search(text):
        raise _Invalid(field, "must not contain line breaks or control characters")


def _check_run(spec: JobSpec) -> None:
    if spec.pipeline is None and spec.run is None:
        return
    if spec.pipeline is None:
        raise _Invalid("run", "is a run of a pipeline: name that too (--pipeline NAME), or leave it out")
    for field in ("pipeline", "run"):
        text = getattr(spec, field)
        _check_text(field, text)
        if text is not None and (not text.strip() or text in _NO_NAMES):
            raise _Invalid(field, f"must be a name, not {text!r}")


def _is_sized(spec: JobSpec, application: Application | None) -> bool:
    if spec.pipeline is None:
        return False
    return spec.predicted if spec.predicted is not None else application is not None and application.predict == "auto"


def _array(spec: JobSpec) -> Array | None:
    if spec.max_fails is not None and spec.array is None and spec.group is None:
        raise _Invalid("max_fails", "counts failures of a group or an array: name a group, or leave it out")
    if spec.array is None:
        return None
    if spec.group is not None:
        raise _Invalid("group", "an array is a group of its own: leave the group out")
    try:
        return parse_array(spec.array)
    except ValueError as error:
        raise _Invalid("array", str(error)) from None


def _start_at(value: str | float | None) -> float | None:
    """Seconds since the epoch."""
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            return datetime.fromtimestamp(value, UTC).timestamp()
        when = datetime.fromisoformat(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise _Invalid("start_at", "must be an ISO-8601 time, as 2026-11-20T06:27:17Z, or seconds since 1970") from None


def _check_constraint(text: str) -> None:
    try:
        constraints.parse(text)
    except constraints.ConstraintError as error:
        raise _Invalid("attributes", str(error)) from None


def _checked_environment(environment: Mapping[str, str]) -> dict[str, str]:
    size = 0
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise _Invalid("environment", f"not a variable name and value without NUL: {name[:100]!r}")
        size += len(name) + len(value)
    if size > MAX_ENVIRONMENT_BYTES:
        raise _Invalid("environment", f"is larger than {MAX_ENVIRONMENT_BYTES} characters in total")
    return dict(environment)
