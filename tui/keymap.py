"""Keys from the configuration: ``[retz.tui.keys]``, binding id = "key,key"."""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module

from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.keys import KEY_ALIASES, Keys

from .places import PLACES

_NAMED = {key.value for key in Keys} | set(KEY_ALIASES) | {"space", "minus", "plus", "comma", "full_stop"}


class KeymapError(ValueError):
    """The configured keys cannot be used; the text says which and why."""


def known_ids() -> set[str]:
    """The ids of all bindings of ours."""
    modules = ["tui.app", "tui.dialogs", "tui.commands", "tui.help", "tui.widgets.table", "tui.widgets.logview"]
    modules += ["tui.widgets.facts", "tui.widgets.stepplot", "tui.screens.pipeline"]
    modules += [place.path.partition(":")[0] for place in PLACES]
    return {id for module in modules for id in _ids(import_module(module))}


def _ids(module: object) -> Iterable[str]:
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, DOMNode) and kind.__module__.startswith("tui."):
            for binding in BindingsMap(kind.__dict__.get("BINDINGS", ())).key_to_bindings.values():
                yield from (each.id for each in binding if each.id)


def checked(keys: Mapping[str, object]) -> dict[str, str]:
    """The map that Textual takes.

    Raises:
        KeymapError: an id that does not exist, or a key that nobody can press.
    """
    if not keys:
        return {}
    ids = known_ids()
    for id, pressed in keys.items():
        if id not in ids:
            near = get_close_matches(id, ids, 1)
            hint = f"did you mean {near[0]}?" if near else "? in retz-tui shows them all"
            raise KeymapError(f"retz.tui.keys: there is no binding {id!r}; {hint}")
        for key in str(pressed).split(","):
            if not _exists(key.strip()):
                raise KeymapError(f"retz.tui.keys: {id}: there is no key {key.strip()!r}; say x, X, ctrl+x, f5, space")
    return {id: ",".join(key.strip() for key in str(pressed).split(",")) for id, pressed in keys.items()}


def _exists(key: str) -> bool:
    *modifiers, last = key.split("+")
    if not set(modifiers) <= {"ctrl", "shift", "alt", "super"}:
        return False
    if len(last) == 1:
        return last.isprintable() and not last.isspace()
    return last in _NAMED or _by_name(last)


def _by_name(name: str) -> bool:
    try:
        return bool(unicodedata.lookup(name.replace("_", " ").upper()))
    except KeyError:
        return False
