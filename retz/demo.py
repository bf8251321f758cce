"""``make demo``: the main job, for real, in half a minute.

A temporary server on this machine, a workload that computes rather than sleeps, a server killed with ``-9`` in the
middle, and every outcome checked: the exit code is 0 only if each job ended as it should have. Then the estimator:
from the log of nine runs of a recurring pipeline to what its next run will need, with a picture.
"""

from __future__ import annotations

import json
import os
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
PICTURE = Path("skyline.png")
"""Where the picture goes: the one thing that the demo leaves behind."""

WORDS = ("queue", "job", "agent", "offer", "planner", "journal", "launcher", "sandbox", "attempt", "retry", "drain")

HASH_SEARCH = """\
import hashlib, itertools

found = 0
for n in itertools.count():
    digest = hashlib.sha256(b"retz %d" % n).hexdigest()
    if digest.startswith("00000"):
        print(f"sha256(retz {n}) = {digest}", flush=True)
        found += 1
        if found == 3:
            break
"""

MEMORY_HOG = """\
hold = []
while True:
    hold.append(bytearray(b"x") * (1 << 20))
"""

COMPILE_C = """\
int main(void) {
    unsigned long a = 0, b = 1;
    for (int i = 0; i < 90; i++) { b += a; a = b - a; }
    return a % 251 == 0;
}
"""


class Expected(NamedTuple):
    """How a job shall end."""

    what: str
    state: str
    reason: str | None = None
    exit_code: int | None = None


