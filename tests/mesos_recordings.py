"""What tests take from the recordings of a real Mesos (``tests/recordings/mesos``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retz.engine.mesos.wire import Status

RECORDINGS = Path(__file__).parent / "recordings" / "mesos"


def recorded_statuses(names: str = "*") -> Iterator[Status]:
    """The task statuses of the recordings whose names match, in their order."""
    decoder = json.JSONDecoder()
    for path in sorted(RECORDINGS.glob(f"{names}.txt")):
        text = path.read_text(errors="surrogateescape")
        at = text.find('{"type":"UPDATE"')
        while at >= 0:
            yield _status(decoder.raw_decode(text, at)[0]["update"]["status"])
            at = text.find('{"type":"UPDATE"', at + 1)


def _status(event: dict[str, Any]) -> Status:
    return Status(
        task=event["task_id"]["value"],
        agent=event.get("agent_id", {}).get("value", ""),
        state=event["state"],
        source=event["source"],
        reason=event.get("reason", ""),
        message=event.get("message", ""),
        at=event["timestamp"],
        uuid=event.get("uuid"),
    )
