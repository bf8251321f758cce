"""Runs one job in a container, from the image to the last trace of it: the *keeper*, a child of the launcher.

The runtime's client cannot be the job's process: somebody must turn a kill into the runtime's words, say why the
container did not start or was ended, and take away what is left of it. The keeper tells the launcher on its pipe, a
JSON array per line, ``["at", pid]`` when the container runs (its first process, as this machine sees it), and
``[reason, exit code, message]`` if there is more to say of its end than an exit code. SIGTERM asks the container to
end, SIGUSR1 ends it. What a keeper that was killed left behind is in a directory of the container's own below
:data:`~retz.engine.local.leftovers.ROOT`, with the command that takes it away. Standard library only.
"""

# ruff: noqa: PTH101, PTH103, PTH120
from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time

from . import leftovers, processes, runtime, volumes
from .job import duration, size
from .spawn import NOT_EXECUTABLE, NOT_FOUND
from .system import end_with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .runtime import Profile

RUNTIME_FAILED = 125
START_S = 120.0
"""A runtime that has not started the container by then never will."""
_LOOK_MIN_S, _LOOK_MAX_S = 0.02, 0.5
_MEMORY_MIN_MB = 8
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1}
_AWAY = ("cannot connect to the docker daemon", "is the docker daemon running")
_TAIL = 4096