class Demo:
    """One run of the demo below a temporary directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.work = home / "work"
        self.work.mkdir()
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "RETZ_PLANNER_NAME": "priority",
        }
        for name in [name for name in self.environment if name.startswith("RETZ_") and name != "RETZ_PLANNER_NAME"]:
            del self.environment[name]
        if os.geteuid() == 0:  # the demo's jobs are the demo's own
            self.environment["RETZ_LOCAL_USER"] = "root"
        self.bind = "http://127.0.0.1:0"
        self.server: subprocess.Popen[str] | None = None
        self.expected: dict[int, Expected] = {}

    # -- the server ------------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start it and wait until it listens."""
        with (self.home / "server.log").open("ab") as log:
            self.server = subprocess.Popen(
                [str(BIN / "retz-server"), "--bind", self.bind],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.home,
            )
        assert self.server.stdout is not None
        ready, _, _ = select.select([self.server.stdout], [], [], PATIENCE_S)
        line = self.server.stdout.readline() if ready else ""
        if not line.startswith("listening on "):
            raise SystemExit(f"the server did not start:\n{(self.home / 'server.log').read_text()}")
        self.bind = line.split()[-1]
        say(f"  server {self.server.pid} listens on {self.bind}")

    def end_server(self, number: signal.Signals) -> None:
        """Send it a signal and wait for its end."""
        if self.server is not None:
            self.server.send_signal(number)
            self.server.wait(PATIENCE_S)
            if self.server.stdout is not None:
                self.server.stdout.close()
            self.server = None

    # -- the command line ------------------------------------------------------------------------------------

    def retz(self, *arguments: str, show: bool = True, capture: bool = True) -> str:
        """Run ``retz`` as a user would and return what it printed; without ``capture`` it prints for itself."""
        if show:
            shown = shlex.join(arguments)
            say(f"  $ retz {shown if len(shown) < 100 else shown[:97] + '...'}")
        done = subprocess.run(
            [str(BIN / "retz"), *arguments],
            env=self.environment,
            cwd=self.work,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"retz {arguments[0]} failed with {done.returncode}:\n{done.stderr}{done.stdout}")
        return done.stdout or ""

    def schedule(self, expected: Expected, *arguments: str) -> list[int]:
        """Queue jobs and note how they shall end."""
        ids = [int(word) for word in self.retz("schedule", *arguments).split()]
        self.expected.update(dict.fromkeys(ids, expected))
        return ids

    def jobs(self, state: str = "ALL") -> list[dict[str, Any]]:
        """All jobs as the API shows them."""
        document = json.loads(self.retz("list", "--state", state, "--json", "--limit", "1000", show=False))
        jobs: list[dict[str, Any]] = document["jobs"]
        return jobs

    # -- the story ------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Tell it. Returns whether every outcome was as expected."""
        say("1. A server on this machine; nothing is configured")
        self.start_server()
        say("2. Real work: word counts, a compile, a hash search; one job fails, one eats memory, one never ends")
        doomed = self.submit_workload()
        say("3. kill -9 of the server in the middle; the jobs go on without it")
        self.wait_for(lambda jobs: sum(job["state"] == "FINISHED" for job in jobs) >= 2)
        self.end_server(signal.SIGKILL)
        self.start_server()
        say("4. One job is killed")
        self.wait_for(lambda jobs: any(job["id"] == doomed and job["state"] == "STARTED" for job in jobs))
        self.retz("kill", str(doomed))
        self.wait_for(lambda jobs: all(job["ended"] for job in jobs))
        say("5. What became of everything")
        sys.stdout.flush()
        self.retz("list", "--state", "ALL", capture=False)  # it fits its table to a terminal
        say("")
        good = self.show_output()
        say("6. What will the next run need? A pipeline that ran nine times, from its log")
        return self.predict() and good

    def show_output(self) -> bool:
        """What one job printed, and whether all of them ended as expected."""
        search = next(i for i, e in self.expected.items() if e.what == "hash search")
        say(f"   and the output of job {search}:")
        say(self.retz("get-file", str(search)).rstrip())
        return self.check()

    def predict(self) -> bool:
        """From a log to a picture with the estimator's own commands. Returns whether there is one."""
        log = self.work / "tpch.log"
        log.write_text(self.estimator("sample", show=False))
        for arguments in (("parse", str(log)), ("predict", "tpch_q12")):
            say(self.estimator(*arguments).rstrip())
        PICTURE.unlink(missing_ok=True)
        self.estimator("plot", "tpch_q12", "-o", str(PICTURE.absolute()))
        say(f"   the picture of it: {PICTURE.absolute()}")
        return PICTURE.stat().st_size > 0

    def estimator(self, *arguments: str, show: bool = True) -> str:
        """Run ``retz-estimator`` as a user would and return what it printed."""
        if show:
            say(f"  $ retz-estimator {shlex.join(Path(word).name if '/' in word else word for word in arguments)}")
        done = subprocess.run(
            [str(BIN / "retz-estimator"), "--store", str(self.home / "skylines"), *arguments],
            env=self.environment,
            cwd=self.work,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(
                f"retz-estimator {arguments[0]} failed with {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return done.stdout

    def submit_workload(self) -> int:
        """Queue everything; returns the id of the job that must be killed."""
        self.make_files()
        self.retz("drain", "--pause")
        lines = self.work / "counts.txt"
        lines.write_text(
            "".join(f"tr ' ' '\\n' < text{n}.txt | sort | uniq -c | sort -rn | head -n 3\n" for n in range(6))
        )
        self.schedule(
            Expected("word count", "FINISHED", None, 0), "--each-line", str(lines), "--tags", "words", "--cpus", "0.5"
        )
        endless = ("-N", "endless", "-c", "while :; do :; done")
        doomed = self.schedule(Expected("never ends", "KILLED", "user"), "--cpus", "0.5", "--prio", "5", *endless)[0]
        self.schedule(Expected("memory hog", "FAILED", "oom"), "--mem", "96m", "-N", "hog", "--", "python", "hog.py")
        self.schedule(Expected("failing", "FAILED", "exit", 3), "-N", "fails", "-c", "echo sorry >&2; exit 3")
        slow = ("-N", "too-slow", "-c", "while :; do :; done")
        self.schedule(Expected("too slow", "FAILED", "timeout"), "--timeout", "1s", "--cpus", "0.5", *slow)
        search = ("--prio", "-10", "-N", "search", "--", "python", "search.py")
        self.schedule(Expected("hash search", "FINISHED", None, 0), *search)
        self.schedule(Expected("compile", "FINISHED", None, 0), "-N", "compile", "-c", self.compile_command())
        self.retz("drain", "--resume")
        return doomed

    def make_files(self) -> None:
        """Two programs, and six texts of 400 000 words."""
        (self.work / "search.py").write_text(HASH_SEARCH)
        (self.work / "hog.py").write_text(MEMORY_HOG)
        dice = random.Random(2017)
        for number in range(6):
            page = " ".join(dice.choices(WORDS, k=20_000)) + "\n"
            (self.work / f"text{number}.txt").write_text(page * 20)

    def compile_command(self) -> str:
        """A C compile where there is a compiler, else Python's own."""
        if shutil.which("cc"):
            (self.work / "fib.c").write_text(COMPILE_C)
            return "cc -O2 -o fib fib.c && ./fib && echo compiled and ran"
        return f"{shlex.quote(sys.executable)} -m compileall -q -f {shlex.quote(str(Path(json.__file__).parent))}"

    def wait_for(self, done: Any) -> None:
        """Show progress until ``done`` holds for the list of jobs."""
        deadline = time.monotonic() + PATIENCE_S
        shown = ""
        while True:
            jobs = self.jobs()
            over = sum(job["ended"] is not None for job in jobs)
            line = f"  {'#' * over}{'.' * (len(jobs) - over)} {over} of {len(jobs)} ended"
            if sys.stdout.isatty():
                print(f"\r{line}", end="", flush=True)
            elif line != shown:
                say(line)
            shown = line
            if done(jobs):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"this took more than {PATIENCE_S:.0f} s; {self.retz('list')}")
            time.sleep(0.1)
        if sys.stdout.isatty():
            print()

    def check(self) -> bool:
        """Compare every job with what was expected of it."""
        jobs = {job["id"]: job for job in self.jobs()}
        good = True
        for job_id, expected in self.expected.items():
            job = jobs[job_id]
            seen = (job["state"], job["reason"], job["exit_code"])
            same = seen[:2] == expected[1:3] and (expected.exit_code is None or seen[2] == expected.exit_code)
            once = len(job["attempts"]) == 1
            if not (same and once):
                say(f"  WRONG: job {job_id} ({expected.what}): {seen}, expected {expected[1:]} at once")
                good = False
        first = min(jobs.values(), key=lambda job: job["started"] or "~")
        if first["name"] != "search":
            say(f"  WRONG: the job of the highest priority did not start first but {first['name']!r}")
            good = False
        return good


def say(text: str) -> None:
    """Print at once, whoever reads."""
    print(text, flush=True)


def main(_arguments: Sequence[str] = ()) -> int:
    """Run the demo in a temporary directory and leave nothing behind."""
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="retz-demo-"))
    demo = Demo(home)
    try:
        good = demo.run()
    finally:
        demo.end_server(signal.SIGTERM)
        shutil.rmtree(home, ignore_errors=True)
    say(f"{'Every job ended as it should' if good else 'NOT as expected'}, {time.monotonic() - began:.1f} s.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
