"""The estimator's JSON: Hadoop's to the letter, back without loss, and nothing hostile gets in."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.documents import (
    amounts_from_json,
    amounts_to_json,
    combined_digest,
    history_digest,
    history_from_json,
    history_to_json,
    prediction_from_document,
    prediction_to_document,
    prediction_to_json,
    run_digest,
    skyline_from_json,
    skyline_to_json,
    skylines_from_json,
)
from estimator.model import Confidence, Prediction, RecurrenceId, ResourceSkyline
from estimator.skyline import MAX_RESOURCES, Skyline
from estimator.solver.base import SolverSettings

few = settings(max_examples=40, deadline=None)


def step(count: float) -> dict[str, float]:
    return {"memory": 1024 * count, "vcores": count}


def job(job_id: str = "q12_0", **changes: Any) -> ResourceSkyline:
    skyline = Skyline.of({0: step(1), 10: step(1074), 15: step(2538), 20: step(2468), 25: step(0)})
    return replace(ResourceSkyline(job_id, skyline, finished=25), **changes)


HISTORY = {RecurrenceId("q12", "q12_0"): [job()], RecurrenceId("q12", "q12_1"): [job("a"), job("b")]}
ORIGINAL = (
    '[[{"pipelineId":"q12","runId":"q12_0"},[{"jobId":"q12_0","jobInputDataSize":0.0,"jobSubmissionTime":0,'
    '"jobFinishTime":25,"containerSpec":{"memory":1024,"vcores":1},"skylineList":{"resourceAllocation":{'
    '"0":{"memory":1024,"vcores":1},"10":{"memory":1099776,"vcores":1074},"15":{"memory":2598912,"vcores":2538},'
    '"20":{"memory":2527232,"vcores":2468},"25":{"memory":0,"vcores":0}}}}]]]'
)


def test_history_is_the_originals_to_the_letter() -> None:
    document = history_to_json({RecurrenceId("q12", "q12_0"): [job()]})
    assert json.dumps(document, separators=(",", ":")) == ORIGINAL
    assert history_from_json(json.loads(ORIGINAL)) == {RecurrenceId("q12", "q12_0"): [job()]}


def test_use_and_further_resources_are_shown_where_there_are_any() -> None:
    used = Skyline.interval(0, 5, {"memory": 0.5, "vcores": 1.25})
    document = skyline_to_json(job(used=used, container={"gpus": 1.0, "vcores": 2.0, "memory": 3.0}))
    assert list(document)[-1] == "usedSkylineList"
    assert document["usedSkylineList"]["resourceAllocation"]["0"] == {"memory": 0.5, "vcores": 1.25}
    assert list(document["containerSpec"]) == ["memory", "vcores", "gpus"]
    assert "usedSkylineList" not in skyline_to_json(job())


names = st.text(max_size=12)
amounts = st.one_of(st.integers(0, 2**53).map(float), st.floats(0, 2**53))
skylines = st.builds(
    lambda rows: Skyline.sampled(rows, 5, ("memory", "vcores", "gpus")) if rows else Skyline.empty(),
    st.lists(st.tuples(amounts, amounts, amounts), max_size=5),
)
jobs = st.builds(
    ResourceSkyline,
    job_id=names,
    skyline=skylines,
    submitted=st.integers(0, 2**53),
    finished=st.integers(0, 2**53),
    container=st.fixed_dictionaries({"memory": amounts, "vcores": amounts}, optional={"gpus": amounts}),
    input_size=amounts,
    used=st.none() | skylines,
)
histories = st.dictionaries(st.builds(RecurrenceId, names, names), st.lists(jobs, max_size=3), max_size=3)


@few
@given(histories)
def test_history_comes_back_identical(history: dict[RecurrenceId, list[ResourceSkyline]]) -> None:
    text = json.dumps(history_to_json(history))
    read = history_from_json(json.loads(text))
    assert read == history
    assert list(read) == list(history)
    assert json.dumps(history_to_json(read)) == text
    assert history_digest(read) == history_digest(history)


VALID = skyline_to_json(job(used=Skyline.interval(0, 5, step(1))))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("jobId", None, "skyline.jobId: a text is needed, not None"),
        ("jobId", {"a": 1}, "jobId: a text is needed, not an object"),
        ("jobInputDataSize", -0.5, "jobInputDataSize: a number from 0 to 2^53 is needed, not -0.5"),
        ("jobInputDataSize", "1", "jobInputDataSize: a number"),
        ("jobSubmissionTime", -1, "jobSubmissionTime: a whole number from 0 to 2^53 is needed, not -1"),
        ("jobSubmissionTime", 2**53 + 1, "jobSubmissionTime: a whole number"),
        ("jobSubmissionTime", 10**4000, "not a huge number"),
        ("jobSubmissionTime", 0.0, "jobSubmissionTime: a whole number"),
        ("jobFinishTime", True, "jobFinishTime: a whole number from 0 to 2^53 is needed, not True"),
        ("jobFinishTime", float("nan"), "not nan"),
        ("containerSpec", [], "containerSpec: an object is needed, not an array"),
        ("containerSpec", {"memory": float("inf")}, "containerSpec.memory: a number from 0 to 2^53 is needed, not inf"),
        ("containerSpec", {"vcores": [[]]}, "containerSpec.vcores: a number"),
        ("containerSpec", {str(n): 1 for n in range(MAX_RESOURCES + 1)}, "resources; at most"),
        ("skylineList", {"resourceAllocation": {"0": step(1)}}, "skylineList: the last step"),
        ("skylineList", "x" * 9000, "skylineList: a skyline is an object"),
        ("usedSkylineList", None, "usedSkylineList: a skyline is an object"),
        ("surprise", 1, "'surprise' is not a field; there are jobId"),
    ],
)
def test_a_skyline_that_makes_no_sense_is_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        skyline_from_json({**VALID, field: value})
    assert says in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("field", ["jobId", "jobSubmissionTime", "jobFinishTime", "containerSpec", "skylineList"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ValueError, match=f"skyline: {field} must be given"):
        skyline_from_json({name: value for name, value in VALID.items() if name != field})


def test_two_fields_may_be_missing() -> None:
    read = skyline_from_json(
        {name: VALID[name] for name in VALID if name not in ("jobInputDataSize", "usedSkylineList")}
    )
    assert (read.input_size, read.used) == (0.0, None)


KEY = {"pipelineId": "p", "runId": "r"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "history: an array is needed, not None"),
        ({}, "history: an array is needed, not an object"),
        ([1], "history[0]: an array is needed, not 1"),
        ([[KEY]], "history[0]: give a pair"),
        ([[KEY, [], []]], "history[0]: give a pair"),
        ([["p", []]], "history[0][0]: an object is needed, not 'p'"),
        ([[{"pipelineId": "p"}, []]], "history[0][0]: runId must be given"),
        ([[{"pipelineId": 1, "runId": "r"}, []]], "history[0][0].pipelineId: a text is needed, not 1"),
        ([[{**KEY, "more": 1}, []]], "'more' is not a field"),
        ([[KEY, {}]], "history[0][1]: an array is needed"),
        ([[KEY, []], [KEY, []]], "history[1]: the run {pipelineId: p, runId: r} is there already"),
        ([[KEY, [VALID, {**VALID, "jobId": 1}]]], "history[0][1][1].jobId: a text"),
    ],
)
def test_a_history_that_makes_no_sense_is_refused(document: object, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        history_from_json(document)
    assert says in str(refused.value)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value somewhere in it replaced by anything."""
    copy = deepcopy(document)
    parent: Any = None
    key: Any = None
    node = copy
    while isinstance(node, dict | list) and node and (parent is None or draw(st.booleans())):
        parent, key = node, draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = parent[key]
    parent[key] = draw(junk)
    return copy


