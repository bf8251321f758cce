"""What every command works with: the configuration, a connection, the output. Each is made when first asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from retz.client import calls
from retz.client.calls import Call
from retz.client.transport import Transport
from retz.config import ClientConfig, load_client


class App:
    """The context object of all commands.

    Args:
        config_file: Read instead of the project's and the user's file.
        server: URI that wins over every configuration.
    """

    def __init__(self, config_file: str | None = None, server: str | None = None) -> None:
        self._file = Path(config_file) if config_file else None
        self._options = {"retz.server.uri": server}

    @property
    def old_file(self) -> bool:
        """Whether the configuration is a file of the Java Retz."""
        return self._file is not None and self._file.suffix == ".properties"

    @cached_property
    def config(self) -> ClientConfig:
        """The configuration. What of an old file means nothing here is told."""
        config = load_client(self._options, file=self._file)
        if self.old_file:
            from .output import note

            for remark in config.notes:
                note(f"retz: {remark}")
        return config

    @cached_property
    def transport(self) -> Transport:
        """A connection for requests one after the other."""
        return Transport(self.config)

    def call(self, call: Call) -> Any:
        """Ask the server; return the decoded answer."""
        return self.transport.call(call)

    def resolve(self, ids: tuple[int | str, ...]) -> list[int]:
        """Replace ``last`` and tasks of arrays (``17_3``) by their numbers; keep the order, drop repetitions."""
        numbers = [int(self.call(calls.job(i))["id"] if isinstance(i, str) else i) for i in ids]
        return list(dict.fromkeys(numbers))
