"""Slurm on one node: munged, slurmctld and slurmd of the user who calls, everything in one directory."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
from pathlib import Path

import psutil

from tests.benchmarks.rivals.base import Queue, Reaped, until

CONFIGURATION = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=64
MaxJobCount=20000
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP MaxTime=INFINITE
"""
"""Scheduling parameters at their defaults. Memory per cpu, or each job would take the node; room for 10 000 jobs, of
which the default is the most that it takes."""

TUNED = """\
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
Epilog={true}
"""
"""Look at what waits at every submit, not every 3 s. The epilog does nothing, but with one 22.05 also looks at every
end of a job; without, on one node, it was only seen to look at its ticks."""

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo")


def missing() -> list[str]:
    """The programs of it that PATH does not have."""
    return [name for name in NEEDED if shutil.which(name) is None]


class Slurm(Queue):
    """Durability, scheduling: as they are by default."""

    name = "Slurm"
    tuning = ""

    def __init__(self, home: Path, slots: int) -> None:
        super().__init__(home, slots)
        for name in ("state", "spool"):
            (home / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        true = shutil.which("true") or "/bin/true"
        text = (CONFIGURATION + self.tuning).format(
            host=host, home=home, ports=free_ports(), user=getpass.getuser(), slots=slots, true=true
        )
        (home / "slurm.conf").write_text(text)
        self.environment = {**os.environ, "SLURM_CONF": str(home / "slurm.conf")}
        self._reaped: list[Reaped] = []

    def start(self) -> None:
        if not self._reaped:
            self._start_munge()
        for name in ("slurmctld", "slurmd"):
            self._reaped.append(Reaped([name, "-D"], self.environment, self.home / f"{name}.out", self.work))
        up = {"idle", "mixed", "allocated", "completing"}
        until(lambda: self.ask(["sinfo", "-h", "-o", "%T"]).strip() in up, "a Slurm node that is up")

    def _start_munge(self) -> None:
        key = self.home / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
        options = [f"--{name}={self.home / file}" for name, file in {**files, "seed-file": "munge.seed"}.items()]
        command = ["munged", "--foreground", "--force", *options]
        self._reaped.append(Reaped(command, self.environment, self.home / "munge.out", self.work))
        until((self.home / "munge.socket").exists, "munged")

    def daemons(self, *, holders: bool = False) -> list[psutil.Process]:
        # slurmctld's helper shows itself as ": slurmscriptd" or under slurmctld's own name
        names = {"slurmctld", "slurmscriptd", "slurmd", *(("slurmstepd",) if holders else ())}
        return [each for reaped in self._reaped for each in reaped.below(*names)]

    def megabytes(self) -> float:
        munge = [each for reaped in self._reaped for each in reaped.below("munged")]
        return super().megabytes() + sum(each.memory_info().rss for each in munge) / 1e6

    def stop(self) -> None:
        for reaped in reversed(self._reaped):
            reaped.end()

    def submit(self, line: str) -> list[str]:
        return ["sbatch", "--wrap", line]

    def array(self, first: int, last: int, line: str) -> list[str]:
        return ["sbatch", f"--array={first}-{last}", "--wrap", f"I=$SLURM_ARRAY_TASK_ID; {line}"]

    def run(self, line: str) -> list[str]:
        return ["srun", "--quiet", "sh", "-c", line]

    def results(self) -> dict[int, int | None]:
        found: dict[int, int | None] = {}
        for line in self.ask(["scontrol", "show", "jobs", "-o"]).splitlines():
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            if not fields.get("ArrayTaskId", "").isdigit():
                continue  # the rest of an array, none of which has been started
            ended = fields["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")
            found[int(fields["ArrayTaskId"])] = int(fields["ExitCode"].partition(":")[0]) if ended else None
        return found


class TunedSlurm(Slurm):
    """Scheduling as fast as we could make it."""

    name = "Slurm, tuned"
    tuning = TUNED


def free_ports() -> list[int]:
    """Two that nobody listens on."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], two.getsockname()[1]]
