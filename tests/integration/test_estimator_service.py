"""The estimator's REST service over real HTTP: Hadoop's documented calls, what we add, hostile requests."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from estimator.config import EstimatorConfig
from estimator.solver.base import SolverSettings
from tests.doubles.estimator_service import TIMEOUT_S, TWO_RUNS, Client, running
from tests.doubles.estimator_store import NAME, VARIABLE, Gate

FIRST = (
    '[{"pipelineId":"tpch_q12","runId":"tpch_q12_0"},[{"jobId":"tpch_q12_0","jobInputDataSize":0.0,'
    '"jobSubmissionTime":0,"jobFinishTime":25,"containerSpec":{"memory":1024,"vcores":1},"skylineList":'
    '{"resourceAllocation":{"0":{"memory":1024,"vcores":1},"10":{"memory":1099776,"vcores":1074},'
    '"15":{"memory":2598912,"vcores":2538},"20":{"memory":2527232,"vcores":2468},"25":{"memory":0,"vcores":0}}}}]]'
)
SECOND = (
    FIRST.replace("tpch_q12_0", "tpch_q12_1")
    .replace('"memory":1099776,"vcores":1074', '"memory":813056,"vcores":794')
    .replace('"memory":2598912,"vcores":2538', '"memory":2577408,"vcores":2517')
    .replace('"memory":2527232,"vcores":2468', '"memory":2543616,"vcores":2484')
)
PLAN = (
    '{"resourceAllocation":{"0":{"memory":1024,"vcores":1},"10":{"memory":1083392,"vcores":1058},'
    '"15":{"memory":2598912,"vcores":2538},"20":{"memory":2543616,"vcores":2484},"25":{"memory":0,"vcores":0}}}'
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store, with logs, and with something that is nobody's business."""
    place = tmp_path_factory.mktemp("service")
    logs = place / "logs"
    (logs / "data").mkdir(parents=True)
    (logs / "data" / "resourceEstimatorService.txt").write_text(TWO_RUNS)
    (logs / "empty").mkdir()
    (logs / "garbage.bin").write_bytes(bytes(range(256)) * 20)
    (place / "secret").write_text(TWO_RUNS)
    (place / "more-logs").mkdir()
    (place / "more-logs" / "more").write_text(TWO_RUNS.replace("tpch_q12", "elsewhere"))
    (logs / "to-secret").symlink_to(place / "secret")
    (logs / "to-parent").symlink_to(place)
    (logs / "to-more").symlink_to(place / "more-logs" / "more")
    (logs / "circle").symlink_to(logs / "circle")
    os.mkfifo(logs / "pipe")
    return place


@pytest.fixture(scope="module")
def shared(place: Path) -> Iterator[Client]:
    """One service for the tests that leave no traces in each other's pipelines."""
    config = EstimatorConfig(
        directory=place / "store", port=0, log_directories=(place / "logs", place / "more-logs"), upload_limit=1
    )
    with running(config) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    """The service without the sample's pipeline."""
    for run in ("tpch_q12_0", "tpch_q12_1"):
        shared.ask("DELETE", f"skylinestore/history/tpch_q12/{run}")
    shared.ask("DELETE", "skylinestore/estimation/tpch_q12")
    return shared


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- Hadoop's routes ----------------------------------------------------------------------------------------------


def test_the_documented_calls(client: Client) -> None:
    posted = client.ask("POST", "translator/data/resourceEstimatorService.txt")
    assert (posted.status, posted.body) == (204, b"")
    history = client.get("skylinestore/history/tpch_q12/*")
    assert (history.status, history.kind, history.body.decode()) == (200, "application/json", f"[{FIRST},{SECOND}]")
    before = client.get("skylinestore/estimation/tpch_q12")
    assert (before.status, before.kind, before.body) == (200, "application/json", b"null")
    estimated = client.get("estimator/tpch_q12")
    assert (estimated.status, estimated.kind, estimated.body.decode()) == (200, "application/json", PLAN)
    assert client.get("skylinestore/estimation/tpch_q12").body.decode() == PLAN
    assert client.get("estimator/tpch_q12").body.decode() == PLAN
    deleted = client.ask("DELETE", "skylinestore/history/tpch_q12/tpch_q12_1")
    assert (deleted.status, deleted.body) == (204, b"")
    assert client.get("skylinestore/history/tpch_q12/*").body.decode() == f"[{FIRST}]"
    # Unlike the original, a prediction does not outlive the history that it was made from.
    assert client.get("estimator/tpch_q12").exception == "InvalidInputException"


