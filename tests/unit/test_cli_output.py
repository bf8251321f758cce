"""What the command line prints: tables, JSON documents of a promised shape, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from retz.cli.attached import describe_end
from retz.cli.errors import guarded
from retz.cli.listing import COLUMNS, row
from retz.cli.output import (
    Cell,
    Column,
    ago,
    cut,
    display_width,
    off_path_text,
    printable,
    state_cell,
    table_lines,
)
from retz.cli.reference import help_of, updated
from retz.cli.waiting import exit_code_of
from retz.model.units import span
from tests.doubles.api import JOB, PREDICTION, RESOURCES, RUN, STATUS, FakeApi, job, problem

ROOT = Path(__file__).parents[2]
RESULTS = {"results": [{"id": 1, "ok": True, "state": "KILLED", "new_id": 9, "error": None}], "ok": 1, "failed": 0}
APPLICATION: dict[str, Any] = {
    "name": "t", "owner": "ann", "files": [], "large_files": [], "user": None, "grace_period_s": None,
    "container": {"type": "none", "image": None, "volumes": []}, "enabled": True, "updated": None,
}  # fmt: skip
WHY = {
    "id": 12, "state": "QUEUED", "summary": "waits for memory", "ahead": 1, "ahead_ids": [3], "blocked_by": "room",
    "agents": {"total": 2, "fit": 0, "fail": {"cpus": 2, "mem": 1}}, "need": RESOURCES,
    "details": [{"agent": "a", "host": "n1", "free": RESOURCES, "total": RESOURCES, "failing": ["mem 4G > 2G free"]}],
}  # fmt: skip
EFF = {
    "id": 12, "name": "", "user": "", "state": "", "pipeline": None, "run": None, "elapsed_s": None, "cpus": 1.0,
    "cpu_s": None, "cpu": None, "mem_mb": 1, "mem_peak_mb": None, "mem": None, "attempts": 1,
}  # fmt: skip
TOTAL = {
    "jobs": 0, "unmeasured": 0, "cpu_hours": 0.0, "cpu_hours_used": 0.0, "cpu": None, "mem_gib_hours": 0.0,
    "mem_gib_hours_used": 0.0, "mem": None,
}  # fmt: skip
MOMENT = {"p50": "2026-11-20T14:05:00.000Z", "p90": "2026-11-20T14:20:00.000Z"}
ETA = {
    "id": 12, "name": "fit", "state": "QUEUED", "start": MOMENT, "end": MOMENT, "not_before": None,
    "source": "limit", "note": None, "as_of": "2026-11-20T14:00:00.000Z", "age_s": 1.5,
}  # fmt: skip
PLAN = {
    "resources": RESOURCES, "tasks": None, "agents": WHY["agents"], "could": 2, "where": "n1", "start": MOMENT,
    "end": MOMENT, "not_before": None, "end_not_before": None, "at_once": None, "hosts": None,
    "ahead": {"jobs": 3, "resources": RESOURCES}, "source": "limit", "note": None,
}  # fmt: skip
ENTRY = {
    "path": "stdout", "name": "stdout", "type": "file", "size": 6, "mtime": "2026-11-20T06:00:00.000Z",
    "mode": "-rw-r--r--", "uid": "ann", "gid": "ann", "nlink": 1,
}  # fmt: skip


@pytest.fixture
def api(fake_api: FakeApi) -> FakeApi:
    fake_api.routes = {
        "GET /ping": "OK",
        "GET /api/v2/status": STATUS,
        "POST /api/v2/jobs": {"ids": [12], "replayed": False},
        "GET /api/v2/jobs": {"jobs": [JOB], "total": 1, "next": None, "counts": {"QUEUED": 0}, "as_of": 7},
        "GET /api/v2/jobs/12": JOB,
        "GET /api/v2/jobs/12/wait": job(state="FAILED", reason="exit", exit_code=3),
        "GET /api/v2/jobs/12/why": WHY,
        "GET /api/v2/eta": {"etas": [ETA], "trouble": None},
        "POST /api/v2/plan": PLAN,
        "GET /api/v2/jobs/12/files": {"path": "", "attempt": 1, "entries": [ENTRY]},
        "GET /api/v2/jobs/12/file": b"hello\n",
        "PUT /api/v2/queue": {"mode": "draining", "running": 0},
        "GET /api/v2/pipelines": {"pipelines": [{"name": "p", "runs": 2, "predicted": True}]},
        "GET /api/v2/pipelines/p": {"name": "p", "runs": [RUN]},
        "GET /api/v2/pipelines/p/prediction": PREDICTION,
        "GET /api/v2/applications": {"applications": [APPLICATION]},
        "GET /api/v2/applications/t": APPLICATION,
        "PUT /api/v2/applications/t": APPLICATION,
        "GET /api/v2/users": {"users": [USER]},
        "POST /api/v2/users": {"users": [{**USER, "secret": "s" * 32}]},
        "GET /api/v2/users/k": USER,
        "PATCH /api/v2/users/k": USER,
        "POST /api/v2/users/k/secret": {**USER, "secret": "s" * 32},
        "GET /api/v2/usage": USAGE,
        "GET /api/v2/audit": {"records": [AUDIT]},
        "POST /api/v2/gc": {"sandboxes": 3, "records": 0},
        **{f"POST /api/v2/jobs/{a}": RESULTS for a in ("kill", "hold", "release", "update", "resubmit")},
    }
    return fake_api


USER = {
    "key": "k",
    "enabled": True,
    "admin": False,
    "info": "Ann",
    "unix_user": None,
    "created": "2026-11-20T06:00:00Z",
}
AUDIT = {
    "id": "1", "at": "2026-11-20T06:00:00Z", "who": "root", "what": "disable-user", "whom": ["k"], "detail": "",
    "origin": "127.0.0.1",
}  # fmt: skip
USAGE = {
    "since": "2026-11-13T06:00:00.000Z",
    "until": "2026-11-20T06:00:00.000Z",
    "rows": [
        {
            "user": "k", "info": "=1+1", "application": "default", "finished": 3, "failed": 1, "killed": 0,
            "running": 2, "cpu_hours": 12.5, "cpu_hours_used": 3.25, "gpu_hours": 2.0, "gpu_hours_used": 1.5,
            "mem_gib_hours": 200.0, "mem_gib_hours_used": 20.0,
        },
        {
            "user": "l", "info": "", "application": "b", "finished": 0, "failed": 0, "killed": 1,
            "running": 0, "cpu_hours": 0.5, "cpu_hours_used": 0.25, "gpu_hours": 1.0, "gpu_hours_used": None,
            "mem_gib_hours": 1.0, "mem_gib_hours_used": 0.5,
        },
    ],
}  # fmt: skip


def shape(value: Any) -> Any:
    """Names and types of a document, lists by their first element."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


