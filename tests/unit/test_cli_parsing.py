"""What the command line understands, seen by what it sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from retz.cli import COMMANDS, cli
from retz.cli.admin import ADMIN_COMMANDS, admin_command
from retz.cli.listing import compact
from retz.cli.parameters import parse_ids
from retz.cli.submission import carried_environment
from retz.config import host_token
from tests.doubles.api import JOB, FakeApi, job

STATUS = {"local": False, "same_host_token": "", "seq": 7}
SUBMIT = "POST /api/v2/jobs"


@pytest.fixture
def api(fake_api: FakeApi) -> FakeApi:
    fake_api.routes = {
        "GET /api/v2/status": STATUS,
        SUBMIT: {"ids": [12], "replayed": False},
        "GET /api/v2/jobs/last": JOB,
        "GET /api/v2/jobs/12": JOB,
    }
    return fake_api


def invoke(*words: str, stdin: str | bytes | None = None, code: int | None = 0) -> Result:
    result = CliRunner().invoke(cli, list(words), input=stdin, standalone_mode=False)
    if code == 0 and result.exception is not None:
        raise result.exception
    return result


def test_waiting_arrays_and_groups(api: FakeApi) -> None:
    invoke(
        "schedule", "--after", "3,4:any", "--after", "5:ok", "--at", "2026-12-01T05:00+02:00", "--array", "1-9%2",
        "--max-fails", "4", "--sandbox", "--", "true",
    )  # fmt: skip
    invoke("schedule", "--group", "g", "--max-fails", "1", "--sandbox", "--", "true")
    whole, grouped = (request.body["jobs"][0] for request in api.asked(SUBMIT))
    assert whole["after"] == ["3", "4:any", "5:ok"]
    assert whole["start_at"] == "2026-12-01T03:00:00+00:00"
    assert (whole["array"], whole["max_fails"]) == ("1-9%2", 4)
    assert (grouped["group"], grouped["max_fails"]) == ("g", 1)
    assert not {"after", "start_at", "array"} & grouped.keys()


@pytest.mark.parametrize(("newest", "number"), [(job(id=12), "12"), (job(id=20, array_id=17, array_index=3), "17")])
def test_waiting_for_the_last_job(api: FakeApi, newest: dict[str, Any], number: str) -> None:
    api.routes |= {"GET /api/v2/jobs/last": newest}
    sent = submitted(api, "--after", "last,7:any", "--after", "last:any", "--sandbox", "--", "true")
    assert sent["after"] == [number, "7:any", f"{number}:any"]
    assert len(api.asked("GET /api/v2/jobs/last")) == 1


def test_a_list_without_tasks(api: FakeApi) -> None:
    window = {"jobs": [], "total": 0, "counts": {}, "next": None, "as_of": "2026-11-20T06:27:17Z"}
    api.routes |= {"GET /api/v2/jobs": window}
    invoke("list")
    invoke("list", "--no-tasks")
    wheres = [request.query.get("where") for request in api.asked("GET /api/v2/jobs")]
    assert wheres == [None, "kind!=task"]


def test_an_array_does_not_run_in_one_terminal(api: FakeApi) -> None:
    result = invoke("run", "--array", "1-3", "--", "true", code=None)
    assert isinstance(result.exception, click.UsageError)
    assert "retz schedule --array" in str(result.exception)


def test_tasks_of_arrays_by_name(api: FakeApi) -> None:
    api.routes |= {
        "GET /api/v2/jobs/17_3": job(id=20, array_id=17, array_index=3),
        "POST /api/v2/jobs/kill": {"results": [], "ok": 0, "failed": 0},
    }
    assert parse_ids("17_3,17[4],5") == ["17_3", "17_4", 5]
    invoke("kill", "17[3]")
    assert api.asked("POST /api/v2/jobs/kill")[-1].body["ids"] == [20]


def submitted(api: FakeApi, *words: str, stdin: str | None = None) -> dict[str, Any]:
    invoke("schedule", *words, stdin=stdin)
    jobs = api.asked(SUBMIT)[-1].body["jobs"]
    assert len(jobs) == 1
    return dict(jobs[0])


def usage_error(*words: str, stdin: str | None = None) -> str:
    result = invoke(*words, stdin=stdin, code=None)
    assert isinstance(result.exception, click.UsageError)
    return str(result.exception.format_message())


def test_a_program_after_the_dashes_keeps_its_arguments(api: FakeApi) -> None:
    body = submitted(api, "--", "python", "train.py", "--epochs", "3", "-c", "a b", "")
    assert body == {"command": ["python", "train.py", "--epochs", "3", "-c", "a b", ""]}
    assert submitted(api, "python", "--version") == {"command": ["python", "--version"]}


def test_options_of_retz(api: FakeApi) -> None:
    body = submitted(
        api, "-A", "t", "-cmd", "uname -a", "-N", "fooname", "--prio", "-2", "--tags", "a,b,c,234", "-cpu", "2",
        "-mem", "512", "-gpu", "1", "--disk", "1g", "-ports", "3", "--attributes", "rack=r1,ssd", "--timeout", "30",
    )  # fmt: skip
    assert body == {
        "command": "uname -a", "application": "t", "name": "fooname", "priority": -2, "tags": ["a", "b", "c", "234"],
        "resources": {"cpus": 2.0, "mem": 512, "gpus": 1, "disk": 1024, "ports": 3}, "attributes": "rack=r1,ssd",
        "timeout_s": 1800.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["-c", "--command", "-cmd"])
def test_the_names_of_the_command_option(api: FakeApi, name: str) -> None:
    assert submitted(api, name, "x")["command"] == "x"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 1800.0), ("90s", 90.0), ("2h", 7200.0), ("1h30m", 5400.0), ("0.5", 30.0)]
)
def test_time_limits(api: FakeApi, text: str, seconds: float) -> None:
    assert submitted(api, "--timeout", text, "x")["timeout_s"] == seconds


def test_no_time_limit(api: FakeApi) -> None:
    assert "timeout_s" not in submitted(api, "--timeout", "0", "x")


def test_environment_values_stay_whole(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "inherited, too")
    body = submitted(
        api,
        "-E",
        "a=b,c=d",
        "-E",
        "FOOBAR='LOOK_AT ME'",
        "-E",
        "empty=",
        "--env",
        "many=x=y=$RETZ_CPU",
        "-E",
        "FROM_HERE",
        "x",
    )
    assert body["environment"] == {
        "a": "b,c=d", "FOOBAR": "'LOOK_AT ME'", "empty": "", "many": "x=y=$RETZ_CPU", "FROM_HERE": "inherited, too",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["=not", "NOT_SET_ANYWHERE"])
def test_environment_without_name_or_value(api: FakeApi, pair: str) -> None:
    assert "-E" in usage_error("schedule", "-E", pair, "x")
    assert not api.asked(SUBMIT)


def test_a_command_from_standard_input(api: FakeApi) -> None:
    assert submitted(api, "-c", "-", stdin="line 1\nline 2\n")["command"] == "line 1\nline 2"
    assert "empty" in usage_error("schedule", "-c", "-", stdin="\n")


def test_one_job_for_each_line_in_one_request(api: FakeApi, tmp_path: Path) -> None:
    api.routes[SUBMIT] = {"ids": [3, 4], "replayed": False}
    (tmp_path / "lines").write_text("echo ' a  b '\n\n  \necho 2, # c\n")
    result = invoke("schedule", "--each-line", "lines", "--mem", "1g")
    (request,) = api.asked(SUBMIT)
    assert [j["command"] for j in request.body["jobs"]] == ["echo ' a  b '", "echo 2, # c"]
    assert all(j["resources"] == {"mem": 1024} for j in request.body["jobs"])
    assert result.stdout == "3\n4\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["schedule"], "give one of"),
        (["schedule", "-c", "a", "b"], "give one of"),
        (["run", "--each-line", "x", "-c", "a"], "give one of"),
        (["schedule", "--each-line", "absent"], "No such file"),
        (["schedule", "--mem", "lots", "x"], "not a size"),
        (["schedule", "--cpu", "0", "x"], "not a number of processors"),
        (["schedule", "--cpu", "nan", "x"], "not a number of processors"),
        (["schedule", "--prio", "20", "x"], "-20<=x<=19"),
        (["schedule", "--timeout", "soon", "x"], "not a duration"),
        (["schedule", "--sandbox", "--env-all", "x"], "contradict"),
        (["kill"], "which job?"),
        (["kill", "x"], "not a job id"),
        (["why", "1-3"], "one job at a time"),
        (["killall"], "which jobs?"),
        (["update", "1"], "priority"),
        (["drain", "--pause", "--resume"], "--resume goes alone"),
        (["get-file", "1", "--json"], "-R DIR"),
        (["load-app", "-A", "t", "--container", "docker"], "needs --image"),
        (["load-app", "-A", "t", "-U", "root"], "docker only"),
        (["load-app", "-A", "t", "--enabled", "perhaps"], "not a valid boolean"),
        (["load-app", "-A", "t", "--docker-volumes", "d:n"], "DRIVER:NAME:PATH"),
        (["load-app", "-A", "t", "--docker-volumes", "host:/a:/b:RW"], "mode=RO|RW"),
        (["get-app"], "which application?"),
        (["lst"], "did you mean 'retz list'"),
        (["nothing-like-it"], "lists the commands"),
    ],
)
def test_wrong_usage_says_what_to_do(api: FakeApi, words: list[str], sentence: str) -> None:
    assert sentence in usage_error(*words)


def test_on_the_servers_host_a_job_runs_here(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api.routes["GET /api/v2/status"] = {**STATUS, "local": True, "same_host_token": host_token()}
    for name, value in {
        "PATH": "/p",
        "LANG": "C",
        "LC_TIME": "C",
        "VIRTUAL_ENV": "/v",
        "TERM": "xterm",
        "OTHER": "o",
    }.items():
        monkeypatch.setenv(name, value)
    body = submitted(api, "-E", "LANG=de", "x")
    assert body["directory"] == str(tmp_path)
    environment = body["environment"]
    carried = {"PATH": "/p", "LANG": "de", "LC_TIME": "C", "VIRTUAL_ENV": "/v", "HOME": str(tmp_path)}
    assert environment | carried == environment
    assert not {"TERM", "OTHER"} & set(environment) and not any(n.startswith("RETZ_") for n in environment)
    assert submitted(api, "-w", "/elsewhere", "x")["directory"] == "/elsewhere"
    assert submitted(api, "--env-all", "x")["environment"]["OTHER"] == "o"


def test_into_a_container_nothing_goes_along(api: FakeApi) -> None:
    api.routes["GET /api/v2/status"] = {**STATUS, "local": True, "same_host_token": host_token()}
    api.routes["GET /api/v2/applications/boxed"] = {"container": {"type": "docker"}}
    api.routes["GET /api/v2/applications/plain"] = {"container": {"type": "none"}}
    assert submitted(api, "-A", "boxed", "x") == {"application": "boxed", "command": ["x"]}
    assert submitted(api, "-A", "boxed", "-w", "/data", "x")["directory"] == "/data"
    assert "directory" in submitted(api, "-A", "plain", "x")
    assert "directory" in submitted(api, "-A", "unheard-of", "x")


def test_elsewhere_or_in_the_sandbox_nothing_goes_along(api: FakeApi) -> None:
    assert submitted(api, "x") == {"command": ["x"]}
    asked = len(api.asked("GET /api/v2/status"))
    assert submitted(api, "--sandbox", "x") == {"command": ["x"]}
    assert len(api.asked("GET /api/v2/status")) == asked


def test_env_all_leaves_out_what_is_ours_or_of_the_terminal() -> None:
    environ = {
        "RETZ_ACCESS_SECRET": "s", "_RETZ_COMPLETE": "x", "TERM": "t", "PWD": "/", "CUDA_VISIBLE_DEVICES": "0",
        "PORT0": "1", "PORTAL": "p", "X": "y",
    }  # fmt: skip
    assert carried_environment(environ, everything=True, here=True) == {"PORTAL": "p", "X": "y"}


def test_keys_are_fresh_for_each_submission(api: FakeApi) -> None:
    submitted(api, "x")
    submitted(api, "x")
    keys = [r.body["key"] for r in api.asked(SUBMIT)]
    assert len(set(keys)) == 2 and all(len(key) == 32 for key in keys)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("12", [12]),
        ("3-9", [3, 4, 5, 6, 7, 8, 9]),
        ("1,4-6", [1, 4, 5, 6]),
        ("last", ["last"]),
        ("2, last", [2, "last"]),
    ],
)
def test_ids(text: str, ids: list[int | str]) -> None:
    assert parse_ids(text) == ids


@pytest.mark.parametrize("text", ["", "x", "-1", "9-3", "1-", "1,,2", "1.5", "1-200000", "٣", "1" * 20])
def test_no_ids(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_ids(text)
    assert "id" in str(caught.value) or "range" in str(caught.value)


@given(st.sets(st.integers(1, 300), min_size=1))
def test_ids_survive_being_written_short(ids: set[int]) -> None:
    assert parse_ids(compact(list(ids))) == sorted(ids)


@pytest.mark.parametrize(
    "words", [["kill", "3-5"], ["kill", "-i", "3-5"], ["kill", "3", "-id", "4-5"], ["kill", "3", "4", "--id", "5"]]
)
def test_ids_as_words_or_as_retz_writes_them(api: FakeApi, words: list[str]) -> None:
    api.routes["POST /api/v2/jobs/kill"] = {"results": [], "ok": 0, "failed": 0}
    invoke(*words)
    assert api.asked("POST /api/v2/jobs/kill")[-1].body == {"ids": [3, 4, 5]}


def test_last_is_resolved_once_and_repetitions_are_dropped(api: FakeApi) -> None:
    api.routes["POST /api/v2/jobs/hold"] = {"results": [], "ok": 0, "failed": 0}
    invoke("hold", "last,12,12")
    assert api.asked("POST /api/v2/jobs/hold")[-1].body == {"ids": [12]}


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (["list"], {"limit": "1000"}),
        (["list", "--state", "queued,started"], {"state": "QUEUED,STARTED", "limit": "1000"}),
        (["list", "3-5", "9"], {"ids": "3-5,9", "state": "ALL", "limit": "1000"}),
        (["list", "--text", "a b", "-n", "5", "--held"], {"text": "a b", "limit": "5", "held": "true"}),
        (["list", "--sort", "-priority", "--at", "2026-11-20T06:00:00Z"],
         {"sort": "-priority", "at": "2026-11-20T06:00:00Z", "limit": "1000"}),
    ],
)  # fmt: skip
def test_list_asks_for_what_was_said(api: FakeApi, words: list[str], query: dict[str, str]) -> None:
    api.routes["GET /api/v2/jobs"] = {"jobs": [], "total": 0, "next": None, "counts": {}, "as_of": 1}
    invoke(*words)
    assert api.asked("GET /api/v2/jobs")[-1].query == query


def test_list_goes_through_all_pages(api: FakeApi) -> None:
    pages = {None: (["a"], "c1"), "c1": (["b"], "c2"), "c2": (["c"], None)}

    def window(request: Any) -> dict[str, Any]:
        names, following = pages[request.query.get("cursor")]
        return {"jobs": [job(name=n) for n in names], "total": 3, "next": following, "counts": {}, "as_of": 1}

    api.routes["GET /api/v2/jobs"] = window
    document = json.loads(invoke("list", "--json").stdout)
    assert [j["name"] for j in document["jobs"]] == ["a", "b", "c"]


def test_killall_sends_a_filter(api: FakeApi) -> None:
    api.routes["POST /api/v2/jobs/kill"] = {"results": [], "ok": 0, "failed": 0}
    invoke("killall", "-t", "a", "-t", "b")
    invoke("killall", "--all")
    bodies = [r.body for r in api.asked("POST /api/v2/jobs/kill")]
    assert bodies == [{"filter": {"tag": ["a", "b"], "state": ["LIVE"]}}, {"filter": {"state": ["LIVE"]}}]


def test_load_app_keeps_order_and_volumes(api: FakeApi) -> None:
    api.routes["PUT /api/v2/applications/t"] = {}
    invoke(
        "load-app", "-A", "t", "-F", "file://1", "-F", "file://2", "-L", "file://large", "--large-file", "file://large2",
        "--container", "docker", "--image", "ubuntu:latest", "--enabled", "false", "--grace-period", "7",
        "--docker-volumes", "d:n:cp,d2:n2:cp2:mode=RW:key=value-boo",
        "--docker-volumes", "nfs:192.168.0.1/:my-nfs:mode=RW:user=u:pass=p",
    )  # fmt: skip
    body = api.asked("PUT /api/v2/applications/t")[-1].body
    assert (body["files"], body["large_files"]) == (["file://1", "file://2"], ["file://large", "file://large2"])
    assert (body["enabled"], body["grace_period_s"]) == (False, 7.0)
    assert body["container"]["image"] == "ubuntu:latest"
    assert [tuple(v.values()) for v in body["container"]["volumes"]] == [
        ("d", "n", "cp", "RO", {}),
        ("d2", "n2", "cp2", "RW", {"key": "value-boo"}),
        ("nfs", "192.168.0.1/", "my-nfs", "RW", {"user": "u", "pass": "p"}),
    ]


def test_an_application_of_retz_is_none_in_our_words(api: FakeApi) -> None:
    api.routes["PUT /api/v2/applications/t"] = {}
    invoke("load-app", "-A", "t", "--container", "mesos")
    assert api.asked("PUT /api/v2/applications/t")[-1].body["container"]["type"] == "none"


def test_every_command_has_the_help_that_the_list_shows() -> None:
    context = cli.make_context("retz", ["list"], resilient_parsing=True)
    for name, (_, text) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None and command.name == name
        first = (command.help or "").split("\n\n")[0].replace("\n", " ")
        assert first.startswith(text.split(": ")[0].rstrip(".")), name
        assert any("--json" in p.opts for p in command.params) or name in ("completion", "admin", "planner"), name


def test_every_command_of_admin_has_the_help_that_the_list_shows() -> None:
    parent = cli.make_context("retz", ["admin"], resilient_parsing=True)
    context = click.Context(admin_command, info_name="admin", parent=parent)
    for name, (_, text) in ADMIN_COMMANDS.items():
        command = admin_command.get_command(context, name)
        assert command is not None and command.name == name
        first = (command.help or "").split("\n\n")[0].replace("\n", " ")
        assert first.startswith(text.split(": ")[0].rstrip(".")), name
        assert any("--json" in p.opts for p in command.params), name