def test_wildcards_of_history(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.encode())
    assert len(client.get("skylinestore/history/*/whatever").json) >= 2
    assert client.get("skylinestore/history/tpch_q12/tpch_q12_1").body.decode() == f"[{SECOND}]"
    assert client.get("skylinestore/history/tpch_q12/nothing").body == b"null"
    assert client.get("skylinestore/history/nothing/*").body == b"null"


def test_elsewhere_a_star_is_a_name(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.encode())
    assert client.get("skylinestore/estimation/*").body == b"null"
    assert (client.get("estimator/*").status, client.get("estimator/*").exception) == (503, "InvalidInputException")
    refused = client.ask("DELETE", "skylinestore/history/tpch_q12/*")
    assert (refused.status, refused.exception) == (503, "RecurrenceIdNotFoundException")
    assert len(client.get("skylinestore/history/tpch_q12/*").json) == 2


def test_what_is_there_already_is_an_error_and_the_rest_is_added(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.splitlines(keepends=True)[0].encode())
    refused = client.ask("POST", "translator/data/resourceEstimatorService.txt")
    assert (refused.status, refused.exception) == (503, "DuplicateRecurrenceIdException")
    assert refused.json["RemoteException"]["message"].startswith(
        "Trying to addHistory duplicate resource skylines for {pipelineId: tpch_q12, runId: tpch_q12_0}. "
        "Use updateHistory function instead."
    )
    assert client.get("skylinestore/history/tpch_q12/*").body.decode() == f"[{FIRST},{SECOND}]"


def test_a_directory_means_its_files(client: Client) -> None:
    assert client.ask("POST", "translator/data").status == 204
    assert len(client.get("skylinestore/history/tpch_q12/*").json) == 2
    assert client.ask("POST", "translator/empty").status == 204


def test_a_log_that_is_none_is_refused(client: Client) -> None:
    refused = client.ask("POST", "translator/garbage.bin")
    assert (refused.status, refused.exception) == (400, "IllegalArgumentException")
    assert "nothing in this log could be understood" in refused.json["RemoteException"]["message"]


def test_links_between_allowed_directories_are_followed(client: Client) -> None:
    assert client.ask("POST", "translator/to-more").status == 204
    assert len(client.get("skylinestore/history/elsewhere/*").json) == 2
    for run in ("elsewhere_0", "elsewhere_1"):
        assert client.ask("DELETE", f"skylinestore/history/elsewhere/{run}").status == 204


@pytest.mark.parametrize(
    "path",
    ["../secret", "data/../../secret", "%2e%2e/secret", "%2E%2E%2Fsecret", "..%2fsecret", "/etc/passwd",
     "%2Fetc/passwd", "data%00", "..", "data/.."],
)  # fmt: skip
def test_paths_that_want_out_are_forbidden(client: Client, path: str) -> None:
    refused = client.ask("POST", f"translator/{path}")
    assert (refused.status, refused.exception) == (403, "ForbiddenException")


@pytest.mark.parametrize(
    "path",
    ["nothing", "to-secret", "to-parent/secret", "to-parent", "to-parent/nothing", "circle", "pipe",
     "%252e%252e/secret", "data%5c..%5c..%5csecret", "resourceEstimatorService.txt", "x" * 300, "%ff",
     "data/resourceEstimatorService.txt/x"],
)  # fmt: skip
def test_what_is_outside_is_as_if_it_were_not_there(client: Client, path: str) -> None:
    refused = client.ask("POST", f"translator/{path}")
    assert (refused.status, refused.exception) == (404, "FileNotFoundException")
    assert refused.json["RemoteException"]["message"].endswith("in the configured log directories")


# -- what Hadoop's service lacks -----------------------------------------------------------------------------------