FINDING = {"kind": "str", "count": "int", "seed": "int", "text": "str"}

GOLDEN: dict[str, tuple[list[str], dict[str, Any]]] = {
    "planner test": (
        [f"{__name__}.DoesNothing", "--rounds", "5"],
        {"name": "str", "seed": "int", "rounds": "int", "found": [FINDING], "slowest_s": "float", "large_s": "float"},
    ),
    "run": (["--", "x"], {"ids": ["int"], "jobs": [shape(JOB)], "exit_code": "int"}),
    "schedule": (["--", "x"], {"ids": ["int"]}),
    "list": ([], {"jobs": [shape(JOB)], "total": "int", "counts": {"QUEUED": "int"}, "as_of": "int"}),
    "get-job": (["12"], {"jobs": [shape(JOB)]}),
    "why": (["12"], shape(WHY)),
    "eta": (["12"], {"etas": [shape(ETA)], "trouble": "NoneType"}),
    "plan": (["--", "x"], shape(PLAN)),
    "eff": ([], {"jobs": [shape(EFF)], "total": shape(TOTAL)}),
    "watch": (["12", "--since", "5"], {"seq": "int", "job": shape(JOB)}),
    "kill": (["1"], shape(RESULTS)),
    "killall": (["-t", "a"], shape(RESULTS)),
    "update": (["1", "--prio", "3"], shape(RESULTS)),
    "hold": (["1"], shape(RESULTS)),
    "release": (["1"], shape(RESULTS)),
    "resubmit": (["1"], shape(RESULTS)),
    "drain": ([], {"mode": "str", "running": "int"}),
    "get-file": (["12", "-R", "out"], {"id": "int", "path": "str", "file": "str", "bytes": "int"}),
    "list-files": (["12"], {"path": "str", "attempt": "int", "entries": [shape(ENTRY)]}),
    "predict": (["p"], {"prediction": shape(PREDICTION), "sizes": {"pipeline": "str", "steps": []}}),
    "pipelines": ([], {"pipelines": [{"name": "str", "runs": "int", "predicted": "bool"}]}),
    "load-app": (["-A", "t"], {"application": shape(APPLICATION)}),
    "get-app": (["t"], {"application": shape(APPLICATION)}),
    "list-app": ([], {"applications": [shape(APPLICATION)]}),
    "admin create-user": ([], {"user": shape({**USER, "secret": ""})}),
    "admin create-users": (["2"], {"users": [shape({**USER, "secret": ""})]}),
    "admin list-user": ([], {"users": [shape(USER)]}),
    "admin get-user": (["k"], {"user": shape(USER)}),
    "admin set-user": (["k", "--info", "x"], {"user": shape(USER)}),
    "admin enable-user": (["-id", "k"], {"user": shape(USER)}),
    "admin disable-user": (["k"], {"user": shape(USER)}),
    "admin rotate-secret": (["k"], {"user": shape({**USER, "secret": ""})}),
    "admin usage": (["--since", "7d"], shape(USAGE)),
    "admin audit": ([], {"records": [shape(AUDIT)]}),
    "admin gc": (["--leeway", "60"], {"sandboxes": "int", "records": "int"}),
    "admin jobs": ([], {"jobs": [shape(JOB)], "total": "int", "counts": {"QUEUED": "int"}, "as_of": "int"}),
    "admin kill": (["1"], shape(RESULTS)),
    "config": ([], {"settings": [{"key": "str", "value": "str", "origin": "str"}], "notes": []}),
    "ping": ([], {"server": "str", "seconds": "float"}),
    "status": ([], {k: v for k, v in shape(STATUS).items() if k != "same_host_token"}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_json_documents_keep_their_shape(api: FakeApi, capsys: pytest.CaptureFixture[str], name: str) -> None:
    words, expected = GOLDEN[name]
    code = guarded(_cli(), [*name.split(), "--json", *words])
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document.pop("schema") == "retz.cli/1" and document.pop("kind") == name
    for key in ("counts",) if name in ("list", "admin jobs") else ():
        assert document[key]
    failed = shape(job(state="FAILED", reason="exit", exit_code=3))
    if name == "run":
        assert code == 3
        expected = {**expected, "jobs": [failed]}
    else:
        assert code == (1 if name == "planner test" else 0)
    assert shape(document) == expected


def _cli() -> Any:
    from retz.cli import cli

    return cli


class DoesNothing:
    """A planner with which no job ever starts."""

    def plan(self, situation: object) -> list[tuple[int, str, int]]:
        return []


def test_all_documented_kinds_are_tested() -> None:
    from retz.cli import COMMANDS
    from retz.cli.admin import ADMIN_COMMANDS

    names = {f"admin {name}" for name in ADMIN_COMMANDS}
    assert set(GOLDEN) == (set(COMMANDS) | names) - {"completion", "admin", "planner"} | {"planner test"}
    text = (ROOT / "docs/cli.md").read_text()
    section = text.split("## `--json`")[1].split("##")[0]
    assert all(f"`{name}`" in section for name in GOLDEN)


def test_the_reference_in_the_docs_is_the_real_help() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    assert text == updated(text), "run: python -m retz.cli.reference"
    assert "Usage: retz run" in help_of(["run"])


@pytest.mark.parametrize(
    ("answer", "words", "code", "sentence"),
    [
        (problem(404, "not-found", "no such job: 12"), ["get-job", "12"], 1, "no such job: 12"),
        (problem(422, "unprocessable", "jobs[0].resources.mem: too large",
                 errors=[{"field": "jobs[0].resources.mem", "message": "too large"}]), ["run", "--", "x"], 125,
         "resources.mem: too large"),
        (problem(403, "forbidden", "only an administrator may do this"), ["get-job", "12"], 1, "only an administrator"),
    ],
)  # fmt: skip
def test_refusals(
    api: FakeApi, capsys: pytest.CaptureFixture[str], answer: Any, words: list[str], code: int, sentence: str
) -> None:
    api.routes["GET /api/v2/jobs/12"] = api.routes["POST /api/v2/jobs"] = answer
    assert guarded(_cli(), words) == code
    assert capsys.readouterr().err == f"retz: {sentence}" + ("" if "admin" not in sentence else " may do this") + "\n"
    assert guarded(_cli(), [words[0], "--json", *words[1:]]) == code
    document = json.loads(capsys.readouterr().err)
    assert document["schema"] == "retz.cli/1"
    assert sentence in document["error"]["message"] and document["error"]["status"] == answer.status


def test_failures_of_a_bulk_request(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.routes["POST /api/v2/jobs/kill"] = {
        "results": [
            {"id": 1, "ok": True, "state": "KILLED", "new_id": None, "error": None},
            {"id": 2, "ok": True, "state": "STARTED", "new_id": None, "error": None},
            {"id": 3, "ok": False, "state": None, "new_id": None, "error": "no such job: 3"},
        ],
        "ok": 2,
        "failed": 1,
    }
    assert guarded(_cli(), ["kill", "1-3"]) == 1
    out, err = capsys.readouterr()
    assert out == "job 1: killed\njob 2: being killed\n"
    assert err == "retz: job 3: no such job: 3\n"


def test_no_server_says_how_to_get_one(tmp_path: Path, capsys: pytest.CaptureFixture[str], api: FakeApi) -> None:
    assert guarded(_cli(), ["--server", "http://127.0.0.1:1", "status"]) == 1
    message = "no server at http://127.0.0.1:1: start one with 'retz-server' or set retz.server.uri"
    assert capsys.readouterr().err == f"retz: {message}\n"
    assert guarded(_cli(), ["--server", "http://127.0.0.1:1", "run", "--", "x"]) == 125


def test_without_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], api: FakeApi, monkeypatch: Any
) -> None:
    monkeypatch.delenv("RETZ_ACCESS_SECRET")
    assert guarded(_cli(), ["status"]) == 1
    assert "retz.access.secret not set: start 'retz-server'" in capsys.readouterr().err


def test_a_damaged_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str], api: FakeApi) -> None:
    (tmp_path / "retz.toml").write_text("[retz.server]\nuri = 1\n")
    assert guarded(_cli(), ["status"]) == 1
    assert f"retz: {tmp_path}/retz.toml:2: retz.server.uri" in capsys.readouterr().err


