"""Why not yet, why ended, what was it worth: as a person asks it, over a restart of the server."""

from __future__ import annotations

import csv
import io
import re
import sys

from tests.server_process import ServerProcess

from .terminal import retz as typed
from .terminal import until

BURN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\nraise SystemExit(3)"


def out(server: ServerProcess, *words: str) -> str:
    done = typed(server, *words)
    assert done.code == 0, done.err
    return done.out


def test_what_a_job_waited_for_and_why_it_ended_are_known_after_a_restart_too(server: ServerProcess) -> None:
    command = ("--", sys.executable, "-c", BURN)
    number = out(server, "schedule", "--hold", "--cpus", "2", "-N", "burner", *command).strip()
    until(lambda: "held" in out(server, "why", number).partition("\n")[2].partition("\n")[0], "a wait worth telling")
    assert re.match(rf"held: retz release {number}\nit has waited \d+s: \d+s held\n", out(server, "why", number))
    out(server, "release", number)
    typed(server, "watch", number)
    told = out(server, "why", number)
    assert told.startswith("failed (exit 3): its command gave up after ") and "s held\n" in told
    assert f"retz get-file --path stderr {number}" in told
    server.kill()
    server.start()
    assert out(server, "why", number) == told
    row = next(csv.DictReader(io.StringIO(out(server, "eff", number, "--csv"))))
    assert (row["id"], row["name"], row["cpus"], row["attempts"]) == (number, "burner", "2.0", "1")
    assert float(row["cpu_s"]) >= 0.5 and 0 < float(row["cpu"]) <= 1
    assert "FAILED" in out(server, "eff", "--since", "1h", "--json")


def test_eff_of_an_array_is_of_its_tasks(server: ServerProcess) -> None:
    number = int(out(server, "schedule", "--wait", "--array", "1-2", "--", "true"))
    rows = list(csv.DictReader(io.StringIO(out(server, "eff", "last", "--csv"))))
    assert sorted(int(row["id"]) for row in rows) == [number + 1, number + 2]


def test_what_can_never_run_is_told_at_once(server: ServerProcess) -> None:
    warned = typed(server, "schedule", "--attributes", "rack=r9", "--", "true")
    assert warned.code == 0 and warned.out.strip().isdigit()
    assert "can never run on the machines there are now: needs rack=r9: no agent has it" in warned.err
    strict = typed(server, "schedule", "--strict", "--attributes", "rack=r9", "--", "true")
    assert (strict.code, strict.out) == (1, "") and "it could never run here as things are" in strict.err