def test_history_as_json(client: Client) -> None:
    added = client.ask("POST", "skylinestore/history", f"[{FIRST},{SECOND}]".encode())
    assert (added.status, added.body) == (204, b"")
    assert client.get("skylinestore/history/tpch_q12/*").body.decode() == f"[{FIRST},{SECOND}]"
    assert client.get("estimator/tpch_q12").body.decode() == PLAN
    again = client.ask("POST", "skylinestore/history", f"[{FIRST}]".encode())
    assert (again.status, again.exception) == (503, "DuplicateRecurrenceIdException")
    jobs = json.dumps(json.loads(SECOND)[1]).encode()
    assert client.ask("PUT", "skylinestore/history/tpch_q12/tpch_q12_0", jobs).status == 204
    first = client.get("skylinestore/history/tpch_q12/tpch_q12_0").json
    assert first[0][1] == json.loads(SECOND)[1]
    assert client.ask("PUT", "skylinestore/history/tpch_q12/new", jobs).exception == "RecurrenceIdNotFoundException"
    empty = client.ask("PUT", "skylinestore/history/tpch_q12/tpch_q12_0", b"[]")
    assert empty.exception == "EmptyResourceSkylineException"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}x", b"\xff", b"[[", b"[1]", b"[" * 100_000, b'[[{"pipelineId":"p","runId":"r"},[{}]]]', b"NaN",
     FIRST.encode(), f"[{FIRST}]".replace("2538", "-1").encode(), f"[{FIRST}]".replace("2538", "NaN").encode(),
     f"[{FIRST}]".replace("2538", "1" + "0" * 30).encode(), f"[{FIRST}]".replace('"25"', '"soon"').encode()],
)  # fmt: skip
def test_damaged_history_is_a_bad_argument(client: Client, body: bytes) -> None:
    for method, path in (("POST", "skylinestore/history"), ("PUT", "skylinestore/history/tpch_q12/tpch_q12_0")):
        refused = client.ask(method, path, body)
        assert (refused.status, refused.exception) == (400, "IllegalArgumentException")
    assert client.get("skylinestore/history/tpch_q12/*").body == b"null"


def test_names_may_be_any_text(client: Client) -> None:
    names = {
        "a/b": "a%2Fb",
        "ä ö": "%C3%A4%20%C3%B6",
        "..": "%2e%2e",
        "100%": "100%25",
        "x?y#z": "x%3Fy%23z",
        "{p}": "{p}",
    }
    for name, encoded in names.items():
        document = FIRST.replace("tpch_q12_0", "r/1").replace('"tpch_q12"', json.dumps(name))
        assert client.ask("POST", "skylinestore/history", f"[{document}]".encode()).status == 204
        found = client.get(f"skylinestore/history/{encoded}/r%2F1")
        assert found.json[0][0] == {"pipelineId": name, "runId": "r/1"}
        assert client.ask("DELETE", f"skylinestore/history/{encoded}/r%2F1").status == 204
    assert not {each["pipelineId"] for each in client.get("pipelines").json}.intersection(names)


def test_a_log_in_the_body(client: Client) -> None:
    log = TWO_RUNS.encode() + b"nonsense\n"
    report = client.ask("POST", "translator", log).json
    assert (report["lines"], report["badLines"], report["jobs"], report["duplicates"]) == (3, 1, 2, [])
    assert report["problems"][0].startswith("log:3: ")
    again = client.ask("POST", "translator?format=native", gzip.compress(log)).json
    assert [each["runId"] for each in again["duplicates"]] == ["tpch_q12_0", "tpch_q12_1"]
    packed = client.ask("POST", "translator", gzip.compress(log), {"Content-Encoding": "gzip"}).json
    assert packed["jobs"] == 2
    strict = client.ask("POST", "translator?strict=true", log)
    assert (strict.status, strict.exception) == (400, "DataFieldNotFoundException")
    assert strict.json["RemoteException"]["message"].startswith("log:3: ")
    other = client.ask("POST", "translator?format=os.path.Nothing", log)
    assert (other.status, other.exception) == (400, "IllegalArgumentException")


def test_too_much_is_refused(client: Client) -> None:
    large = b"x" * (3 << 19)
    for path, headers, body in (
        ("translator", {}, large),
        ("translator", {"Content-Encoding": "gzip"}, gzip.compress(large)),
        ("skylinestore/history", {}, large),
    ):
        refused = client.ask("POST", path, body, headers)
        assert (refused.status, refused.exception) == (413, "ClientErrorException")


@pytest.mark.parametrize("path", ["translator", "skylinestore/history"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_packed_as_it_says_is_refused(client: Client, path: str, encoding: str) -> None:
    refused = client.ask("POST", path, b"this is no gzip", {"Content-Encoding": encoding})
    assert (refused.status, refused.exception) == (400, "IllegalArgumentException")


def test_predictions_by_other_means(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.encode())
    whole = client.get("estimator/tpch_q12?solver=max&alpha=0.5&full=true").json
    assert whole["solver"] == "max" and whole["settings"]["alpha"] == 0.5 and whole["confidence"]["runs"] == 2
    assert client.get("estimator/tpch_q12?interval=10&minJobRuns=1&kind=allocated&beta=0").status == 200
    # Neither of them is what is configured.
    assert client.get("skylinestore/estimation/tpch_q12").body == b"null"
    assert client.get("estimator/tpch_q12").body.decode() == PLAN
    for _ in range(2):
        assert client.ask("DELETE", "skylinestore/estimation/tpch_q12").status == 204
        assert client.get("skylinestore/estimation/tpch_q12").body == b"null"


def test_pictures_and_reservations(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.encode())
    for form, kind, magic in (
        ("png", "image/png", b"\x89PNG\r\n"),
        ("svg", "image/svg+xml", b"<?xml"),
        ("pdf", "application/pdf", b"%PDF"),
    ):
        picture = client.get(f"estimator/tpch_q12/plot.{form}?resource=vcores")
        assert (picture.status, picture.kind) == (200, kind) and picture.body.startswith(magic)
    text = client.get("estimator/tpch_q12/plot.txt?width=60&height=12")
    assert text.kind == "text/plain; charset=utf-8" and "\x1b" not in text.body.decode()
    assert len(text.body.decode().splitlines()) == 12 and max(map(len, text.body.decode().splitlines())) <= 60
    assert "\x1b[" in client.get("estimator/tpch_q12/plot.txt?colour=true").body.decode()
    reservation = client.get("estimator/tpch_q12/reservation?queue=fast&gang=2&arrival=1000&name=n").json
    assert reservation["queue"] == "fast" and reservation["reservation-definition"]["arrival"] == 1000
    assert client.get("estimator/tpch_q12/backtest").exception == "InvalidInputException"  # two runs are too few


@pytest.mark.parametrize(
    "query",
    ["alpha=2", "alpha=", "alpha=x", "alpha=nan", "alpha=0.1&alpha=0.2", "Alpha=0.1", "solver=os.system", "kind=wished",
     "interval=0", "interval=1.5", f"interval={'9' * 30}", "minJobRuns=-1", "full=yes", "store=/etc", "a%00=b"],
)  # fmt: skip
def test_a_query_that_makes_no_sense_is_refused(client: Client, query: str) -> None:
    refused = client.get(f"estimator/tpch_q12?{query}")
    assert (refused.status, refused.exception) == (400, "IllegalArgumentException")


@pytest.mark.parametrize(
    "path", ["pipelines?a=1", "health?a=1", "metrics?a=1", "skylinestore/history/p/r?full=true",
             "estimator/tpch_q12/plot.txt?width=0", "estimator/tpch_q12/plot.txt?height=100000"],
)  # fmt: skip
def test_other_routes_know_their_parameters_too(client: Client, path: str) -> None:
    assert client.get(path).status == 400


def test_no_such_route(client: Client) -> None:
    for path in ("nothing", "", "estimator", "estimator/a/b", "skylinestore/history/p", "estimator/p/plot.exe"):
        assert (client.get(path).status, client.get(path).exception) == (404, "NotFoundException")
    refused = client.ask("PATCH", "pipelines")
    assert (refused.status, refused.exception) == (405, "NotAllowedException")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403), ({"Host": "evil.example:9998"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "10.0.0.1"}, 403), ({"Host": "127.0.0.1@evil.example"}, 403), ({"Host": "[::2]:80"}, 403),
        ({"Host": "[::1"}, 403), ({"Host": ""}, 403), ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403), ({"Origin": "null"}, 403),
        ({"Host": "localhost"}, 200), ({"Host": "LocalHost:1"}, 200), ({"Host": "127.5.5.5:9998"}, 200),
        ({"Host": "[::1]:9998"}, 200), ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
    ],
)  # fmt: skip
def test_web_pages_are_kept_out(client: Client, headers: dict[str, str], status: int) -> None:
    """By DNS rebinding any page can reach what listens on loopback; it comes with its own host's name."""
    reply = client.ask("GET", "pipelines", headers=headers)
    assert reply.status == status
    if status == 403:
        assert reply.exception == "ForbiddenException"
        posted = client.ask("POST", "translator", TWO_RUNS.encode(), headers)
        assert posted.status == 403
        assert client.get("skylinestore/history/tpch_q12/*").body == b"null"


