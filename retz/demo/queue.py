"""The queue's main job: work of all kinds, a server killed in the middle, and every outcome checked."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from .place import Job, Place, say

WORDS = ("queue", "job", "agent", "offer", "planner", "journal", "launcher", "sandbox", "attempt", "retry", "drain")
TEXTS = 4

COUNT = """\
tr ' ' '\\n' < text$1.txt | sort | uniq -c | sort -rn | head -n 3
"""

HASH_SEARCH = """\
import hashlib, itertools

found = 0
for n in itertools.count():
    digest = hashlib.sha256(b"retz %d" % n).hexdigest()
    if digest.startswith("0000"):
        print(f"sha256(retz {n}) = {digest[:16]}...", flush=True)
        found += 1
        if found == 30:
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


class Workload:
    """Jobs, and how each of them shall end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.expected: dict[int, Expected] = {}

    def tell(self) -> bool:
        """The first half of the demo. Returns whether every outcome was as expected."""
        place = self.place
        say("1. A server on this machine; nothing needs to be configured")
        place.start_server()
        say("2. Real work: word counts, a compile, a hash search; one job fails, one")
        say("   eats memory, one never ends")
        doomed = self._submit()
        say("3. kill -9 of the server in the middle; the jobs go on without it")
        place.wait_for(lambda jobs: sum(job["state"] == "FINISHED" for job in jobs.values()) >= 2)
        place.end_server(signal.SIGKILL)
        place.start_server()
        say("4. One job is killed")
        place.wait_for(lambda jobs: jobs[doomed]["state"] == "STARTED")
        place.retz("kill", str(doomed))
        place.wait_for(lambda jobs: all(job["ended"] for job in jobs.values()))
        say("5. What became of everything, and why one of them ended")
        sys.stdout.flush()
        place.retz("list", "--state", "ALL", capture=False)  # it fits its table to a terminal
        hog = next(i for i, e in self.expected.items() if e.what == "memory hog")
        say(place.retz("why", str(hog)).rstrip())
        return self._check()

    def _schedule(self, expected: Expected, *arguments: str) -> list[int]:
        ids = self.place.schedule(*arguments)
        self.expected.update(dict.fromkeys(ids, expected))
        return ids

    def _submit(self) -> int:
        """Queue everything; returns the id of the job that must be killed."""
        self._make_files()
        self.place.retz("drain", "--pause")
        words = ("--each-line", "counts.txt", "--tags", "words", "--cpus", "0.5")
        self._schedule(Expected("word count", "FINISHED", None, 0), *words)
        endless = ("-N", "endless", "-c", "while :; do :; done")
        doomed = self._schedule(Expected("never ends", "KILLED", "user"), "--cpus", "0.5", "--prio", "5", *endless)[0]
        self._schedule(Expected("memory hog", "FAILED", "oom"), "--mem", "96m", "-N", "hog", "--", "python", "hog.py")
        self._schedule(Expected("failing", "FAILED", "exit", 3), "-N", "fails", "-c", "echo sorry >&2; exit 3")
        slow = ("-N", "too-slow", "-c", "while :; do :; done")
        self._schedule(Expected("too slow", "FAILED", "timeout"), "--timeout", "1s", "--cpus", "0.5", *slow)
        search = ("--prio", "-10", "-N", "search", "--", "python", "search.py")
        self._schedule(Expected("hash search", "FINISHED", None, 0), *search)
        self._schedule(Expected("compile", "FINISHED", None, 0), "-N", "compile", "-c", self._compile_command())
        self.place.retz("drain", "--resume")
        return doomed

    def _make_files(self) -> None:
        """Programs, and texts of 400 000 words."""
        work = self.place.work
        (work / "search.py").write_text(HASH_SEARCH)
        (work / "hog.py").write_text(MEMORY_HOG)
        (work / "count.sh").write_text(COUNT)
        (work / "counts.txt").write_text("".join(f"sh count.sh {number}\n" for number in range(TEXTS)))
        dice = random.Random(2017)
        for number in range(TEXTS):
            page = " ".join(dice.choices(WORDS, k=20_000)) + "\n"
            (work / f"text{number}.txt").write_text(page * 20)

    def _compile_command(self) -> str:
        """A C compile where there is a compiler, else Python's own."""
        if shutil.which("cc"):
            (self.place.work / "fib.c").write_text(COMPILE_C)
            return "cc -O2 -o fib fib.c && ./fib"
        return f"{shlex.quote(sys.executable)} -m compileall -q -f {shlex.quote(str(Path(json.__file__).parent))}"

    def _check(self) -> bool:
        """Compare every job with what was expected of it."""
        jobs = self.place.jobs()
        good = True
        for job_id, expected in self.expected.items():
            job = jobs[job_id]
            wrong = difference(job, expected)
            if wrong is not None:
                say(f"  WRONG: job {job_id} ({expected.what}): {wrong}")
                good = False
        first = min(jobs.values(), key=lambda job: job["started"] or "~")
        if first["name"] != "search":
            say(f"  WRONG: the job of the highest priority did not start first but {first['name']!r}")
            good = False
        return good


def difference(job: Job, expected: Expected) -> str | None:
    """What is not as expected of a job; None if all is. It must have run once.

    A server that is killed between the record of a launch and the launch takes it back at its next start: such an
    attempt never ran.
    """
    seen = (job["state"], job["reason"], job["exit_code"])
    if seen[:2] != expected[1:3] or (expected.exit_code is not None and seen[2] != expected.exit_code):
        return f"{seen}, expected {expected[1:]}"
    ran = sum(attempt["started"] is not None for attempt in job["attempts"])
    return None if ran == 1 else f"ran {ran} times, expected once"