class Trouble(Exception):
    """Why the job did not run, or ended: reason, exit code (None with ``start``: the machine is to blame), message.

    Reason ``lost``: its result is.
    """

    def __init__(self, reason: str, exit_code: int | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


class Who:
    """As whom the container's processes run, in numbers: it need not know names."""

    def __init__(self, uid: int, gid: int, groups: Sequence[int] = ()) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups


class Keeper:
    """One container. Calls the runtime with our own rights, and runs the job with those of ``who``.

    Args:
        base: The engine's directory, absolute.
        environment: The job's, complete.
        wanted: ``image``, ``volumes``, ``options``, ``network``, ``ports``, ``gpus``, ``cpus``, ``mem_mb``,
            ``runtime``, ``environment`` (the client's), ``host_paths``, ``drivers``, ``pull_s``.
        tell: Called with each line for the launcher.
    """

    def __init__(
        self, base: str, environment: dict[str, str], who: Who, wanted: dict[str, Any], tell: Callable[[Any], None]
    ) -> None:
        self.base = base
        self.environment = environment
        self.who = who
        self.wanted = wanted
        self.tell = tell
        self.task = environment["RETZ_TASK"]
        self.name = f"retz-{environment['RETZ_LAUNCHER']}-{self.task}"
        self.place = f"{base}/{leftovers.ROOT}/{self.task}"
        self.asked: str | None = None
        self.pid = 0

    def prepare(self) -> Profile:
        """Find the runtime, check what is asked for, and have the image. Returns how to call the runtime.

        Raises:
            Trouble: saying what is missing.
        """
        image = self.wanted["image"]
        for wrong in (
            volumes.image_refusal(image),
            *(volumes.refusal(v, self.wanted["host_paths"], self.wanted["drivers"]) for v in self.wanted["volumes"]),
        ):
            if wrong is not None:
                raise Trouble("image" if "image" in wrong else "start", NOT_EXECUTABLE, wrong)
        wanted = self.wanted
        # Not the task: what the runtime leaves running for all containers to come is not one job's.
        client = {**wanted["environment"], "RETZ_LAUNCHER": self.environment["RETZ_LAUNCHER"]}
        try:
            profile = runtime.profile(self.base, wanted["runtime"], wanted["options"], client)
        except runtime.NoRuntime as error:
            raise Trouble("start", None, str(error)) from None
        self._have_image(profile, image)
        return profile

    def _marks(self) -> dict[str, str]:
        return {name: self.environment[name] for name in ("RETZ_LAUNCHER", "RETZ_TASK")}

    def _have_image(self, profile: Profile, image: str) -> None:
        known = profile.call("image", "inspect", "--format={{.Id}}", image)
        if known.returncode == 0:
            return
        words = runtime.last_words(known.stderr)
        if words.lower().startswith(_AWAY):
            raise Trouble("start", None, words)
        limit = self.wanted["pull_s"]
        pulled = profile.call("pull", "--quiet", image, timeout_s=limit)
        if pulled.returncode:
            late = f"it took longer than {duration(limit)} (retz.fetch.timeout)"
            words = late if pulled.returncode == 124 else runtime.last_words(pulled.stderr)
            raise Trouble("image", None, f"cannot get image {image}: {words}")

    # -- running

    def run(self, profile: Profile, command: str | list[str], directory: str | None) -> int:
        """Run the job to its end and take the container away. Returns the exit code.

        Raises:
            Trouble: it did not start, or its exit code does not say why it ended.
        """
        argv = self._argv(profile, command, directory)
        self._note(profile)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        end_with(0)  # from here on it carries the marks by which the launcher's successor finds it
        os.chdir("/")
        client = os.posix_spawn(argv[0], argv, profile.environment, setsigmask=[], setsigdef=[signal.SIGPIPE])
        try:
            status = self._attend(profile, client)
            return self._explain(profile, os.waitstatus_to_exitcode(status))
        finally:
            self._remove(profile)

    def _argv(self, profile: Profile, command: str | list[str], directory: str | None) -> list[str]:
        sandbox = self.environment["RETZ_SANDBOX"]
        if any(sign in sandbox for sign in ':,"'):
            raise Trouble("start", NOT_EXECUTABLE, f"{sandbox} cannot be mounted: the server needs another --data-dir")
        program, *rest = ["/bin/sh", "-c", command] if isinstance(command, str) else command
        return profile.command(
            "run",
            *profile.run,
            *runtime.base_options(profile.docker),
            f"--name={self.name}",
            *(f"--label={key.lower().replace('_', '.')}={value}" for key, value in self._marks().items()),
            f"--env-file={self.place}/env",
            *(() if profile.docker else (f"--pidfile={self.place}/pid",)),
            *self._user(profile),
            *self._network(),
            *self._limits(profile),
            *self._gpus(profile),
            f"--volume={sandbox}:{sandbox}",
            *(f"--volume={self._volume(profile, volume)}" for volume in self.wanted["volumes"]),
            f"--workdir={directory or sandbox}",
            *self.wanted["options"],
            f"--entrypoint={program}",
            self.wanted["image"],
            *rest,
        )

    def _user(self, profile: Profile) -> list[str]:
        if os.geteuid() != 0 and not profile.docker and "--userns=keep-id" not in profile.run:
            return []  # rootless without other ids: root in there is us out here
        groups = [] if os.geteuid() else [f"--group-add={group}" for group in self.who.groups]
        return [f"--user={self.who.uid}:{self.who.gid}", *groups]

    def _network(self) -> list[str]:
        network = self.wanted["network"]
        ports = () if network == "host" else self.wanted["ports"]
        return [f"--network={network}", *(f"--publish={port}:{port}" for port in ports)]

    def _limits(self, profile: Profile) -> Sequence[str]:
        mem_mb = self.wanted["mem_mb"]
        if not profile.limits or mem_mb is None:
            return ()
        return runtime.limit_options(max(mem_mb, _MEMORY_MIN_MB), self.wanted["cpus"])

    def _gpus(self, profile: Profile) -> list[str]:
        gpus = self.wanted["gpus"]
        if not profile.docker:
            return [f"--device=nvidia.com/gpu={gpu}" for gpu in gpus]
        return [f'--gpus="device={",".join(gpus)}"'] if gpus else []

    def _volume(self, profile: Profile, volume: volumes.Volume) -> str:
        driver, name, path, mode, options = volume
        if driver == volumes.HOST:
            source = self._host_path(name)
        else:
            source = volumes.volume_name(driver, name, self.who.uid)
            self._have_volume(profile, driver, source, options)
        return f"{source}:{path}:{mode.lower()}"

    def _host_path(self, name: str) -> str:
        """See that the job's user may go there, and that it is listed, whatever links led to it."""
        try:
            with self._rights_of_user():
                fd, real = volumes.open_real(name)
        except OSError as error:
            raise Trouble("start", NOT_EXECUTABLE, f"volume {name!r}: {error.strerror}") from error
        os.close(fd)
        if volumes.refusal([volumes.HOST, real, "/x", "RO", {}], self.wanted["host_paths"], ()) is not None:
            raise Trouble("start", NOT_EXECUTABLE, f"{name} leads to {real}, which containers may not see here")
        return real

    @contextlib.contextmanager
    def _rights_of_user(self) -> Any:
        if os.geteuid() != 0:
            yield
            return
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups([self.who.gid, *self.who.groups])
        os.setegid(self.who.gid)
        os.seteuid(self.who.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def _have_volume(self, profile: Profile, driver: str, name: str, options: dict[str, str]) -> None:
        if profile.call("volume", "inspect", name).returncode == 0:
            return
        given = [f"--opt={key}={value}" for key, value in options.items()]
        made = profile.call("volume", "create", f"--driver={driver}", *given, name)
        if made.returncode and profile.call("volume", "inspect", name).returncode:  # else somebody was faster
            raise Trouble("start", NOT_EXECUTABLE, f"cannot make volume {name}: {runtime.last_words(made.stderr)}")
        if driver == volumes.LOCAL and os.geteuid() == 0:
            where = profile.call("volume", "inspect", "--format={{.Mountpoint}}", name).stdout.strip()
            with contextlib.suppress(OSError):  # Docker's may be on another machine
                os.chown(where, self.who.uid, self.who.gid)

    def _note(self, profile: Profile) -> None:
        """Write down, where only we can read it, the job's environment, and how to take the container away."""
        for name, value in self.environment.items():
            if "\n" in value or "\n" in name:
                text = f"variable {name.splitlines()[0]!r} has a line break, which containers cannot be given"
                raise Trouble("start", NOT_EXECUTABLE, text)
        lines = "".join(f"{name}={value}\n" for name, value in self._told().items())
        remove = [profile.command(*self._removal(profile)), profile.environment]
        try:
            os.makedirs(self.place, 0o700, exist_ok=True)
            os.chmod(os.path.dirname(self.place), 0o700)
            for file, text in (("env", lines), ("remove", json.dumps(remove))):
                fd = os.open(f"{self.place}/{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as out:
                    out.write(text)
        except OSError as error:  # the job is not to blame: it waits until there is room
            raise Trouble("start", None, f"cannot write to {self.place}: {error.strerror}") from error

    def _removal(self, profile: Profile) -> list[str]:
        # Docker's never waits. Podman's would remove none of several, and say that all is well, if one of them is gone.
        of_podman = () if profile.docker else ("--time=0", "--ignore")
        return ["rm", "--force", *of_podman, "--volumes", self.name]

    def _told(self) -> dict[str, str]:
        if self.wanted["gpus"]:
            return self.environment
        return {**self.environment, "NVIDIA_VISIBLE_DEVICES": "void"}  # images say "all"

    # -- waiting

    def _attend(self, profile: Profile, client: int) -> int:
        """Wait for the runtime's client, and see to what is asked meanwhile. Returns its wait status."""
        pause, give_up = _LOOK_MIN_S, time.monotonic() + START_S
        while True:
            wait = START_S if self.pid else pause
            got = signal.sigtimedwait(_SIGNALS, wait)
            ended, status = os.waitpid(client, os.WNOHANG)
            if ended:
                self._look(profile, over=True)
                return status
            if not self.pid:
                self._look(profile)
                pause = min(2 * pause, _LOOK_MAX_S)
                if not self.pid and time.monotonic() > give_up:
                    os.kill(client, signal.SIGKILL)
            if got is not None and got.si_signo != signal.SIGCHLD:
                self._ask(profile, client, "TERM" if got.si_signo == signal.SIGTERM else "KILL")

    def _ask(self, profile: Profile, client: int, what: str) -> None:
        self.asked = what
        if self.pid:
            if what == "TERM" and "--init" not in profile.run and processes.all_would_end(self.pid):
                what = "KILL"  # without an init, the first process never hears of a SIGTERM that it does not handle
            profile.call("kill", f"--signal={what}", self.name)
        else:
            os.kill(client, signal.SIGKILL)  # it has not begun: then it shall not

    def _look(self, profile: Profile, *, over: bool = False) -> None:
        """See whether the container runs, and tell."""
        if self.pid:
            return
        if profile.docker:
            text = profile.call("inspect", "--format={{.State.Pid}}", self.name).stdout.strip()
        else:
            text = _read(f"{self.place}/pid")
        if text.isdigit() and int(text) > 0:
            self.pid = int(text)
            self.tell(["at", 0 if over else self.pid])

    def _explain(self, profile: Profile, code: int) -> int:
        """Return the exit code, if that is all there is to say."""
        broken = code < 0 or code in (RUNTIME_FAILED, NOT_EXECUTABLE, NOT_FOUND)
        if broken and self.pid and self.asked is None and self._seems_to_run(profile):
            raise Trouble("lost", None, "what watched its container was killed, and how it ended is not known")
        if code < 0:
            code = 128 - code  # of the client, that is: somebody killed it
        if not self.pid and profile.docker and code not in (RUNTIME_FAILED, NOT_EXECUTABLE, NOT_FOUND):
            self.pid = -1
            self.tell(["at", 0])  # it was too quick to be seen
        if not self.pid and self.asked is None:
            words = runtime.last_words(_tail(f"{self.environment['RETZ_SANDBOX']}/stderr"))
            if code == 128 + signal.SIGKILL:
                words = f"the container runtime had not started it after {duration(START_S)}"
            raise Trouble("start", code, words)
        if code == 128 + signal.SIGKILL and self.asked is None and self._out_of_memory(profile):
            limit = size(self.wanted["mem_mb"]) if self.wanted["mem_mb"] else "memory"
            raise Trouble("oom", code, f"needed more than the {limit} it may use, and was killed")
        return code

    def _seems_to_run(self, profile: Profile) -> bool:
        """Whether the container runs, or podman believes so because conmon cannot tell it of the end any more."""
        said = profile.call("inspect", "--format={{.State.Running}}", self.name)
        return said.stdout.strip() == "true"

    def _out_of_memory(self, profile: Profile) -> bool:
        said = profile.call("inspect", "--format={{.State.OOMKilled}}", self.name)
        return said.stdout.strip() == "true"

    # -- afterwards

    def _remove(self, profile: Profile) -> None:
        gone = profile.call(*self._removal(profile))
        if os.geteuid() == 0 and self.who.uid == 0:
            _take_over(self.environment["RETZ_SANDBOX"])
        if gone.returncode == 0 or runtime.is_unknown(gone.stderr):  # else the launcher, or the next one, tries again
            leftovers.forget(self.task, self.base)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _tail(path: str) -> str:
    """The end of a file in the sandbox, where anything may have taken its place."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return ""
        return os.pread(fd, _TAIL, max(0, status.st_size - _TAIL)).decode(errors="replace")
    finally:
        os.close(fd)


def _take_over(sandbox: str) -> None:
    """Give what a container of root's left in its sandbox to root: else the API would refuse to show it.

    What is root's already loses its setuid bits, as what is given to root does: nobody here shall become root by it.
    """
    for _, directories, files, fd in os.fwalk(sandbox):
        for name in (*directories, *files):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if found.st_uid != 0:
                os.chown(name, 0, 0, dir_fd=fd, follow_symlinks=False)
            elif stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
                os.chmod(name, stat.S_IMODE(found.st_mode) & 0o777, dir_fd=fd)
