"""What each recording needs beside its requests, and what of it is chance."""

from __future__ import annotations

from tests.conformance import steps
from tests.conformance.recording import Recording
from tests.conformance.scenario import Action, Scenario

_AGENT_KILLED: tuple[tuple[str, Action], ...] = (
    (r" S chunk RESCIND", steps.kill_agent),
    (r"note agent 1 started again", steps.start_agent),
)

_SHORTER = (("sleep 25", "sleep 17"), ("sleep 20", "sleep 14"), ("sleep [34];", "sleep 5;"))
"""The one that outlives the agent's absence need not do so for long; the others must outlive the agent."""

SCENARIOS: dict[str, Scenario] = {
    "01": Scenario(steps=((r"request TEARDOWN", steps.heartbeats),)),
    "02b": Scenario(steps=((r"request TEARDOWN", steps.retries),)),
    "04": Scenario(steps=((r"request TEARDOWN", steps.grace),)),
    "03": Scenario(free_offers=True),
    "07": Scenario(patience=8.0, steps=((r"request TEARDOWN", steps.held_back),)),
    "09": Scenario(
        steps=(
            (r"S chunk OFFERS", steps.learn_split),
            (r"^11\.876", steps.end_framework),
            (r"^14\.005", steps.end_framework),
        )
    ),
    "12": Scenario(edits=(("sleep 3", "sleep 3.8"),)),
    "12b": Scenario(patience=8.0),
    "13": Scenario(free_offers=True),
    "11": Scenario(history=True),
    "15": Scenario(
        history=True, steps=((r"GET /health", steps.three_tasks),), skip=r"request (?:HEAD /state|GET /help)"
    ),
    "15b": Scenario(
        steps=((r"FRAMEWORK_ADDED", steps.run_beside), (r"^2\.386", steps.see_end), (r"FRAMEWORK_REMOVED", steps.leave))
    ),
    "16": Scenario(
        history=True,
        steps=((r"GET /health", steps.sandbox), (r"the task is terminal", steps.end_sandbox)),
        shaped=r"read stderr|environment of the task",
    ),
    "17": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "17b": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "17c": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "17d": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "18": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "18b": Scenario(steps=_AGENT_KILLED, patience=6, edits=_SHORTER),
    "18c": Scenario(steps=((r"^1\.230 ", steps.stop_agent), (r"started again", steps.start_agent))),
    "19": Scenario(
        patience=4,
        steps=(
            (r"S1 broken", steps.kill_master),
            (r"call while the master is down", steps.refused),
            (r"master started again", steps.start_master),
            (r"request a call with the old stream id", steps.recovered),
            (r"^22\.772", steps.agent_1_back),
        ),
    ),
    "19b": Scenario(
        patience=4,
        steps=(
            (r"master SIGKILLed", steps.kill_master),
            (r"note call while the master is down", steps.refused),
            (r"master started again", steps.start_master),
            (r"^4\.400 S2 request", steps.recovered),
            (r"^4\.786", steps.agent_1_back),
            (r"^5\.758", steps.agent_2_back),
        ),
    ),
    "19c": Scenario(
        patience=4,
        steps=(
            (r"master SIGKILLed", steps.kill_master),
            (r"note call while the master is down", steps.refused),
            (r"master started again", steps.start_master),
            (r"^4\.414 S2 request", steps.recovered),
            (r"^4\.446", steps.agent_2_back),
            (r"^4\.583", steps.agent_1_back),
        ),
    ),
    **dict.fromkeys(("05", "05b", "06", "06b"), Scenario(free_offers=True)),
    "21": Scenario(
        free_offers=True,
        edits=(("file:///var/lib/mesos-x/run/fetchme.txt", "file:///etc/hosts"), ("cat fetchme.txt", "cat hosts")),
        shaped="std(?:out|err) of t-env|stderr of",
    ),
    "24": Scenario(free_offers=True, steps=((r"SUBSCRIBE without credentials", steps.authenticates),)),
    "25": Scenario(
        free_offers=True,
        edits=(
            ("echo hi", "sleep .3; echo hi"),
            ("exit 3", "sleep .3; exit 3"),
            ("sleep 100", "trap 'sleep .3; trap - TERM; kill $$' TERM; sleep 100 & wait"),
        ),
    ),
    "26b": Scenario(steps=((r"GET /redirect on 5070", steps.lose_leader),)),
    "27": Scenario(
        steps=(
            (r"request on the stream connection", steps.call_on_stream),
            (r"^16\.033", steps.half_close),
        ),
        skip=r"request on the stream connection$|x-protobuf",
    ),
    "23": Scenario(steps=((r"S request SUBSCRIBE", steps.rescinds), (r"request TEARDOWN", steps.rescinded))),
    "28": Scenario(missing="the DEFAULT executor, which runs groups of tasks"),
    "21b": Scenario(growing=r"stdout&offset=", steps=((r"GET /files/read", steps.big),)),
    "26": Scenario(
        patience=11,
        edits=(("sleep 6", "sleep 9"),),
        steps=(
            (r"leader 5050 SIGKILLed", steps.kill_leader),
            (r"^12\.544", steps.elect),
            (r"^12\.621", steps.recovered),
            (r"^13\.087", steps.agent_2_back),
            (r"^13\.107", steps.agent_1_back),
        ),
    ),
}
"""By the recording's name; those not here need nothing."""


def of(recording: Recording) -> Scenario:
    """The scenario of a recording."""
    return SCENARIOS.get(recording.name, Scenario())
