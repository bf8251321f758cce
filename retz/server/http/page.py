"""``/``: one page for people with a browser. No script, nothing from elsewhere, no name of a user or a job."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from html import escape

from aiohttp import web

from retz.model.resources import RESOURCE_NAMES
from retz.model.units import format_size

from .api import Call
from .responses import text

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .2rem 1.5rem .2rem 0; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; font-weight: normal; }
.bad { font-weight: bold; }
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'sha256-"
    + b64encode(sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_LINKS = (
    ("/healthz", "health, for monitors"),
    ("/metrics", "metrics, for Prometheus"),
    ("/status", "these numbers, for clients of the Retz protocol"),
)


async def root(call: Call) -> web.StreamResponse:
    """``GET /``."""
    response = text(_page(call), "text/html; charset=utf-8")
    response.headers.update(_HEADERS)
    return response


def _page(call: Call) -> str:
    version = escape(call.core.version)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Retz</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Retz {version}</h1>
<p>A batch-job queue. {_health(call)}</p>
<h2>Queue</h2>
{_table(("", "jobs"), _queue(call))}
<h2>Machines</h2>
<p>{_machines(call)}</p>
{_table(("", "used", "of"), _amounts(call))}
<h2>Here</h2>
<ul>
{_links()}
</ul>
<p>Jobs are submitted and watched from a terminal: <code>retz run -- echo hello</code>, <code>retz list</code>,
<code>retz-tui</code>. The API for programs is below <code>/api/v2</code>; its requests are signed.</p>
</body>
</html>
"""


def _health(call: Call) -> str:
    core = call.core
    if core.read_only is not None:
        return '<span class="bad">Nothing can be changed: a write to the disk failed.</span>'
    if core.engine_failure is not None:
        return '<span class="bad">The engine cannot go on; the server\'s log says why.</span>'
    return {
        "open": "It accepts and starts jobs.",
        "paused": "It accepts jobs and starts none: it is paused.",
        "draining": "It accepts no jobs and starts none: it is draining.",
    }[core.mode]


def _queue(call: Call) -> list[tuple[str, ...]]:
    return [
        ("waiting", str(call.core.db.jobs.count("state", "QUEUED"))),
        ("running", str(call.core.running())),
    ]


def _machines(call: Call) -> str:
    counts = Counter(agent.state for agent in call.core.agents())
    return escape(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none known yet")


def _amounts(call: Call) -> list[tuple[str, ...]]:
    sums = call.core.sums()
    return [
        (name, _amount(name, getattr(sums.used, name)), _amount(name, getattr(sums.total, name)))
        for name in RESOURCE_NAMES
        if getattr(sums.total, name)
    ]


def _amount(name: str, value: float) -> str:
    return format_size(int(value)) if name in ("mem", "disk") else f"{value:g}"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for name, *cells in rows:
        lines.append(f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _links() -> str:
    return "\n".join(f'<li><a href="{target}">{target}</a>: {escape(words)}</li>' for target, words in _LINKS)
