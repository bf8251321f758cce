"""Named styles for widgets that draw their own lines. The names are defined once, in ``retz.tcss``."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget

NAMES = (
    "base", "dim", "header", "cursor", "accent", "good", "warn", "bad",
    "queued", "starting", "started", "finished", "failed", "killed", "held",
    "used", "allocated", "free", "bold", "match",
    "plan", "history", "band", "fixed", "layer0", "layer1", "layer2", "layer3", "layer4",
)  # fmt: skip

STYLES = {f"paint--{name}" for name in NAMES}


class Painted(Widget):
    """A widget with the named styles as component classes, looked up once per theme."""

    def paint(self, name: str) -> Style:
        """The style of that name; no style for the empty name."""
        cache: dict[str, Style] = self.__dict__.setdefault("_painted", {"": Style()})
        if name not in cache:
            cache[name] = self.get_component_rich_style(f"paint--{name}", partial=name != "base")
        return cache[name]

    def notify_style_update(self) -> None:
        """The theme, or the application's look, changed."""
        self.__dict__.pop("_painted", None)
        super().notify_style_update()
