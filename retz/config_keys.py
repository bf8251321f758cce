"""Every configuration key: name, kind, default, one line of why. ``conf/retz.toml`` is made from this table.

Key ``retz.server.uri`` is ``uri`` in ``[retz.server]`` of a file, ``RETZ_SERVER_URI`` in the environment.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["text", "bool", "int", "number", "size", "duration", "path", "uri", "range", "gpus", "table"]
Value = str | bool | int | float | tuple[int, int] | dict[str, str | float | bool] | None

DEFAULT_URI = "http://127.0.0.1:19090"

JOB_VARIABLES = frozenset(
    f"RETZ_{name}" for name in ("JOB_ID", "ATTEMPT", "CPUS", "MEM_MB", "GPUS", "SANDBOX", "TASK", "LAUNCHER")
)
"""What a job sees of itself. Never configuration: a job may well run ``retz`` itself."""


class Key(NamedTuple):
    """One key. ``default`` is what a file would say, None where the key has no value unless given.

    Attributes:
        scope: Who reads it.
        choices: The only values allowed, if any are named.
        secret: Shown as stars.
    """

    name: str
    kind: Kind
    default: Value
    why: str
    scope: Literal["client", "server", "both"] = "server"
    choices: tuple[str, ...] = ()
    secret: bool = False

    @property
    def environment(self) -> str:
        """The variable's name: ``RETZ_MAX_LIST_JOBS``."""
        return self.name.replace(".", "_").replace("-", "_").upper()

    @property
    def attribute(self) -> str:
        """The name in ClientConfig or ServerConfig: ``max_list_jobs``."""
        return self.name.removeprefix("retz.").replace(".", "_").replace("-", "_")

    @property
    def table(self) -> str:
        """The TOML table it stands in."""
        return self.name.rpartition(".")[0]


