"""The service's figures as Prometheus text. They name no pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..lanes import LaneState

Requests = Mapping[tuple[str, str, int], int]
"""(method, route, status) -> how many."""

_PER_LANE = (
    ("running", "gauge", "Calls that a worker is doing."),
    ("waiting", "gauge", "Calls that wait for a worker."),
    ("calls", "counter", "Calls that workers have done."),
    ("shared", "counter", "Calls that were answered by another's execution."),
    ("cancelled", "counter", "Calls given up because nobody waited for them any more."),
    ("failed", "counter", "Calls that a worker's end or a fault in it made fail."),
    ("started", "counter", "Worker processes started."),
)


def render(requests: Requests, lanes: Iterable[LaneState]) -> str:
    """The whole page."""
    states = list(lanes)
    lines = _head("requests_total", "counter", "HTTP requests answered.")
    for (method, route, status), count in sorted(requests.items()):
        labels = f'method="{method}",route="{route}",status="{status}"'
        lines.append(f"retz_estimator_requests_total{{{labels}}} {count}")
    for field, kind, text in _PER_LANE:
        name = f"worker_{field}_total" if kind == "counter" else f"worker_{field}"
        lines += _head(name, kind, text)
        lines += [f'retz_estimator_{name}{{lane="{state.name}"}} {getattr(state, field)}' for state in states]
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP retz_estimator_{name} {text}", f"# TYPE retz_estimator_{name} {kind}"]
