"""What the queue learns: a recurring pipeline from a guess to a size, why a job waits, and when it will start."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from retz.model.units import format_size

from .place import Job, Place, say

PICTURE = Path("skyline.png")
"""Where the picture goes: the one thing that the demo leaves behind."""

GUESS = "600m"
RUNS = 4

BUILD = """\
import random, sys, time

megabytes = 60 + random.Random(int(sys.argv[1])).randint(0, 8)  # a little more or less each time


def compute(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


rows = bytearray(b"r") * (megabytes // 3 << 20)
compute(0.4)
table = bytearray(b"t") * (megabytes << 20)
compute(0.5)
del table
compute(0.3)
"""


class Pipeline:
    """Runs of one job each; the last gets what the others needed."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def tell(self) -> bool:
        """The second half of the demo. Returns whether every job ended well."""
        place = self.place
        (place.work / "build.py").write_text(BUILD)
        say(f"6. Recurring work: a pipeline runs {RUNS} times, and asks for {GUESS}, a guess")
        known = place.jobs()
        for run in range(1, RUNS + 1):
            self._submit(run, show=run in (1, RUNS))
        place.wait_for(lambda jobs: all(job["ended"] for job in jobs.values()))
        say("7. How much does it need?")
        say(self._advice())
        say("8. Once more, with what it needs. Beside it a job that asks for all cpus:")
        say("   why is it where it is, and when will it start?")
        sized = self._submit(RUNS + 1, "--predicted")
        cpus = json.loads(place.retz("status", "--json", show=False))["total"]["cpus"]
        greedy = place.schedule("-N", "greedy", "--cpus", f"{cpus:g}", "--mem", "64m", "--timeout", "1m", "--", "true")[
            0
        ]
        say(place.retz("why", str(greedy)).rstrip())
        say(place.retz("eta", str(greedy)).rstrip())
        jobs = place.wait_for(lambda jobs: all(job["ended"] for job in jobs.values()))
        say("9. Asked for, used, given:")
        sys.stdout.flush()
        place.retz("predict", "build", "--text", capture=False)  # it fits a terminal
        say(outcome(jobs[sized]))
        new = [job for job_id, job in jobs.items() if job_id not in known]
        return self._draw() and all(job["state"] == "FINISHED" for job in new)

    def _submit(self, run: int, *options: str, show: bool = True) -> int:
        words = ("--pipeline", "build", "-N", "build", "--run", f"day-{run}", "--mem", GUESS, "--cpus", "0.5", *options)
        return self.place.schedule(*words, "--", "python", "build.py", str(run), show=show)[0]

    def _advice(self) -> str:
        """The first paragraph of what ``retz predict`` says: what past runs say about the size of the job."""
        return self.place.retz("predict", "build").split("\n\n")[0]

    def _draw(self) -> bool:
        PICTURE.unlink(missing_ok=True)
        self.place.retz("predict", "build", "--png", str(PICTURE.absolute()), show=False)
        say(f"   the picture of it: {PICTURE.absolute()}")
        return PICTURE.stat().st_size > 0


def outcome(job: Job) -> str:
    """What became of a job that was to get what past runs needed, in one sentence."""
    sized, memory = job["sized"], job["resources"]["mem"]
    asked = sized["asked"]["mem"]
    used = job["usage"]["max_rss_mb"] if job["usage"] else None
    what = f"job {job['id']} asked for {format_size(asked)}"
    if sized["mem"] is None:
        return f"   {what}, and got that: too few runs were measured."
    if sized["outgrew"] is not None:
        return f"   {what}, got {format_size(sized['mem'])}, needed more, and ran once more with {format_size(memory)}."
    parts = [what, f"got {format_size(memory)}", *([f"used {format_size(round(used))}"] if used else [])]
    less = 1 - memory / asked
    kept = f": {less:.0%} of its memory was free for others." if less >= 0.005 else "."
    return f"   {', '.join(parts)}{kept}"