def test_environment_values_are_not_printed(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.routes["GET /api/v2/jobs/12"] = job(environment={"MY_TOKEN": "<masked>", "PLAIN": "do-not-print"})
    guarded(_cli(), ["get-job", "12"])
    out = capsys.readouterr().out
    assert "PLAIN" in out and "MY_TOKEN <masked>" in out and "do-not-print" not in out


def test_secrets_are_stars(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    guarded(_cli(), ["config", "--origin", "--all"])
    guarded(_cli(), ["config", "--json"])
    out = capsys.readouterr().out
    assert "********" in out and "sesame" not in out and "environment RETZ_ACCESS_SECRET" in out


def test_list_prints_everything_when_piped(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    api.routes["GET /api/v2/jobs"] = {
        "jobs": [job(command=["echo", long, "a b"], state="QUEUED", why="waits for memory", started=None)],
        "total": 1, "next": None, "counts": {}, "as_of": 1,
    }  # fmt: skip
    guarded(_cli(), ["list"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == "ID STATE NAME CPUS MEM GPUS PRIO AGE RUN ETA AGENT TAGS COMMAND WHY".split()  # noqa: SIM905
    assert f"echo {long} 'a b'" in line and line.endswith("waits for memory") and "\033" not in line


def test_the_reader_may_go_away() -> None:
    code = "import sys; from retz.cli.errors import guarded; import click\n"
    code += "@click.command()\ndef c():\n  for _ in range(100000): print('x' * 100)\nsys.exit(guarded(c, []))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": "FINISHED"}, 0),
        ({"state": "FAILED", "reason": "exit", "exit_code": 3}, 3),
        ({"state": "FAILED", "reason": "signal", "signal": 11, "exit_code": None}, 139),
        ({"state": "FAILED", "reason": "oom", "signal": 9, "exit_code": None}, 137),
        ({"state": "FAILED", "reason": "disk", "signal": 9, "exit_code": None}, 137),
        ({"state": "FAILED", "reason": "timeout", "signal": 15, "exit_code": None}, 124),
        ({"state": "FAILED", "reason": "start", "exit_code": None}, 127),
        ({"state": "FAILED", "reason": "lost", "exit_code": None}, 125),
        ({"state": "KILLED", "reason": "user", "signal": 15, "exit_code": None}, 143),
        ({"state": "KILLED", "reason": "user", "exit_code": 9}, 9),
        ({"state": "KILLED", "reason": "user", "exit_code": None}, 130),
        ({"state": "KILLED", "reason": "user", "exit_code": 0}, 130),
    ],
)
def test_exit_codes_of_ends(changes: dict[str, Any], code: int) -> None:
    ended = job(**changes)
    assert exit_code_of(ended) == code
    assert describe_end(ended).startswith("job 12 ")


def lines(rows: list[list[Cell | str]], width: int | None = None, colour: bool = False) -> list[str]:
    columns = [Column("N", right=True), Column("NAME", optional=True), Column("TEXT", flexible=True)]
    return list(table_lines(columns, rows, width, colour))


def test_numbers_are_right_aligned_and_empty_columns_left_out_on_a_terminal() -> None:
    rows: list[list[Cell | str]] = [["1", "", "abc"], ["12", "", "d"]]
    assert lines(rows) == [" N  NAME  TEXT", " 1        abc", "12        d"]
    assert lines(rows, 80) == [" N  TEXT", " 1  abc", "12  d"]


def test_terminals_are_never_overrun() -> None:
    rows: list[list[Cell | str]] = [["1", "n", "漢字" * 40], ["2", "", "y" * 90]]
    for width in range(30, 100):
        assert all(display_width(line) <= width for line in lines(rows, width))


def queued(number: int, **more: Any) -> dict[str, Any]:
    why = "needs 2 cpus, 0.5 free; 12 jobs ahead"
    return job(id=number, state="QUEUED", agent=None, why=why, **more)


BUSY_LIST = [
    queued(103, name="a rather long name", tags=["nightly", "big"], command="python train.py --epochs 3 --lr 0.001"),
    job(id=101, state="FAILED", reason="timeout", agent="local-0123456789ab"),
    job(id=102, state="STARTED", agent="local-0123456789ab"),
]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 200])
def test_a_list_fits_the_terminal_and_keeps_what_matters(width: int) -> None:
    table = list(table_lines(COLUMNS, [row(each, 0.0) for each in BUSY_LIST], width, False))
    assert max(map(display_width, table)) <= width
    assert table[0].split()[:2] == ["ID", "STATE"] and "COMMAND" in table[0] and "AGENT" not in table[0]
    if width >= 80:
        assert "python train.py" in table[1] and "needs 2 cpus" in table[1]


