"""One frame as text, for scripts and bug reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.app import App


def frame_text(app: App[Any]) -> str:
    """What the screen shows, a line each, blanks at the ends of lines left out."""
    # Textual has no public way to read a frame but pictures.
    strips = app.screen._compositor.render_strips()
    return "".join("".join(segment.text for segment in strip).rstrip() + "\n" for strip in strips)
