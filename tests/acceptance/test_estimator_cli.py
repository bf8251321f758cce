"""``retz-estimator`` as people use it: real processes, from a log to a picture, and what goes wrong on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import pytest

from estimator.cli import COMMANDS, cli
from estimator.cli.reference import updated

COMMAND = [sys.executable, "-m", "estimator.cli"]
ROOT = Path(__file__).parents[2]


class Estimator:
    """Runs commands on a store of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "store"
        self.place.mkdir(exist_ok=True)

    def environment(self, **more: str) -> dict[str, str]:
        own = {"RETZ_ESTIMATOR_STORE": str(self.store), "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        return {**os.environ, **own, "COLUMNS": "100", **more}

    def run(self, *words: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([*COMMAND, *words], cwd=self.place, env=self.environment(**more), capture_output=True)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done

    def out(self, *words: str) -> str:
        return self.run(*words).stdout.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self.out(*words))

    def refusal(self, *words: str, code: int = 1) -> str:
        """The one line that a refused command says, and nothing on stdout."""
        done = self.run(*words, code=code)
        assert done.stdout == b""
        lines = done.stderr.decode().splitlines()
        assert len(lines) == 1 and lines[0].startswith("retz-estimator: "), lines
        return lines[0]


@pytest.fixture
def estimator(tmp_path: Path) -> Estimator:
    return Estimator(tmp_path / "work")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estimator]:
    """A store with the nine runs of the sample, for tests that change nothing."""
    made = Estimator(tmp_path_factory.mktemp("filled"))
    made.place.joinpath("tpch.log").write_bytes(made.run("sample").stdout)
    made.run("parse", "tpch.log")
    yield made