KEYS: tuple[Key, ...] = (
    Key("retz.server.uri", "uri", DEFAULT_URI, "where clients find the server", "client"),
    Key("retz.server.timeout", "duration", "30s", "an answer that takes longer counts as lost", "client"),
    Key("retz.server.retry", "duration", "10m", "how long to look for a server that went away", "client"),
    Key("retz.access.key", "text", None, "who you are; the server makes one at its first start", "both"),
    Key("retz.access.secret", "text", None, "signs requests, is never sent", "both", (), True),
    Key("retz.authentication", "bool", True, "false: no signatures, on both sides; loopback only", "both"),
    Key("retz.shared-uid", "bool", False, "true lets several users share one Unix user, and so each other's files"),
    Key("retz.tls.ca", "path", None, "certificates to trust instead of the system's", "client"),
    Key("retz.tls.insecure", "bool", False, "true trusts any certificate: never for work", "client"),
    Key("retz.tls.certificate", "path", None, "PEM chain of the server; needed when retz.bind is https"),
    Key("retz.tls.key", "path", None, "PEM private key that belongs to it"),
    Key("retz.bind", "uri", DEFAULT_URI, "where the server listens: loopback until you decide otherwise"),
    Key("retz.engine", "text", "local", "what runs the jobs: local, mesos; null runs nothing, reports done", "server",
        ("local", "mesos", "null")),
    Key("retz.data-dir", "path", "$XDG_STATE_HOME/retz", "journal, archive, sandboxes: a disk you trust"),
    Key("retz.max.running", "int", 0, "jobs running at one time; 0 = as many as fit"),
    Key("retz.max.cpus", "number", 0, "most cpus of one job; 0 = what the largest agent has"),
    Key("retz.max.mem", "size", 0, "most memory of one job; 0 = what the largest agent has"),
    Key("retz.max.disk", "size", 0, "most disk space of one job; 0 = what the largest agent has"),
    Key("retz.max.gpus", "int", 0, "most GPUs of one job; 0 = what the largest agent has"),
    Key("retz.max.ports", "int", 0, "most ports of one job; 0 = what the largest agent has"),
    Key("retz.max.list-jobs", "int", 1000, "most jobs in one answer; longer lists come in pages"),
    Key("retz.max.file-size", "size", 0, "largest file that is downloaded from a sandbox; 0 = no limit"),
    Key("retz.max.jobs-per-request", "int", 100_000, "most jobs in one submission"),
    Key("retz.max.user.queued", "int", 0, "most jobs that one user has waiting; 0 = no limit"),
    Key("retz.max.user.running", "int", 0, "most jobs of one user running at one time; 0 = no limit"),
    Key("retz.max.user.cpus", "number", 0, "most cpus that one user holds at one time; 0 = no limit"),
    Key("retz.max.user.mem", "size", 0, "most memory that one user holds at one time; 0 = no limit"),
    Key("retz.max.user.gpus", "int", 0, "most GPUs that one user holds at one time; 0 = no limit"),
    Key("retz.planner.name", "text", "fair", "who goes first: fifo, priority (lower numbers first), or fair"),
    Key("retz.planner.budget", "duration", "1s", "a planner of your own that takes longer loses its turn"),
    Key("retz.planner.fair-resources", "text", "cpus,mem,gpus", "planner fair: whose largest part is a user's share"),
    Key("retz.planner.half-life", "duration", "7d", "planner fair: after so long, past use counts half"),
    Key("retz.planner.patience", "duration", "5m", "a job that waited so long holds a place; 0 = never"),
    Key("retz.retries", "int", 5, "how often a job is tried again after its machine was lost"),
    Key("retz.kill-grace", "duration", "5s", "time between SIGTERM and SIGKILL, for jobs that do not say"),
    Key("retz.archive.keep", "duration", "365d", "how long the records of ended jobs are kept"),
    Key("retz.sandbox.keep", "duration", "7d", "how long the output of ended jobs is kept"),
    Key("retz.local.cpus", "number", 0, "cpus that jobs may use here; 0 = all that this process may use"),
    Key("retz.local.mem", "size", 0, "memory that jobs may use here; 0 = all this machine has"),
    Key("retz.local.disk", "size", 0, "disk that jobs may use here; 0 = what is free where data-dir is"),
    Key("retz.local.gpus", "gpus", "auto", "auto asks NVML; a number or a list of UUIDs declares them"),
    Key("retz.local.ports", "range", "31000-32000", "ports handed out to jobs, both ends included"),
    Key("retz.local.sample-interval", "duration", "1s", "how often the use of running jobs is measured"),
    Key("retz.local.user", "text", None, "Unix user of jobs without one of their own; a server of root's needs it"),
    Key("retz.local.attributes", "table", {}, "what --attributes of jobs are compared with: rack = 'r1'"),
    Key("retz.fetch.timeout", "duration", "10m", "so long a job's files may take to be fetched and unpacked"),
    Key("retz.fetch.max-size", "size", "10g", "largest file that is fetched, and most that an archive unpacks to"),
    Key("retz.fetch.cache", "size", "10g", "kept of files fetched with -L, per Unix user; 0 = nothing is kept"),
    Key("retz.container.runtime", "text", "auto", "local engine: auto (podman, else docker), or a name, or a path"),
    Key("retz.container.options", "text", None, "more options of its 'run', as in a shell: '--shm-size 1g --ipc host'"),
    Key("retz.container.network", "text", "host", "network of containers; with another than host, ports are published"),
    Key("retz.container.host-paths", "text", None, "paths that containers may mount, with commas between"),
    Key("retz.container.volume-drivers", "text", "local", "drivers whose volumes may be mounted, with commas between"),
    Key("retz.mesos.master", "text", None, "host:port of the master, or zk://host:2181,host:2181/mesos"),
    Key("retz.mesos.name", "text", "Retz", "name of the framework, for people who look at the cluster"),
    Key("retz.mesos.roles", "text", "*", "roles whose offers are used, with commas between"),
    Key("retz.mesos.user", "text", None, "Unix user of jobs without one; else the server's, if not root"),
    Key("retz.mesos.principal", "text", None, "who the framework is, for masters and agents that ask"),
    Key("retz.mesos.secret-file", "path", None, "file with the principal's secret; only its owner may read it"),
    Key("retz.mesos.webui-url", "text", None, "link shown by Mesos; else where this server listens"),
    Key("retz.mesos.failover-timeout", "duration", "7d", "away longer than this, Mesos kills all running jobs"),
    Key("retz.mesos.unreachable-wait", "duration", "10m", "agents away longer than this have their jobs run elsewhere"),
    Key("retz.mesos.refuse", "duration", "5m", "room that no job needs is left to others for so long"),
    Key("retz.mesos.poll", "duration", "30s", "how often the master is asked about all its agents"),
    Key("retz.mesos.sample-interval", "duration", "10s", "how often the use of running jobs is measured"),
    Key("retz.gpu.exporter", "text", None, "DCGM exporter of each agent: http://{host}:9400/metrics"),
    Key("retz.notify.allow", "text", None, "networks that --on-end may call beside public ones: 10.0.0.0/8,192.0.2.7"),
    Key("retz.notify.command", "text", None, "shell line run for each job that ended, its JSON on standard input"),
    Key("retz.estimator.enabled", "bool", True, "keep skylines of pipelines' runs, and predict from them"),
    Key("retz.estimator.solver", "text", "fast", "what predicts: fast, lp, peak, last, max, mean2, p95"),
    Key("retz.estimator.alpha", "number", 0.1, "0 to 1: the larger, the dearer is reserving too much"),
    Key("retz.estimator.beta", "number", 0.1, "0 to 1: weight of what keeps a plan from fitting too closely"),
    Key("retz.estimator.interval", "duration", "5s", "length of one step of a prediction, whole seconds"),
    Key("retz.estimator.min-runs", "int", 2, "fewer runs of a pipeline get no prediction"),
    Key("retz.estimator.keep-runs", "int", 200, "runs remembered per pipeline; the oldest go"),
    Key("retz.estimator.idle", "duration", "60s", "the estimator's processes end after so long without work"),
    Key("retz.predicted.floor", "size", "32m", "least memory of a job that asks for what its past runs say"),
    Key("retz.tui.keys", "table", {}, "other keys for retz-tui, by the names in its help: 'queue.kill' = 'x'",
        "client"),
    Key("retz.log.level", "text", "info", "debug is for finding a fault: it is long", "server",
        ("debug", "info", "warning", "error")),
    Key("retz.store.journal-size", "size", "64m", "a journal longer than this is sealed and a new one begun"),
    Key("retz.store.keep", "duration", "1d", "how long sealed journals stay, for clients that reconnect"),
)  # fmt: skip

BY_NAME = {key.name: key for key in KEYS}


def template() -> str:
    """Return the text of ``conf/retz.toml``: every key with its default and its why, commented out."""
    lines = [
        "# Every key of Retz, its default and why it exists. Uncomment what you want to change.",
        "# Clients read: $XDG_CONFIG_HOME/retz/retz.toml and a project's retz.toml; the server: the first.",
        "# Durations: 90s, 2h, 7d (bare numbers are seconds). Sizes: 512m, 16g (bare numbers are MiB).",
    ]
    table = ""
    for key in sorted(KEYS, key=lambda key: (key.table, KEYS.index(key))):
        if key.kind == "table":
            lines += ["", f"# {key.why}", f"[{key.name}]"]
            continue
        if key.table != table:
            table = key.table
            lines += ["", f"[{table}]"]
        name = key.name.rpartition(".")[2]
        value = '"..."' if key.default is None else toml_value(key.default)
        lines.append(f"# {name} = {value}  # {key.why}")
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """Return a number, truth value or text as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    text = "".join(escapes.get(c) or (f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else c) for c in str(value))
    return f'"{text}"'


if __name__ == "__main__":
    print(template(), end="")
