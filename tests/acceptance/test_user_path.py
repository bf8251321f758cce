"""The user's path, end to end, with real processes: what the README promises."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

from .terminal import Terminal, command, job, retz, submit, until


def test_a_server_with_nothing_configured_and_the_next_terminal(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "home")
    server.data = server.home / "state" / "retz"
    try:
        server.start(default_directory=True)
        assert server.data.is_dir()
        said = retz(server, "run", "--", "echo", "hello")
        assert said == (0, "hello\n", "")
        assert server.stop() == 0
        server.start(default_directory=True)
        assert retz(server, "get-file", "last").out == "hello\n"
    finally:
        server.destroy()


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["-c", "echo out; echo err >&2"], 0, "out\n", "err\n"),
        (["-c", "echo out; exit 3"], 3, "out\n", ""),
        (["-c", "kill -9 $$"], 137, "", "was ended by signal 9"),
        (["-c", "kill -TERM $$"], 143, "", "was ended by signal 15"),
        (["--timeout", "1s", "--", "sleep", "60"], 124, "", "ran out of time: it ran longer than its time limit of 1s"),
        (["--", "no-such-program"], 127, "", "could not be started: command not found: 'no-such-program'"),
        (["-w", "/no/such/place", "--", "true"], 127, "", "cannot enter its working directory /no/such/place"),
        (["--", "printf", "%s|", "a b", "*", "$HOME"], 0, "a b|*|$HOME|", ""),
        (["-E", "GREETING=a,b=c", "-c", "echo $GREETING"], 0, "a,b=c\n", ""),
        (["--sandbox", "-c", "cd \"$RETZ_SANDBOX\" && ls"], 0, "stderr\nstdout\n", ""),
        (["--ports", "2", "-c", 'test "$PORT0" -ne "$PORT1" && echo ok'], 0, "ok\n", ""),
    ],
)  # fmt: skip
def test_run_is_as_if_it_ran_here(shared: ServerProcess, words: list[str], code: int, out: str, err: str) -> None:
    said = retz(shared, "run", *words)
    assert (said.code, said.out) == (code, out), said
    assert err in said.err


def test_out_of_memory(shared: ServerProcess) -> None:
    line = "x = b'x' * 300_000_000; import time; time.sleep(60)"
    said = retz(shared, "run", "--mem", "64", "--", sys.executable, "-c", line)
    assert said.code == 137
    assert "ran out of memory, ask for more with --mem" in said.err


def test_run_is_where_i_am_with_what_i_have(shared: ServerProcess, tmp_path: Path) -> None:
    said = retz(shared, "run", "-c", "pwd; echo $VIRTUAL_ENV; echo [$MINE]", cwd=tmp_path,
                environment={"VIRTUAL_ENV": "/venv", "MINE": "secret"})  # fmt: skip
    assert said.out.split() == [str(tmp_path), "/venv", "[]"]
    said = retz(shared, "run", "--env-all", "-c", "echo [$MINE]", environment={"MINE": "mine"})
    assert said.out == "[mine]\n"


def test_bytes_are_never_changed(shared: ServerProcess, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "data").write_bytes(data)
    whole = subprocess.run(
        command(["run", "--", "cat", str(tmp_path / "data")]), capture_output=True, env=shared.environment, check=True
    )
    assert whole.stdout == data
    number = submit(shared, "--wait", "--", "cat", str(tmp_path / "data"))
    retz(shared, "get-file", str(number), "--binary", "-R", str(tmp_path / "got"))
    assert (tmp_path / "got" / "stdout").read_bytes() == data
    part = retz(shared, "get-file", str(number), "--offset", "65", "--length", "3")
    assert part.out == "ABC"


def test_commands_from_standard_input_and_from_files(shared: ServerProcess, tmp_path: Path) -> None:
    assert retz(shared, "run", "-c", "-", stdin=b"echo one\necho two\n").out == "one\ntwo\n"
    lines = tmp_path / "lines"
    lines.write_text("echo a\n\nexit 4\necho c\n")
    said = retz(shared, "run", "--each-line", str(lines))
    assert (said.code, said.out) == (4, "a\nc\n")
    said = retz(shared, "schedule", "--each-line", "-", stdin=b"true\ntrue\n")
    first, second = map(int, said.out.split())
    assert second == first + 1
    assert retz(shared, "schedule", "--wait", "-c", "exit 9").code == 9


def test_output_arrives_while_the_job_writes_it(shared: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    process = subprocess.Popen(
        command(["run", "-c", f"echo first; until test -e {go}; do sleep 0.02; done; echo second"]),
        stdout=subprocess.PIPE, text=True, env=shared.environment, cwd=shared.home,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "first\n"
        go.touch()
        assert process.stdout.read() == "second\n"
    assert process.wait(30) == 0


def test_following_with_get_file(shared: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    number = submit(shared, "-c", f"echo first; until test -e {go}; do sleep 0.02; done; echo second")
    process = subprocess.Popen(
        command(["get-file", str(number), "--poll"]), stdout=subprocess.PIPE, text=True, env=shared.environment
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "first\n"
        go.touch()
        assert process.stdout.read() == "second\n"
    assert process.wait(30) == 0


def test_ctrl_c_asks_and_no_means_no(shared: ServerProcess, tmp_path: Path) -> None:
    go = tmp_path / "go"
    terminal = Terminal(shared, "run", "-c", f"echo begun; until test -e {go}; do sleep 0.02; done; echo over; exit 6")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until("[y/N/detach]")
    terminal.type("n\n")
    go.touch()
    assert terminal.close() == 6, terminal.seen
    assert "over" in terminal.seen


def test_ctrl_c_and_yes_kills(shared: ServerProcess) -> None:
    terminal = Terminal(shared, "run", "-N", "ctrlc", "-c", "echo begun; sleep 60")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until("[y/N/detach]")
    terminal.type("y\n")
    assert terminal.close() in (130, 143), terminal.seen
    listed = retz(shared, "list", "--state", "KILLED", "-N", "ctrlc", "--json").json["jobs"]
    assert [found["reason"] for found in listed] == ["user"]
    assert "was killed" in terminal.seen


def test_ctrl_c_twice_kills_without_an_answer(shared: ServerProcess) -> None:
    terminal = Terminal(shared, "run", "-c", "echo begun; sleep 60")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until("[y/N/detach]")
    terminal.type("\x03")
    assert terminal.close() in (130, 143), terminal.seen


def test_detaching_leaves_the_job_alone(shared: ServerProcess) -> None:
    terminal = Terminal(shared, "run", "-N", "detached", "-c", "echo begun; sleep 60")
    terminal.read_until("begun")
    terminal.type("\x03")
    terminal.read_until("[y/N/detach]")
    terminal.type("d\n")
    assert terminal.close() == 0
    assert "retz get-file --poll" in terminal.seen
    assert [j["state"] for j in retz(shared, "list", "-N", "detached", "--json").json["jobs"]] == ["STARTED"]
    assert retz(shared, "killall", "-N", "detached", "--wait").code == 0


def test_whoever_terminates_run_means_the_job(shared: ServerProcess) -> None:
    process = subprocess.Popen(
        command(["run", "-N", "ended", "-c", "echo begun; sleep 60"]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=shared.environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    found = retz(shared, "list", "--state", "ALL", "-N", "ended", "--json").json["jobs"]
    assert [j["state"] for j in found] == ["KILLED"]


def test_run_survives_the_server(server: ServerProcess, tmp_path: Path) -> None:
    go, total = tmp_path / "go", 20_000
    line = f"seq 1 {total // 2}; until test -e {go}; do sleep 0.02; done; seq {total // 2 + 1} {total}; exit 5"
    out = (tmp_path / "out").open("w+b")
    process = subprocess.Popen(
        command(["run", "-c", line]), stdout=out, stderr=subprocess.PIPE, env=server.environment, cwd=server.home
    )
    until(lambda: (tmp_path / "out").stat().st_size, "the first output")
    server.kill()
    go.touch()
    server.start()
    _, errors = process.communicate(timeout=60)
    out.close()
    assert (tmp_path / "out").read_text() == "".join(f"{n}\n" for n in range(1, total + 1))
    assert process.returncode == 5, errors


def test_a_job_may_run_retz_itself(shared: ServerProcess) -> None:
    # What a job sees of itself (RETZ_GPUS, RETZ_JOB_ID...) is not taken for configuration.
    inner = f"{sys.executable} -c 'from retz.cli import main; main()' run -c 'echo inner $RETZ_CPUS'"
    said = retz(shared, "run", "--env-all", "--cpu", "0.5", "-c", inner)
    assert (said.code, said.out) == (0, "inner 1\n"), said


def test_hold_release_update_resubmit_and_kill(shared: ServerProcess, tmp_path: Path) -> None:
    number = submit(shared, "--hold", "-N", "held", "-c", "echo done")
    assert "held: retz release" in retz(shared, "why", str(number)).out
    assert retz(shared, "list", "--held", "--json").json["total"] == 1
    assert retz(shared, "update", str(number), "--prio", "-7").out == f"job {number}: changed\n"
    assert job(shared, number)["priority"] == -7
    assert retz(shared, "release", str(number)).code == 0
    assert retz(shared, "watch", str(number)).code == 0
    again = retz(shared, "resubmit", str(number))
    assert retz(shared, "watch", again.out.strip()).code == 0
    assert retz(shared, "get-file", again.out.strip()).out == "done\n"
    assert job(shared, int(again.out))["resubmit_of"] == number
    said = retz(shared, "hold", str(number))
    assert (said.code, "only a queued job can be changed" in said.err) == (1, True)
    said = retz(shared, "kill", str(number))
    assert (said.code, "has ended already" in said.err) == (1, True)


def test_killall_by_tag_and_lists(shared: ServerProcess) -> None:
    for _ in range(3):
        submit(shared, "-t", "fleet,x", "-c", "sleep 60", "--cpu", "0.1")
    submit(shared, "-t", "other", "-N", "bystander", "-c", "sleep 60", "--cpu", "0.1")
    assert retz(shared, "list", "-t", "fleet", "-t", "x", "--json").json["total"] == 3
    assert retz(shared, "list", "-t", "fleet", "-t", "other", "--json").json["total"] == 0
    assert len(retz(shared, "list", "--text", "BYSTAND").out.splitlines()) == 2
    assert retz(shared, "killall", "-t", "fleet", "--wait").code == 0
    assert retz(shared, "list", "-t", "fleet", "--state", "KILLED", "--json").json["total"] == 3
    assert retz(shared, "list", "--json").json["counts"].get("STARTED") == 1
    assert retz(shared, "killall").code == 2
    assert retz(shared, "killall", "--all", "--wait").code == 0


def test_drain_pause_and_resume(server: ServerProcess) -> None:
    number = submit(server, "-c", "sleep 0.2")
    assert "draining" in retz(server, "drain", "--wait").out
    assert job(server, number)["state"] == "FINISHED"
    said = retz(server, "schedule", "--", "true")
    assert said.code == 1
    assert "'retz drain --resume' opens it" in said.err
    server.kill()
    server.start()
    assert retz(server, "status", "--json").json["mode"] == "draining"
    retz(server, "drain", "--pause")
    number = submit(server, "--", "true")
    assert "paused" in retz(server, "why", str(number)).out
    retz(server, "drain", "--resume")
    assert retz(server, "watch", str(number)).code == 0


def test_a_list_of_many_single_ids(shared: ServerProcess) -> None:
    number = submit(shared, "--wait", "--", "true")
    ids = ",".join(map(str, [number, *range(100_000, 101_000, 2)]))
    assert [found["id"] for found in retz(shared, "list", ids, "--json").json["jobs"]] == [number]


def test_why_a_job_waits(shared: ServerProcess) -> None:
    number = submit(shared, "--attributes", "rack=r9", "--", "true")
    said = retz(shared, "why", str(number))
    assert "needs rack=r9: no agent has it" in said.out
    answer = retz(shared, "why", str(number), "--json").json
    assert answer["agents"]["fail"]["attributes"] == 1
    assert "rack=r9" in retz(shared, "list", str(number)).out
    retz(shared, "kill", str(number))
    assert "killed: by its owner" in retz(shared, "why", str(number)).out


def test_applications(shared: ServerProcess) -> None:
    assert retz(shared, "load-app", "-A", "plain", "--grace-period", "9").code == 0
    number = submit(shared, "-A", "plain", "--", "true")
    assert (job(shared, number)["application"], job(shared, number)["kill_grace_s"]) == ("plain", 9.0)
    said = retz(shared, "load-app", "-A", "image", "--container", "docker", "--image", "busybox")
    assert said.code == 1 and "no container runtime" in said.err and "install podman or docker" in said.err
    words = shared.home / "words.gz"
    words.write_bytes(gzip.compress(b"packed words\n"))
    assert retz(shared, "load-app", "-A", "files", "-F", str(words), "-L", words.as_uri()).code == 0
    said = retz(shared, "run", "-A", "files", "--sandbox", "-c", "true")
    assert said.code != 0 and "no two may have the same name" in said.err  # words.gz came twice
    assert retz(shared, "load-app", "-A", "files", "-L", str(words)).code == 0
    assert retz(shared, "run", "-A", "files", "--sandbox", "-c", "cat words").out == "packed words\n"
    said = retz(shared, "load-app", "-A", "user", "-U", "no-such-user")
    if os.geteuid() == 0:
        said = retz(shared, "run", "-A", "user", "--", "true")
        assert said.code == 127 and "no Unix user 'no-such-user'" in said.err
    else:
        assert said.code != 0 and "cannot run as Unix user" in said.err
        assert retz(shared, "load-app", "-A", "user").code == 0
    retz(shared, "load-app", "-A", "off", "--enabled", "false")
    assert "is disabled" in retz(shared, "schedule", "-A", "off", "--", "true").err
    assert "register it with 'retz load-app -A nope'" in retz(shared, "schedule", "-A", "nope", "--", "true").err
    listed = retz(shared, "list-app", "--json").json["applications"]
    assert [a["name"] for a in listed] == ["default", "files", "off", "plain", "user"]
    assert json.loads(retz(shared, "get-app", "files").out)["large_files"] == [str(words)]


def test_files_of_a_job(shared: ServerProcess) -> None:
    number = int(retz(shared, "schedule", "--wait", "--sandbox", "-c", "mkdir d; echo deep > d/f; ln -s /etc d/l").out)
    assert {"d", "stderr", "stdout"} <= {
        e["path"] for e in retz(shared, "list-files", str(number), "--json").json["entries"]
    }
    assert retz(shared, "get-file", str(number), "--path", "d/f").out == "deep\n"
    for path, words in [
        ("../../store", "leaves the sandbox"),
        ("/etc/passwd", "absolute"),
        ("d/l/passwd", "link"),
        ("d/l", "link"),
        ("d", "not a plain file"),
        ("nothing", "no such file"),
    ]:
        said = retz(shared, "get-file", str(number), "--path", path)
        assert (said.code, said.out) == (1, ""), (path, said)
        assert words in said.err, (path, said)
    said = retz(shared, "get-file", str(number), "--path", "d/f", "--offset", "99")
    assert (said.code, "the file has 5 bytes" in said.err) == (1, True)


def test_json_everywhere_has_the_schema(shared: ServerProcess) -> None:
    number = str(submit(shared, "--wait", "--", "true"))
    expected = {
        ("list", "--state", "ALL"): {"jobs", "total", "counts", "as_of"},
        ("get-job", number): {"jobs"},
        ("why", number): {"id", "state", "summary"},
        ("watch", number): {"seq", "job"},
        ("status",): {"version", "mode", "queued", "user"},
        ("ping",): {"server", "seconds"},
        ("config",): {"settings", "notes"},
        ("list-app",): {"applications"},
        ("get-app", "default"): {"application"},
        ("list-files", number): {"path", "attempt", "entries"},
        ("schedule", "-c", "true"): {"ids"},
        ("run", "-c", "true"): {"ids", "jobs", "exit_code"},
        ("resubmit", number): {"results", "ok", "failed"},
        ("killall", "-t", "none"): {"results", "ok", "failed"},
        ("drain", "--resume"): {"mode", "running"},
    }
    for words, fields in expected.items():
        said = retz(shared, words[0], "--json", *words[1:])
        assert (said.json["schema"], said.json["kind"]) == ("retz.cli/1", words[0]), said
        assert fields <= set(said.json), (words, said)
    failed = json.loads(retz(shared, "get-job", "--json", "999999").err)
    assert (failed["schema"], failed["error"]["code"], failed["error"]["status"]) == ("retz.cli/1", "not-found", 404)


def test_where_the_configuration_comes_from(shared: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "retz.toml").write_text('[retz.server]\ntimeout = "7s"\n')
    said = retz(shared, "config", "--origin", "--json", cwd=tmp_path, environment={"RETZ_SERVER_RETRY": "9s"})
    origins = {s["key"]: (s["value"], s["origin"]) for s in said.json["settings"]}
    assert origins["retz.server.retry"] == (9.0, "environment RETZ_SERVER_RETRY")
    assert origins["retz.server.timeout"] == (7.0, f"project {tmp_path}/retz.toml:2")
    assert origins["retz.server.uri"][1].startswith("user ")
    assert origins["retz.authentication"] == (True, "default")
    assert set(origins["retz.access.secret"][0]) == {"*"}


def test_a_reader_that_goes_away_ends_the_job(shared: ServerProcess) -> None:
    process = subprocess.Popen(
        command(["run", "-N", "pipe", "-c", "while :; do echo y; sleep 0.01; done"]),
        stdout=subprocess.PIPE, env=shared.environment,
    )  # fmt: skip
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 1)
    process.stdout.close()
    assert process.wait(30) == 141
    ended = until(lambda: retz(shared, "list", "--state", "ENDED", "-N", "pipe", "--json").json["jobs"], "its end")
    assert ended[0]["state"] == "KILLED"