def test_agents_are_shown_where_there_are_several() -> None:
    jobs = [job(id=1, agent="a"), job(id=2, agent="b")]
    assert "AGENT" in next(table_lines(COLUMNS, [row(each, 0.0) for each in jobs], 120, False))


def test_lengths_of_time() -> None:
    assert [span(s) for s in (0, 59.9, 100, 7500, 270_000)] == ["0s", "59s", "1m40s", "2h05m", "3d03h"]


def test_many_results_are_counted_on_a_terminal(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [{"id": n, "ok": True, "state": "KILLED", "new_id": None, "error": None} for n in range(50)]
    api.routes["POST /api/v2/jobs/kill"] = {"results": results, "ok": 50, "failed": 0}
    guarded(_cli(), ["kill", "1-50"])
    assert len(capsys.readouterr().out.splitlines()) == 50
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    guarded(_cli(), ["kill", "1-50"])
    assert capsys.readouterr().out == "50 jobs: killed\n"


def test_sizes_are_told_without_a_plan(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    step = {
        "step": "train", "asked": {"mem": 4096, "cpus": 4}, "given": {"mem": 1434, "cpus": 1}, "measured": 12,
        "needed": 2, "expected_mb": 1297.3, "spread": 0.0, "growth": 0.0, "stage": 12, "outliers": 0,
        "busy_cpus": 0.93, "duration_s": 312.0, "past": [],
    }  # fmt: skip
    api.routes["GET /api/v2/pipelines/p/sizes"] = {"pipeline": "p", "steps": [step]}
    api.routes["GET /api/v2/pipelines/p/prediction"] = problem(503, "unavailable", "this history was lost")
    assert guarded(_cli(), ["predict", "p"]) == 0
    out = capsys.readouterr().out
    assert "--predicted gives 1.4G" in out and out.endswith("\nno plan of the whole run: this history was lost\n")
    api.routes["GET /api/v2/pipelines/p/sizes"] = {"pipeline": "p", "steps": [{**step, "given": None}]}
    assert guarded(_cli(), ["predict", "p"]) == 1


def test_colour_does_not_count_as_width() -> None:
    plain, tinted = lines([["1", "n", Cell("x", "31")]], 40), lines([["1", "n", Cell("x", "31")]], 40, True)
    assert tinted[1].replace("\033[31m", "").replace("\033[0m", "") == plain[1] and tinted[1] != plain[1]


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\033[2Jb\nc\x9b\u202e") == "a\\x1b[2Jb\\nc\\x9b\\u202e"
    assert "\033" not in lines([["1", "\033[31mred", ""]])[1]
    assert cut("abcdef", 4) == "abc…" and cut("漢字漢字", 5) == "漢字…"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"state": "QUEUED"}, "◌ queued"),
        ({"state": "QUEUED", "held": True}, "‖ held"),
        ({"state": "STARTED", "kill_requested": "2026-11-20T06:00:00Z"}, "● killing"),
        ({"state": "FAILED", "reason": "exit", "exit_code": 3}, "✘ failed 3"),
        ({"state": "FAILED", "reason": "signal", "signal": 9}, "✘ failed signal 9"),
        ({"state": "FAILED", "reason": "oom"}, "✘ failed oom"),
        ({"state": "KILLED"}, "■ killed"),
    ],
)
def test_states(changes: dict[str, Any], text: str) -> None:
    assert state_cell(job(**changes)).text == text