def test_health_and_metrics(client: Client) -> None:
    health = client.get("health").json
    assert health["status"] == "ok" and psutil.pid_exists(health["pid"])
    name = 'retz_estimator_requests_total{method="GET",route="/resourceestimator/pipelines",status="200"}'
    client.get("pipelines")
    before = client.metric(name)
    client.get("pipelines")
    assert client.metric(name) == before + 1
    client.ask("NONSENSE", "x/y/z")
    assert client.get("x/y/z").status == 404
    page = client.get("metrics").body.decode()
    assert 'method="none",route="none",status="404"' in page and "NONSENSE" not in page


def test_the_serving_process_stays_small(client: Client) -> None:
    client.ask("POST", "translator", TWO_RUNS.encode())
    assert client.get("estimator/tpch_q12/plot.png").status == 200
    process = psutil.Process(client.get("health").json["pid"])
    libraries = [each.path for each in process.memory_maps()]
    assert not [path for path in libraries if "numpy" in path or "scipy" in path or "matplotlib" in path]


# -- processes -----------------------------------------------------------------------------------------------------


def test_a_client_that_goes_away_cancels_its_solve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    gate = Gate(tmp_path)
    with running(EstimatorConfig(store=NAME, solver="max", directory=tmp_path, port=0)) as client:
        document = f"[{FIRST},{SECOND}]"
        for pipeline in ("slow", "quick"):
            client.ask("POST", "skylinestore/history", document.replace('"tpch_q12"', f'"{pipeline}"').encode())
        leaving = client.send("GET", "estimator/slow")
        reader = gate.now()
        leaving.close()
        assert client.get("estimator/quick").status == 200  # waited behind it
        os.close(reader)
        assert client.metric('retz_estimator_worker_cancelled_total{lane="solve"}') == 1
        gone = 'route="/resourceestimator/estimator/{pipeline}",status="499"} 1'
        _until(lambda: gone in client.get("metrics").body.decode())


