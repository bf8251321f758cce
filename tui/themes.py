"""Our looks: dark, light, without colour.

The variables beyond Textual's are explained where they are used, in ``retz.tcss``.
"""

from __future__ import annotations

from textual.theme import Theme

FALLBACK = {"killed": "#b070c0", "muted": "#888888", "faint": "#666666", "select": "#444444"}
"""For themes that are not ours."""

THEMES = (
    Theme(
        name="retz-dark",
        dark=True,
        primary="#5fafd7",
        secondary="#5fb3b3",
        accent="#e0a030",
        foreground="#d0d4da",
        background="#101317",
        surface="#161a20",
        panel="#1c2128",
        success="#7fb069",
        warning="#cfc04a",
        error="#e0605e",
        variables={"killed": "#c678dd", "muted": "#828a96", "faint": "#4a515c", "select": "#3a2f18"},
    ),
    Theme(
        name="retz-light",
        dark=False,
        primary="#1f6f9f",
        secondary="#1d7a7a",
        accent="#b05e00",
        foreground="#22262b",
        background="#fbfbf8",
        surface="#f1f1ec",
        panel="#e6e6df",
        success="#2f7d32",
        warning="#756600",
        error="#b3261e",
        variables={"killed": "#7b3fa0", "muted": "#6a6f76", "faint": "#b9bcb8", "select": "#f3e3c3"},
    ),
    Theme(
        name="retz-mono",
        dark=True,
        primary="#d0d0d0",
        secondary="#d0d0d0",
        accent="#ffffff",
        foreground="#d0d0d0",
        background="#000000",
        surface="#1c1c1c",
        panel="#262626",
        success="#d0d0d0",
        warning="#e4e4e4",
        error="#ffffff",
        variables={"killed": "#d0d0d0", "muted": "#8a8a8a", "faint": "#585858", "select": "#444444"},
    ),
)


def known() -> list[str]:
    """Names of all themes, ours first."""
    from textual.theme import BUILTIN_THEMES

    return [*(theme.name for theme in THEMES), *sorted(BUILTIN_THEMES)]