def test_from_a_log_to_a_picture_in_three_commands(estimator: Estimator) -> None:
    log = estimator.run("sample", "--format", "rm").stdout
    (estimator.place / "rm.log").write_bytes(log)
    parsed = estimator.run("parse", "--format", "rm", "rm.log")
    assert parsed.stdout.startswith(b"9 runs, 1 pipeline, 9 jobs")
    assert b"next: retz-estimator predict Pipeline0" in parsed.stderr
    assert estimator.out("history") == "Pipeline0\t9\tno\n"
    estimator.run("plot", "Pipeline0")
    picture = (estimator.place / "Pipeline0.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 20_000


def test_a_summary_says_what_to_reserve_and_how_sure_that_is(filled: Estimator) -> None:
    text = filled.out("predict", "tpch_q12")
    assert "from 9 runs" in text
    for row in ("peak", "reserves", "saving", "expect", "tested", "optimal"):
        assert f"\n{row} " in text


def test_predictions_as_json(filled: Estimator) -> None:
    prediction = filled.json("predict", "tpch_q12", "--json")
    assert prediction["pipeline"] == "tpch_q12"
    assert len(prediction["runs"]) == 9
    assert prediction["gap"] <= 1e-9
    steps = prediction["skyline"]["resourceAllocation"]
    assert steps["0"] == {"memory": 1024, "vcores": 1}
    other = filled.json("predict", "tpch_q12", "--json", "--solver", "max", "--interval", "10")
    assert other["solver"] == "max" and other["settings"]["interval"] == 10


def test_history_as_hadoops_json(filled: Estimator) -> None:
    history = filled.json("history", "tpch_q12", "--json")
    assert [pair[0]["runId"] for pair in history] == [f"tpch_q12_{index}" for index in range(9)]
    assert filled.json("history", "tpch_q12", "tpch_q12_3", "--json") == [history[3]]
    assert filled.json("history", "--json")[0]["pipelineId"] == "tpch_q12"
    rows = [line.split("\t") for line in filled.out("history", "tpch_q12").splitlines()]
    assert [row[0] for row in rows] == [f"tpch_q12_{index}" for index in range(9)]


def test_exports_agree(filled: Estimator) -> None:
    everything = filled.json("export", "tpch_q12")
    steps = everything["prediction"]["skyline"]["resourceAllocation"]
    rows = list(csv.DictReader(io.StringIO(filled.out("export", "tpch_q12", "--csv"))))
    assert {row["from"]: float(row["memory"]) for row in rows} == {
        time: amounts["memory"] for time, amounts in steps.items() if amounts["memory"]
    }
    assert len(everything["history"]) == 9


def test_a_yarn_reservation(filled: Estimator) -> None:
    words = ["--queue", "prod", "--arrival", "2026-03-01T06:00:00Z", "--recurrence", "1d", "--gang", "2"]
    request = filled.json("export", "tpch_q12", "--reservation", *words)
    definition = request["reservation-definition"]
    assert request["queue"] == "prod"
    assert definition["arrival"] == 1_772_344_800_000
    assert definition["recurrence-expression"] == "86400000"
    assert "too early" in filled.refusal("export", "tpch_q12", "--reservation", "--deadline", "+1s")
    assert "--reservation" in filled.refusal("export", "tpch_q12", "--gang", "2", code=2)
    assert "no time" in filled.refusal("export", "tpch_q12", "--reservation", "--arrival", "soon", code=2)


def test_a_backtest_names_every_solver(filled: Estimator) -> None:
    done = filled.run("backtest", "tpch_q12", "-o", "backtest.svg")
    for solver in ("fast", "peak", "last", "max", "mean2", "p95"):
        assert f"\n{solver} " in done.stdout.decode()
    assert (filled.place / "backtest.svg").read_bytes().startswith(b"<?xml")
    assert len(filled.json("backtest", "tpch_q12", "--json", "--solver", "max")["solvers"]) == 1


def test_a_picture_in_the_terminal(filled: Estimator) -> None:
    words = ["plot", "tpch_q12", "--text", "--width", "60", "--height", "20"]
    plain = filled.run(*words, PYTHONIOENCODING="utf-8").stdout.decode()
    assert len(plain.splitlines()) == 20
    assert all(len(line) <= 60 for line in plain.splitlines())
    assert any("\u2800" < char <= "\u28ff" for char in plain)
    assert "\x1b" not in plain
    assert "\x1b[1;36m" in filled.run(*words, FORCE_COLOR="1", NO_COLOR="").stdout.decode()
    assert "\x1b" not in filled.run(*words, FORCE_COLOR="1", NO_COLOR="1").stdout.decode()


def test_an_old_terminal_gets_ascii(filled: Estimator) -> None:
    drawn = filled.run("plot", "tpch_q12", "--text", PYTHONIOENCODING="latin-1").stdout.decode("latin-1")
    assert "2.5 TB +" in drawn and "======" in drawn and "~~" in drawn


def test_refusals_say_what_to_do(filled: Estimator) -> None:
    assert "did you mean 'tpch_q12'" in filled.refusal("predict", "tpch_12")
    assert "history" in filled.refusal("predict", "*")
    assert "--min-runs" in filled.refusal("predict", "tpch_q12", "--min-runs", "20")
    assert "alpha" in filled.refusal("predict", "tpch_q12", "--alpha", "7")
    assert "fast, lp" in filled.refusal("predict", "tpch_q12", "--solver", "best", code=2)
    assert "no.such" in filled.refusal("predict", "tpch_q12", "--solver", "no.such.Solver")
    assert "--kind used" in filled.refusal("predict", "tpch_q12", "--kind", "used")
    assert "memory, vcores" in filled.refusal("plot", "tpch_q12", "--resource", "gpus")
    assert ".png, .svg, .pdf" in filled.refusal("plot", "tpch_q12", "-o", "plan.gif", code=2)
    assert "no/such" in filled.refusal("plot", "tpch_q12", "-o", "no/such/plan.png")
    assert "no run" in filled.refusal("history", "tpch_q12", "*")
    assert "did you mean" in filled.refusal("predit", code=2)
    assert "does not exist" in filled.refusal("parse", "no-such.log", code=2)


def test_one_run_is_too_thin(estimator: Estimator) -> None:
    first = estimator.run("sample").stdout.splitlines()[0]
    (estimator.place / "one.log").write_bytes(first)
    estimator.run("parse", "one.log")
    assert "1 run so far, and 2 are needed" in estimator.refusal("predict", "tpch_q12")
    assert "from 1 run " in estimator.out("predict", "tpch_q12", "--min-runs", "1")


def test_an_empty_store_says_how_to_fill_it(estimator: Estimator) -> None:
    assert b"retz-estimator parse LOG" in estimator.run("history").stderr
    assert "retz-estimator parse LOG" in estimator.refusal("predict", "anything")
    assert not estimator.store.exists()


def test_bad_lines_are_told_and_the_rest_is_used(estimator: Estimator) -> None:
    good = estimator.run("sample").stdout
    log = estimator.place / "mixed.log"
    log.write_bytes(b"garbage\n\x00\xff\xfe\x1b[31m\n" + good + b"p 1 2 3 4 r x 99999999999999999999999:0|\n" * 9)
    done = estimator.run("parse", "mixed.log")
    assert done.stdout.startswith(b"9 runs, 1 pipeline, 9 jobs, 11 bad lines of 20")
    told = done.stderr.decode()
    assert "mixed.log:1:" in told and "and 6 more bad lines" in told
    assert "\x1b" not in told
    again = estimator.run("parse", "mixed.log")
    assert b"9 jobs known before" in again.stderr
    assert "mixed.log:1:" in estimator.refusal("parse", "--strict", "mixed.log")


def test_a_log_of_another_format_is_recognised_as_such(estimator: Estimator) -> None:
    (estimator.place / "rm.log").write_bytes(estimator.run("sample", "--format", "rm").stdout)
    done = estimator.run("parse", "rm.log", code=1)
    assert b"another format (rm, retz)? say --format" in done.stderr
    (estimator.place / "empty.log").write_bytes(b"")
    estimator.run("parse", "empty.log", code=1)
    assert "cannot load" in estimator.refusal("parse", "--format", "no.such.Parser", "rm.log")


def test_hostile_names_steer_nothing(estimator: Estimator) -> None:
    names = ["../../evil", "*", "$(id)", "日本", "x" * 300]
    lines = [f"{name} 1 2 3 4 {run} x 5:0|3:5|9:{run}0|" for name in names for run in (1, 2)]
    steering = [line.replace("$(id)", "a\x1b[31mb\u202e") for line in lines if "$(id)" in line]
    (estimator.place / "log").write_text("\n".join([*lines, *steering]))
    told = estimator.run("parse", "log")
    assert b"2 bad lines" in told.stdout
    assert b"\x1b" not in told.stderr and "\u202e" not in told.stderr.decode()
    assert len(estimator.out("history").splitlines()) == len(names)
    estimator.run("plot", "../../evil")
    assert sorted(path.name for path in estimator.place.iterdir()) == ["_.._evil.png", "log", "store"]
    estimator.run("forget", "*")
    assert len(estimator.out("history").splitlines()) == len(names) - 1


def test_forgetting(estimator: Estimator) -> None:
    (estimator.place / "tpch.log").write_bytes(estimator.run("sample").stdout)
    estimator.run("parse", "tpch.log")
    estimator.run("predict", "tpch_q12")
    estimator.run("forget", "tpch_q12", "tpch_q12_0")
    assert len(estimator.json("predict", "tpch_q12", "--json")["runs"]) == 8
    assert "no run" in estimator.refusal("forget", "tpch_q12", "tpch_q12_0")
    estimator.run("forget", "tpch_q12")
    assert estimator.out("history") == ""


def test_a_damaged_store_is_told_in_one_line(estimator: Estimator) -> None:
    (estimator.place / "tpch.log").write_bytes(estimator.run("sample").stdout)
    estimator.run("parse", "tpch.log")
    file = estimator.store / "tpch_q12.json"
    file.write_bytes(file.read_bytes()[:100])
    assert str(estimator.store) in estimator.refusal("predict", "tpch_q12")


def test_configurations_are_read(filled: Estimator) -> None:
    toml = filled.place / "own.toml"
    toml.write_text("resourceestimator.timeInterval = 30\n")
    assert filled.json("-C", str(toml), "predict", "tpch_q12", "--json")["settings"]["interval"] == 30
    toml.write_text("resourceestimator.timeInterval = [\n")
    assert "own.toml" in filled.refusal("-C", str(toml), "predict", "tpch_q12")
    assert "cannot be read" in filled.refusal("-C", "no.toml", "predict", "tpch_q12")


def test_a_reader_that_goes_away_is_no_error(filled: Estimator) -> None:
    words = [*COMMAND, "export", "tpch_q12"]
    with subprocess.Popen(
        words, cwd=filled.place, env=filled.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_images_do_not_go_to_a_terminal(filled: Estimator) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [*COMMAND, "plot", "tpch_q12", "-o", "-"],
            cwd=filled.place, env=filled.environment(), stdout=theirs, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 1 and b"--text" in done.stderr
    assert filled.run("plot", "tpch_q12", "-o", "-").stdout.startswith(b"\x89PNG")


def test_the_service_shares_the_store(estimator: Estimator) -> None:
    (estimator.place / "tpch.log").write_bytes(estimator.run("sample").stdout)
    estimator.run("parse", "tpch.log")
    assert estimator.run("status", code=3).stdout.startswith(b"not running")
    try:
        address = estimator.out("start", "--port", "0").split(";")[0].removeprefix("listening on ").strip()
        assert address in estimator.out("status")
        with urlopen(f"{address}/resourceestimator/skylinestore/history/tpch_q12/*", timeout=60) as answer:
            assert json.load(answer) == estimator.json("history", "tpch_q12", "--json")
    finally:
        estimator.run("stop")
    estimator.run("status", code=3)


# -- starting fast ------------------------------------------------------------------------------------------------

HEAVY = {"numpy", "scipy", "matplotlib", "aiohttp", "asyncio", "tinydb", "psutil"}
PROBE = """
import json, sys
from estimator.cli import cli
from estimator.cli.errors import guarded
loaded = {}
for line in sys.argv[1:]:
    assert guarded(cli, line.split()) == 0
    loaded[line] = sorted(sys.modules)
print(json.dumps(loaded), file=sys.stderr)
"""


def modules(filled: Estimator, *lines: str) -> dict[str, set[str]]:
    """What is loaded after each of several commands, run one after the other in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *lines],
        cwd=filled.place, env=filled.environment(), capture_output=True, check=True,
    )  # fmt: skip
    loaded = json.loads(done.stderr.decode().splitlines()[-1])
    return {line: set(names) for line, names in loaded.items()}


def test_help_loads_nothing_heavy(filled: Estimator) -> None:
    lines = ["--help", "--version", *(f"{name} --help" for name in COMMANDS)]
    assert {line: HEAVY & names for line, names in modules(filled, *lines).items()} == {line: set() for line in lines}


def test_predicting_loads_neither_scipy_nor_matplotlib(filled: Estimator) -> None:
    loaded = modules(filled, "predict tpch_q12")["predict tpch_q12"]
    assert {"scipy", "matplotlib", "aiohttp"} & loaded == set()


def test_the_reference_is_up_to_date() -> None:
    text = (ROOT / "docs" / "estimator-cli.md").read_text(encoding="utf-8")
    assert updated(text) == text, "run 'python -m estimator.cli.reference'"


def test_the_list_of_commands_tells_what_they_are() -> None:
    context = click.Context(cli)
    for name, (_, text) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None and command.name == name
        assert (command.help or "").splitlines()[0] == text