def test_a_killed_worker_is_told_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    gate = Gate(tmp_path)
    with running(EstimatorConfig(store=NAME, solver="max", directory=tmp_path, port=0)) as client:
        document = f"[{FIRST},{SECOND}]"
        for pipeline in ("slow", "quick"):
            client.ask("POST", "skylinestore/history", document.replace('"tpch_q12"', f'"{pipeline}"').encode())
        waiting = client.send("GET", "estimator/slow")
        reader = gate.now()
        service = psutil.Process(client.get("health").json["pid"])
        for worker in service.children():
            worker.kill()
        response = waiting.getresponse()
        assert (response.status, response.getheader("Retry-After")) == (503, "1")
        assert json.loads(response.read())["RemoteException"]["exception"] == "ServiceUnavailableException"
        waiting.close()
        os.close(reader)
        assert client.get("estimator/quick").status == 200


def test_two_services_on_one_store(tmp_path: Path) -> None:
    config = EstimatorConfig(directory=tmp_path / "store", port=0, settings=SolverSettings(confidence=False))
    one_run, other_run = (line.encode() for line in TWO_RUNS.splitlines(keepends=True))
    with running(config) as one, running(config) as other:
        assert one.ask("POST", "translator", one_run).json["jobs"] == 1
        assert other.ask("POST", "translator", other_run).json["jobs"] == 1
        for client in (one, other):
            assert client.get("skylinestore/history/tpch_q12/*").body.decode() == f"[{FIRST},{SECOND}]"
            assert client.get("estimator/tpch_q12").body.decode() == PLAN
        assert one.ask("DELETE", "skylinestore/history/tpch_q12/tpch_q12_0").status == 204
        assert other.get("estimator/tpch_q12").exception == "InvalidInputException"


def test_a_store_in_memory_ends_with_its_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    config = EstimatorConfig(store="memory", directory=tmp_path / "unused", port=0)
    with running(config) as client:
        client.ask("POST", "translator", TWO_RUNS.encode())
        assert client.get("estimator/tpch_q12").body.decode() == PLAN
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_client_that_goes_away_in_its_body_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running(EstimatorConfig(directory=tmp_path / "store", port=0)) as client:
        leaving = client.send("POST", "translator", TWO_RUNS.encode(), {"Content-Length": "1000000"})
        _until(lambda: bool(list(tmp_path.glob("retz-estimator-*"))))
        leaving.close()
        gone = 'route="/resourceestimator/translator",status="499"} 1'
        _until(lambda: gone in client.get("metrics").body.decode())
        assert not list(tmp_path.glob("retz-estimator-*"))
        assert client.get("pipelines").json == []
