"""Bad input at the command line: one sentence that says what to do, a code, and the server goes on as before."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

from .terminal import command, job, retz, submit

TRUE = ["--", "true"]
REFUSED, USAGE = 1, 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["schedule", "--cpu", "-1", *TRUE], USAGE, "write 2 or 0.5"),
        (["schedule", "--cpu", "nan", *TRUE], USAGE, "write 2 or 0.5"),
        (["schedule", "--cpu", "inf", *TRUE], USAGE, "write 2 or 0.5"),
        (["schedule", "--cpu", "0.0001", *TRUE], REFUSED, "resources.cpus: must be between 0.001 and 1000000"),
        (["schedule", "--cpu", "5", *TRUE], REFUSED, "5 cpus is more than the largest agent has (4 cpus)"),
        (["schedule", "--mem", "-5", *TRUE], USAGE, "write MiB as '512', or '512m'"),
        (["schedule", "--mem", "nan", *TRUE], USAGE, "not a size: 'nan'"),
        (["schedule", "--mem", "0", *TRUE], REFUSED, "at least 1 MiB"),
        (["schedule", "--mem", "5g", *TRUE], REFUSED, "5G is more than the largest agent has (4G)"),
        (["schedule", "--mem", "99999999t", *TRUE], USAGE, "out of range"),
        (["schedule", "--gpu", "1", *TRUE], REFUSED, "more than the largest agent has (0 gpus)"),
        (["schedule", "--ports", "5000", *TRUE], USAGE, "0<=x<=1000"),
        (["schedule", "--prio", "20", *TRUE], USAGE, "-20<=x<=19"),
        (["schedule", "--timeout", "soon", *TRUE], USAGE, "write '30' (minutes), '90s'"),
        (["schedule", "-N", "a\nb", *TRUE], REFUSED, "name: must not contain line breaks"),
        (["schedule", "-N", "x" * 201, *TRUE], REFUSED, "name: must be text of length <= 200"),
        (["schedule", "-t", "a\tb", *TRUE], REFUSED, "tags[0]: must not contain line breaks"),
        (["schedule", "-t", ",".join(map(str, range(20_000))), *TRUE], REFUSED, "tags: must be a list of length"),
        (["schedule", "--attributes", "rack==1", *TRUE], REFUSED, "use = != > >= < or <="),
        (["schedule", "-w", "here/or/there", *TRUE], REFUSED, "must be an absolute path"),
        (["schedule", "-A", "nobody's", *TRUE], REFUSED, "register it with 'retz load-app"),
        (["schedule", "-E", "NOT_SET_HERE", *TRUE], USAGE, "there is no such variable here"),
        (["schedule", "-E", "=x", *TRUE], USAGE, "-E wants NAME=VALUE"),
        (["schedule"], USAGE, "give one of: a program after --"),
        (["schedule", "-c", "x", *TRUE], USAGE, "give one of: a program after --"),
        (["schedule", "-c", " "], USAGE, "the command is empty"),
        (["schedule", "--", ""], REFUSED, "no program"),
        (["schedule", "--each-line", "/no/such/file"], USAGE, "No such file or directory"),
        (["load-app", "-A", "a/b"], REFUSED, "letters, digits"),
        (["load-app", "-A", ""], USAGE, "the name is empty"),
        (["load-app", "-A", "x", "--container", "docker"], USAGE, "needs --image"),
        (["list", "x"], USAGE, "write 12, 3-9, 1,4-6, last, or 17_3"),
        (["list", "9-3"], USAGE, "a range counts upwards"),
        (["list", "1-200000"], USAGE, "more than 100000 ids at once"),
        (["list", ",".join(map(str, range(1, 20_000, 2)))], USAGE, "list them in several turns"),
        (["list", "--state", "RUNNING"], REFUSED, "say LIVE, ENDED, ALL"),
        (["list", "--since", "yesterday"], REFUSED, "ISO-8601"),
        (["list", "--sort", "beauty"], REFUSED, "must be one of id, state"),
        (["kill"], USAGE, "which job? give an id"),
        (["killall"], USAGE, "which jobs? give --tag"),
        (["get-job", "999999"], REFUSED, "no such job: 999999"),
        (["get-file", "1,2"], USAGE, "one job at a time"),
        (["update", "1"], USAGE, "--prio"),
        (["drain", "--pause", "--resume"], USAGE, "--resume goes alone"),
        (["lst"], USAGE, "did you mean 'retz list'?"),
        (["list", "--colour"], USAGE, "No such option"),
        (["--server", "localhost", "list"], REFUSED, "must be http://HOST:PORT"),
        (["--server", "http://127.0.0.1:1", "list"], REFUSED, "start one with 'retz-server'"),
        (["--server", "http://127.0.0.1:1", "run", *TRUE], 125, "start one with 'retz-server'"),
        (["-C", "/no/such/file", "list"], REFUSED, "cannot be read: No such file"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_makes_no_sense_is_told(shared: ServerProcess, words: list[str], code: int, said: str) -> None:
    answer = retz(shared, *words)
    assert (answer.code, answer.out) == (code, ""), answer
    assert said in answer.err, answer.err
    assert answer.err.startswith("retz: ")
    assert len(answer.err) < 700
    assert "Traceback" not in answer.err


def test_errors_as_json(shared: ServerProcess) -> None:
    for words, fields in [
        (["schedule", "--json", "--cpu", "5", *TRUE], ["jobs[0].resources.cpus"]),
        (["list", "--json", "--state", "RUNNING"], ["state"]),
        (["get-job", "--json", "x"], None),
    ]:
        said = retz(shared, *words)
        error = json.loads(said.err)["error"]
        assert error["code"] and error["message"], said
        if fields is not None:
            assert [field["field"].removeprefix("jobs[0].") for field in error["fields"]] == [
                field.removeprefix("jobs[0].") for field in fields
            ]


@pytest.mark.parametrize(
    ("option", "stdin", "said"),
    [
        ("-c", b"x" * 10_000_000, "put it into a script file and run that instead"),
        ("-c", b"echo a\0b", "must not contain NUL"),
        ("-c", b"\xff\xfe", "not valid UTF-8"),
        ("-c", b"\n \n", "the command is empty"),
        ("--each-line", b"x" * 10_000_000, "put it into a script file and run that instead"),
        ("--each-line", b"\n\n", "there is no line in it"),
        ("--each-line", b"ok\n" * 3 + b"\xff\n", "not valid UTF-8"),
    ],
    ids=["huge", "nul", "binary", "blank", "a huge line", "no line", "a binary line"],
)
def test_commands_that_cannot_be(shared: ServerProcess, option: str, stdin: bytes, said: str) -> None:
    before = retz(shared, "list", "--state", "ALL", "--json").json["total"]
    answer = retz(shared, "schedule", option, "-", stdin=stdin)
    assert answer.code in (REFUSED, USAGE)
    assert said in answer.err, answer.err[:1000]
    assert len(answer.err) < 1000
    assert retz(shared, "list", "--state", "ALL", "--json").json["total"] == before


def test_each_line_is_all_or_nothing(shared: ServerProcess) -> None:
    answer = retz(shared, "schedule", "-N", "half", "--each-line", "-", stdin=b"true\n" * 500 + b"tr\0ue\n")
    assert answer.code == REFUSED
    assert "jobs[500].command" in answer.err
    assert retz(shared, "list", "--state", "ALL", "-N", "half", "--json").json["total"] == 0


def test_names_of_all_the_world(shared: ServerProcess) -> None:
    number = submit(shared, "-N", "a/b 名前 ñ", "-t", "тег", "--", "echo", "日本語 😀")
    assert retz(shared, "watch", str(number)).code == 0
    assert retz(shared, "get-file", str(number)).out == "日本語 😀\n"
    assert "a/b 名前 ñ" in retz(shared, "list", "--state", "ALL", "-t", "тег").out
    ascii_only = retz(shared, "get-job", str(number), environment={"LANG": "C", "PYTHONIOENCODING": "ascii"})
    assert (ascii_only.code, "Traceback" in ascii_only.err) == (0, False), ascii_only


def test_a_job_cannot_steer_the_terminal(shared: ServerProcess) -> None:
    number = submit(shared, "-c", "printf '\\033[2J'; : \x1b]0;owned\x07")
    for words in (["list", str(number)], ["get-job", str(number)], ["watch", str(number)]):
        assert "\x1b" not in retz(shared, *words).out


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RETZ_ACCESS_SECRET", "wrong", "the signature does not match: check retz.access.key and retz.access.secret"),
        ("RETZ_ACCESS_KEY", "nobody", "the signature does not match: check retz.access.key and retz.access.secret"),
        ("RETZ_SERVER_TIMEOUT", "abc", "RETZ_SERVER_TIMEOUT: retz.server.timeout: not a duration"),
        ("RETZ_SERVER_URI", "ftp://x", "RETZ_SERVER_URI: retz.server.uri: must be http://HOST:PORT"),
    ],
)
def test_a_wrong_environment(shared: ServerProcess, variable: str, value: str, said: str) -> None:
    answer = retz(shared, "list", environment={variable: value})
    assert (answer.code, answer.out) == (REFUSED, "")
    assert said in answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[retz.server]\nuri = 3\n", ":2: retz.server.uri: must be a text in quotes"),
        ("[retz.server]\n\nurii = 'http://a'\n", ":3: retz.server.urii: no such key; did you mean retz.server.uri?"),
        ("what is this\n", "not valid TOML"),
        ("[retz.access]\nsecret = 12345678\n", ":2: retz.access.secret: must be a text in quotes"),
    ],
)
def test_a_damaged_configuration(shared: ServerProcess, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    answer = retz(shared, "-C", str(file), "list")
    assert (answer.code, answer.out) == (REFUSED, "")
    assert f"{file}" in answer.err and said in answer.err
    assert "12345678" not in answer.err


def test_a_directory_that_is_gone(shared: ServerProcess, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = f'mkdir {gone}; cd {gone}; rmdir {gone}; exec "$@"'
    said = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *command(["schedule", *TRUE])],
        env=shared.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, "this directory is gone" in said.stderr) == (USAGE, True), said.stderr
    assert retz(shared, "ping").code == 0


def test_files_of_jobs_that_never_ran(shared: ServerProcess) -> None:
    number = submit(shared, "--hold", *TRUE)
    assert "'retz get-file --poll'" in retz(shared, "get-file", str(number)).err
    retz(shared, "kill", str(number))
    assert "ended without having been started" in retz(shared, "get-file", str(number)).err
    followed = retz(shared, "get-file", str(number), "--poll")
    assert followed == (0, "", "")
    assert job(shared, number)["state"] == "KILLED"


def test_help_without_a_word(shared: ServerProcess) -> None:
    said = retz(shared)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("Usage: retz")