def test_ages() -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    assert [ago(t, now) for t in (None, "2026-11-20T11:59:50Z", "2026-11-20T11:50:00Z", "2026-11-17T11:50:00Z")] == [
        "", "10s", "10m", "3d",
    ]  # fmt: skip
    assert ago("2026-11-20T12:00:05Z", now) == "0s"


def test_usage_as_a_table_has_a_total(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(_cli(), ["admin", "usage"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "2026-11-13T06:00:00Z to 2026-11-20T06:00:00Z"
    assert lines[2] == "k =1+1 default 3 1 0 2 12.50 3.25 2.00 1.50 200 20.00"
    assert lines[3] == "l b 0 0 1 0 0.50 0.25 1.00 ? 1.00 0.50"
    assert lines[4] == "TOTAL 3 1 1 2 13.00 3.50 3.00 1.50 201 20.50"


@pytest.mark.parametrize(
    ("width", "gone"), [(130, []), (100, ["RUNNING"]), (80, ["RUNNING", "KILLED", "FAILED", "FINISHED"])]
)
def test_usage_on_a_terminal_says_who(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, gone: list[str]
) -> None:
    first, second = cast(list[dict[str, Any]], USAGE["rows"])
    ann = {**first, "user": "6513270e269e0d37f2a74de452e6b438", "info": "Ann, physics"}
    api.routes["GET /api/v2/usage"] = {**USAGE, "rows": [ann, {**ann, "application": "train"}, second]}
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    assert guarded(_cli(), ["admin", "usage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert sum("Ann, physics" in line for line in lines) == 2
    assert any("train" in line for line in lines)
    assert [name for name in ("FINISHED", "FAILED", "KILLED", "RUNNING") if name not in lines[1]] == gone[::-1]


def test_usage_of_nobody_is_said_in_words(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.routes["GET /api/v2/usage"] = {**USAGE, "rows": []}
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert guarded(_cli(), ["admin", "usage"]) == 0
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (1, "no job held anything in that time\n")


def test_usage_as_csv_is_no_formula(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(_cli(), ["admin", "usage", "--csv"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.startswith("since,until,user,info,application,finished")
    assert ",k,'=1+1,default,3,1,0,2,12.5,3.25,2.0,1.5,200.0,20.0" in first
    assert second.endswith("l,,b,0,0,1,0,0.5,0.25,1.0,,1.0,0.5")


def test_a_new_user_is_printed_as_their_configuration(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    import tomllib

    assert guarded(_cli(), ["admin", "create-user", "--info", "Ann"]) == 0
    said = tomllib.loads(capsys.readouterr().out)["retz"]
    assert said["access"] == {"key": "k", "secret": "s" * 32}
    assert said["server"]["uri"].startswith("http://")


def test_how_a_running_job_left_its_path() -> None:
    peak = {"kind": "hungrier", "value": 2150.0, "usual": 1024.0, "after_s": None}
    slow, then = {"kind": "slower", "value": 720.0, "usual": 480.0}, {**peak, "value": 800.0, "after_s": 750.0}
    assert off_path_text({"off_path": [slow, peak]}) == (
        "slower than usual: 12m00s, in 9 of 10 runs at most 8m00s; "
        "hungrier than usual: 2.1G, in 9 of 10 runs at most 1G"
    )
    assert (
        off_path_text({"off_path": [then]}) == "hungrier than usual: 800M after 12m30s, in 9 of 10 runs at most 1G then"
    )
    assert off_path_text({}) == ""
