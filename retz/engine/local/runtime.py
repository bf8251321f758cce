"""Which container runtime this machine has, and how it must be called to work: found by trying, once per boot.

Machines differ in what they let a runtime do: raise limits on processes and files, set limits on memory, start an
init. Nobody should have to know, so a probe runs a container in one way after the other and keeps what worked.
Used by the server, to say no in time, and by the process that starts a container. Standard library only.
"""

# ruff: noqa: PTH113, PTH116, PTH118
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess

from .spawn import StartError, find_program
from .system import boot_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

NAMES = ("podman", "docker")
"""In this order: podman needs no daemon, so one thing less can be away."""
PROFILE = "container.json"
CALL_S = 30.0
# The marks are those of another queue, of which this one may be a job.
_PASSED_ON = (
    "RETZ_LAUNCHER",
    "RETZ_TASK",
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "LANG",
    "DBUS_SESSION_BUS_ADDRESS",
    "REGISTRY_AUTH_FILE",
)
_PASSED_PREFIXES = ("XDG_", "DOCKER_", "CONTAINERS_", "CONTAINER_HOST")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class NoRuntime(Exception):
    """No container can be run here; the text says why, in words for whoever asked for one."""


class Profile:
    """A way to call a runtime that worked.

    Attributes:
        path: The program.
        docker: It is Docker's; else podman.
        front: Options before the subcommand.
        run: Options of ``run`` that this machine needs.
        limits: Memory and cpus can be limited.
        environment: What the client sees.
    """

    def __init__(self, values: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self.path: str = values["path"]
        self.docker: bool = values["docker"]
        self.front: list[str] = list(values["front"])
        self.run: list[str] = list(values["run"])
        self.limits: bool = values["limits"]
        self.version: str = values["version"]
        self.environment = dict(environment)

    def command(self, *arguments: str) -> list[str]:
        """Return the argument vector of a call."""
        return [self.path, *self.front, *arguments]

    def call(self, *arguments: str, timeout_s: float = CALL_S) -> subprocess.CompletedProcess[str]:
        """Call it and wait; a call that takes too long has exit code 124."""
        return call(self.command(*arguments), self.environment, timeout_s)

    def describe(self) -> str:
        """Say in a line what was found, for the log."""
        ways = " ".join([*self.front, *self.run]) or "no special options"
        limits = "memory and cpu limits" if self.limits else "no limits of its own: the launcher watches memory"
        return f"{self.version} ({self.path}): {ways}; {limits}"


def client_environment() -> dict[str, str]:
    """What of our own environment a runtime's client needs, and no more: it may run with root's rights."""
    return {
        name: value
        for name, value in os.environ.items()
        if (name in _PASSED_ON or name.lower() in _PROXIES or name.startswith(_PASSED_PREFIXES)) and value.isprintable()
    }


def candidates(wanted: str, path: str | None = None) -> list[str]:
    """Return the programs that may be the runtime.

    Args:
        wanted: ``auto``, a name, or a path.
        path: Where to look names up; None for our own PATH.
    """
    names = NAMES if wanted == "auto" else (wanted,)
    looked_in = os.environ.get("PATH", "") if path is None else path
    return [found for name in names if (found := _found(name, looked_in)) is not None]


def _found(name: str, path: str) -> str | None:
    try:
        program = find_program(name, path)
    except StartError:
        return None
    return program if os.access(program, os.X_OK) and os.path.isfile(program) else None


def profile(directory: str, wanted: str, options: Sequence[str], environment: Mapping[str, str]) -> Profile:
    """Return how containers are run here, from what an earlier probe of this boot found, or by a probe.

    Args:
        directory: The engine's; the finding is kept there.
        options: Of the administrator, for ``run``.
        environment: Of the client; see :func:`client_environment`.

    Raises:
        NoRuntime: nothing works. That is found out anew each time.
    """
    found = candidates(wanted, environment.get("PATH"))
    if not found:
        name = "podman or docker" if wanted == "auto" else wanted
        raise NoRuntime(f"this machine has no container runtime ({name} not found): install it, or see "
                        "retz.container.runtime")  # fmt: skip
    key = [boot_id(), os.geteuid(), list(options), [[path, os.stat(path).st_mtime] for path in found]]
    place = os.path.join(directory, PROFILE)
    try:
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NoRuntime(f"cannot note in {place} how containers run: {error.strerror}") from error
    with os.fdopen(fd, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a hundred jobs at once: one of them probes, the others wait
        try:
            kept = json.load(file)
        except ValueError:
            kept = {}
        if kept.get("key") != key:
            from .probe import probe  # seldom, and it needs much

            kept = {"key": key, **probe(found, options, environment)}
            with contextlib.suppress(OSError):  # a full disk: the next one tries again
                os.ftruncate(fd, 0)
                os.pwrite(fd, json.dumps(kept).encode(), 0)
    return Profile(kept, environment)


def base_options(docker: bool) -> list[str]:
    """Options of every ``run``: outputs go straight to the files, and no program in it has more rights than its user.

    A program with the setuid bit would otherwise be root in the container, and could leave one of root's in the
    sandbox, which is a directory of the machine.
    """
    quiet = "none" if docker else "passthrough"
    return [f"--log-driver={quiet}", "--pull=never", "--security-opt=no-new-privileges", "--security-opt=label=disable"]


def limit_options(mem_mb: int, cpus: float) -> tuple[str, ...]:
    """Options of ``run`` that limit memory (without swap) and cpus."""
    return f"--memory={mem_mb}m", f"--memory-swap={mem_mb}m", f"--cpus={max(0.01, min(cpus, os.cpu_count() or 1)):g}"


def call(
    argv: Sequence[str], environment: Mapping[str, str], timeout_s: float, given: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Call a client in the root directory and wait; exit code 124 if it took too long, 126 if it cannot be started."""
    try:
        done = subprocess.run(
            argv, env=dict(environment), cwd="/", input=given or b"", capture_output=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"it did not answer within {timeout_s:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(argv, 126, "", f"{argv[0]}: {error.strerror}")
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    return subprocess.CompletedProcess(argv, done.returncode, out, err)


def last_words(text: str) -> str:
    """Return the line of a client's complaints that says what is wrong, without what says that it is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Error", "docker: ", "ERROR"))] or lines[-1:]
    for prefix in ("docker: ", "Error response from daemon: ", "Error: "):
        told = [line.removeprefix(prefix) for line in told]
    return told[-1][:500] if told else "it did not say why"


def is_unknown(words: str) -> bool:
    """Whether a client complains that there is no such container."""
    return "no such container" in words.lower() or "no container with name" in words.lower()