@few
@given(junk | spoilt(history_to_json(HISTORY)))
def test_any_document_is_read_or_refused(document: Any) -> None:
    try:
        read = history_from_json(document)
    except ValueError as refused:
        assert str(refused)
    else:
        assert history_from_json(json.loads(json.dumps(history_to_json(read)))) == read


def test_amounts() -> None:
    document = amounts_to_json({"gpus": 0.5, "vcores": 2.0, "disk": 1e15})
    assert json.dumps(document) == '{"memory": 0, "vcores": 2, "disk": 1000000000000000, "gpus": 0.5}'
    assert amounts_from_json(document, "here") == {"memory": 0.0, "vcores": 2.0, "disk": 1e15, "gpus": 0.5}
    with pytest.raises(ValueError, match=r"here\.vcores: a number from 0 to 2"):
        amounts_from_json({"vcores": -1}, "here")


def test_skylines_of_one_run() -> None:
    assert skylines_from_json([VALID])[0].job_id == "q12_0"
    with pytest.raises(ValueError, match=r"skylines: an array"):
        skylines_from_json(VALID)


# -- predictions -------------------------------------------------------------------------------------------------


def prediction(**changes: Any) -> Prediction:
    skyline = Skyline.of({0: step(1), 10: step(2484), 25: step(0)})
    made = Prediction(
        pipeline="q12",
        skyline=skyline,
        solver="fast",
        kind="allocated",
        settings=SolverSettings().fingerprint("fast"),
        runs=("q12_0", "q12_1"),
        ignored=("empty",),
        history="00ff",
        objective=12.25,
        gap=1e-11,
        confidence=Confidence(
            runs=2,
            lower=Skyline.interval(0, 25, step(1)),
            upper=Skyline.interval(0, 25, step(3000)),
            over={"memory": 1e17, "vcores": 0.5},
            under={"memory": 0.0, "vcores": 0.0},
            needed={"memory": 3.0, "vcores": 1.0, "gpus": 2.0},
            fixed={"memory": 4.0, "vcores": 5.0},
            left_out_error={"memory": 0.125},
            left_out_runs=2,
        ),
        warm={"positions": [0, 5], "slopes": [[0.25, -1.0]], "nested": {"a": None}},
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"confidence": None, "warm": None, "objective": None, "gap": None, "ignored": (), "kind": "used"},
        {"confidence": replace(prediction().confidence or pytest.fail(), left_out_error=None, left_out_runs=0)},
    ],
)
def test_predictions_come_back_identical(changes: dict[str, Any]) -> None:
    made = prediction(**changes)
    read = prediction_from_document(json.loads(json.dumps(prediction_to_document(made))))
    assert read == made
    assert prediction_to_json(read) == prediction_to_json(made)


