"""The page for browsers: whole without a script, harmless, and naming nobody."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from retz.model.agent import Agent
from retz.model.resources import Resources

from .http_site import ROOT, PuppetEngine, Site, running_site

pytestmark = pytest.mark.anyio

VOID = ("meta",)


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps texts and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


async def page_of(site: Site) -> tuple[Page, str]:
    reply = await site.ask("GET", "/", None)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = reply.body.decode()
    return Page(text), text


async def test_the_page_shows_version_queue_machines_and_links_that_work(site: Site) -> None:
    await site.running(resources={"cpus": 4})
    await site.submit("echo confidential", name="secret-name", tags=["secret-tag"])
    page, text = await page_of(site)
    assert f"Retz {site.core.version}" in text and "1 active" in text
    assert page.cells[:5] == ["jobs", "waiting", "1", "running", "1"]
    assert page.cells[page.cells.index("cpus") :][:3] == ["cpus", "4", "4"]
    for word in ("confidential", "secret", "ann", "host1"):
        assert word not in text
    for target in page.targets:
        assert (await site.ask("GET", target, None)).status == 200


async def test_the_page_needs_no_script_and_allows_none(site: Site) -> None:
    page, _ = await page_of(site)
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    headers = (await site.ask("GET", "/", None)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("mode", ["open", "paused", "draining"])
async def test_the_page_says_what_the_queue_does(site: Site, mode: str) -> None:
    assert (await site.ask("PUT", "/api/v2/queue", ROOT, mode=mode)).status == 200
    _, text = await page_of(site)
    assert {"open": "accepts and starts jobs", "paused": "is paused", "draining": "is draining"}[mode] in text


async def test_what_machines_say_is_text(tmp_path: Path) -> None:
    agent = Agent(id="<b>", host="<script>", total=Resources(1, 1), state="<i>&")  # type: ignore[arg-type]
    async with running_site(tmp_path, engine=PuppetEngine([agent])) as site:
        _, text = await page_of(site)
        assert "1 &lt;i&gt;&amp;" in text and "<script>" not in text


async def test_a_failed_disk_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(site.core), "read_only", property(lambda _core: "disk is gone"))
    _, text = await page_of(site)
    assert "a write to the disk failed" in text
