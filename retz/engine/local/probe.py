"""Tries ways to run a container, one after the other, until one works; see ``runtime.py``."""

# ruff: noqa: PTH112, PTH114, PTH115
from __future__ import annotations

import io
import itertools
import os
import resource
import tarfile

from .runtime import CALL_S, NoRuntime, base_options, call, candidates, last_words, limit_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_IMAGE = "localhost/retz-probe:1"
_MEM_MB = 64
_LINKED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_IGNORED = "resource limits are not supported"


def probe(paths: Sequence[str], options: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return how to call the first of these programs that can run a container: what a Profile is made of.

    Raises:
        NoRuntime: none can; with the words of each.
    """
    troubles = []
    for path in paths:
        try:
            return _probe_one(path, options, environment)
        except NoRuntime as error:
            troubles.append(f"{path}: {error}")
    raise NoRuntime(f"no container can be started on this machine: {'; '.join(troubles)}")


def _probe_one(path: str, options: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    said = call([path, "--version"], environment, CALL_S)
    version = said.stdout.strip().partition("\n")[0]
    if said.returncode:
        raise NoRuntime(last_words(said.stderr))
    docker = "podman" not in version.lower()
    made = call([path, "import", "-", _IMAGE], environment, CALL_S, _probe_image())
    if made.returncode:
        raise NoRuntime(last_words(made.stderr))
    words = ""
    try:
        for front, run, limits in _ways(docker):
            trial = [path, *front, "run", "--rm", *run, *base_options(docker), *(_limits() if limits else ())]
            done = call([*trial, *options, *_probe_command()], environment, CALL_S)
            if done.returncode == 0 and not (limits and _IGNORED in done.stderr.lower()):
                values = {"path": path, "docker": docker, "front": front, "run": run}
                return {**values, "limits": limits, "version": version}
            words = words or last_words(done.stderr)
    finally:
        call([path, "rmi", "-f", _IMAGE], environment, CALL_S)
    raise NoRuntime(words)


def _ways(docker: bool) -> Iterator[tuple[list[str], list[str], bool]]:
    """What to try, the best first: (options before the subcommand, options of ``run``, with limits)."""
    fronts: list[list[str]] = [[]]
    if not docker and candidates("runc"):
        fronts.append(["--runtime", "runc"])
    # Podman asks for more files and processes than a process without the right to may have.
    least = [f"nofile={_hard(resource.RLIMIT_NOFILE, 1024)}", f"nproc={_hard(resource.RLIMIT_NPROC, 1000)}"]
    ulimits = [[], [option for limit in least for option in ("--ulimit", f"{limit}:{limit.partition('=')[2]}")]]
    # Without root's rights, files in the sandbox are ours only if the ids in there are those out here.
    users = [["--userns=keep-id"], []] if not docker and os.geteuid() != 0 else [[]]
    for user, limits, init, front, ulimit in itertools.product(users, (True, False), (["--init"], []), fronts, ulimits):
        yield front, [*user, *init, *ulimit], limits


def _hard(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def _limits() -> tuple[str, ...]:
    return limit_options(_MEM_MB, 1.0)


def _probe_image() -> bytes:
    """An image with nothing in it: what the probe runs is a program of this machine, mounted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("usr", *_LINKED):
            entry = tarfile.TarInfo(name)
            if os.path.islink(f"/{name}"):
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(f"/{name}").lstrip("/")
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return buffer.getvalue()


def _probe_command() -> list[str]:
    mounts = [name for name in ("usr", *_LINKED) if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")]
    binds = [f"--volume=/{name}:/{name}:ro" for name in mounts]
    return ["--network=host", *binds, "--entrypoint=/usr/bin/env", _IMAGE, "true"]