def test_a_shown_prediction_has_everything_but_the_solvers_own() -> None:
    shown = prediction_to_json(prediction())
    assert "warm" not in shown
    assert shown["runs"] == ["q12_0", "q12_1"]
    assert shown["skyline"]["resourceAllocation"]["10"] == {"memory": 2543616, "vcores": 2484}
    assert shown["confidence"]["needed"] == {"memory": 3.0, "vcores": 1.0, "gpus": 2.0}
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("kind", "guessed", "'guessed' is neither"),
        ("runs", "q12_0", "prediction.runs: an array"),
        ("runs", [1], r"prediction.runs\[0\]: a text"),
        ("settings", None, "prediction.settings: an object"),
        ("objective", "1", "prediction.objective: a number"),
        ("confidence", {}, "prediction.confidence: runs, lower"),
        ("skyline", {}, "prediction.skyline: a skyline"),
        ("warm", [], "prediction.warm: an object"),
    ],
)
def test_a_prediction_that_makes_no_sense_is_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prediction_from_document({**prediction_to_document(prediction()), field: value})


@few
@given(spoilt(prediction_to_document(prediction())))
def test_any_prediction_is_read_or_refused(document: Any) -> None:
    try:
        read = prediction_from_document(document)
    except ValueError as refused:
        assert str(refused)
    else:
        assert read.pipeline == document["pipeline"]


# -- digests -------------------------------------------------------------------------------------------------------


def test_the_digest_changes_with_anything() -> None:
    used = Skyline.interval(0, 5, step(1))
    variants = [
        [job()],
        [job(), job("b")],
        [job("other")],
        [job(submitted=1)],
        [job(finished=1)],
        [job(input_size=1.0)],
        [job(container={"memory": 2048.0, "vcores": 1.0})],
        [job(skyline=job().skyline.shift(1))],
        [job(skyline=job().skyline + Skyline.interval(3, 4, {"gpus": 1}))],
        [job(skyline=job().skyline + Skyline.interval(3, 4, {"disk": 1}))],
        [job(used=used)],
        [job(used=Skyline.empty())],
        [job(skyline=Skyline.empty(), used=job().skyline)],
    ]
    digests = [run_digest("run", each) for each in variants] + [run_digest("run 2", [job()])]
    assert len(set(digests)) == len(digests)


def test_equal_histories_have_equal_digests() -> None:
    wide = job(
        skyline=job().skyline.with_resources(("gpus",)), container={"vcores": 1, "gpus": 0, "memory": 1024}, submitted=0
    )
    assert run_digest("run", [wide]) == run_digest("run", [job()])


def test_the_order_of_runs_counts() -> None:
    backwards = dict(reversed(HISTORY.items()))
    assert history_digest(backwards) != history_digest(HISTORY)
    assert history_digest({}) == combined_digest([]) == ""
    assert history_digest(HISTORY) == combined_digest(run_digest(run.run, jobs) for run, jobs in HISTORY.items())


def test_names_that_are_no_text_have_digests() -> None:
    assert run_digest("\ud800", [job("\udfff")]) != run_digest("\ud800", [job("\udffe")])
