"""Keys one after the other: each is seen by whatever has the focus once everything before it has been done.

Textual decides where a key goes when it is read, so that of ``/kill`` typed in one breath (or read in one piece
over a slow line) the ``K`` would still reach the table and not the filter that ``/`` opens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from textual import events
from textual.app import App
from textual.dom import DOMNode

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

PATIENCE_S = 0.5
"""A key that nobody seems to have done anything with by then (its widget is gone) holds up no other."""


class Keyboard(App[None]):
    """The part of an application that hands out keys and pasted text."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_keys: deque[events.Event] = deque()
        self._under_way = 0
        self._number = 0

    async def on_event(self, event: events.Event) -> None:
        """Keys wait for the ones before them; everything else goes on as it comes."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
        elif self._under_way or self._waiting_keys:
            self._waiting_keys.append(event)
        else:
            await self._hand_out(event)

    async def _hand_out(self, event: events.Event) -> None:
        self._number += 1
        number = self._under_way = self._number
        target: DOMNode = self.focused or self.screen
        await super().on_event(event)
        asyncio.get_running_loop().call_later(PATIENCE_S, self._done, number)
        # The same way that the key takes, behind it: from the widget through its parents to the application; and again,
        # for what the widget then tells its parents (a line was submitted), ...
        way: list[MessagePump] = [node for node in target.ancestors_with_self if isinstance(node, DOMNode)]
        self._pass_on([*way, self, *way, self], number)

    def _pass_on(self, way: list[MessagePump], number: int) -> None:
        for place, node in enumerate(way):
            if node.call_later(self._pass_on, way[place + 1 :], number):
                return
        # ... and once more through a screen that the key may have opened, which then has its focus.
        if not self.screen.call_later(self.call_later, self.call_later, self._done, number):
            self._done(number)

    def _done(self, number: int) -> None:
        if number != self._under_way:
            return
        self._under_way = 0
        if self._waiting_keys:
            self.call_later(self._next)

    async def _next(self) -> None:
        if self._waiting_keys and not self._under_way:
            await self._hand_out(self._waiting_keys.popleft())
