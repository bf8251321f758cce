"""Configuration files: TOML with Hadoop's key names, or Hadoop's own XML as it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from .config import ALIASES, EstimatorConfig
from .errors import ConfigurationError
from .solver.base import SolverSettings

PREFIX = "resourceestimator."
MAX_BYTES = 1 << 20


class Loaded(NamedTuple):
    """A configuration that was read from a file.

    Attributes:
        warnings: One line for each key that is not known.
        given: Names of the fields of :class:`EstimatorConfig` and of its settings that the file has set.
    """

    config: EstimatorConfig
    warnings: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()


def load(path: Path) -> Loaded:
    """Read a configuration file, TOML or XML by its content. Paths in it are relative to its directory.

    Raises:
        ConfigurationError: it cannot be read, is not well-formed, or a value makes no sense; with file, line, key.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"{path}: too large for a configuration ({len(content)} bytes)")
    read = _xml_entries if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") else _toml_entries
    loaded = Loaded(EstimatorConfig())
    for entry in read(path, content):
        loaded = _with(loaded, entry, path)
    return loaded


class _Entry(NamedTuple):
    """One value as it stands in a file, a text in XML, with its key and line."""

    name: str
    raw: object
    line: int


def _with(loaded: Loaded, entry: _Entry, path: Path) -> Loaded:
    place = f"{path}:{entry.line}: {entry.name}"
    key = KEYS.get(entry.name.removeprefix(PREFIX)) if entry.name.startswith(PREFIX) else None
    if key is None:
        return loaded._replace(warnings=(*loaded.warnings, f"{place}: no such key, ignored"))
    try:
        config = _changed(loaded.config, key.field, key.convert(entry.raw, path.absolute().parent))
    except (ValueError, ConfigurationError) as error:
        raise ConfigurationError(f"{place}: {error}") from None
    return loaded._replace(config=config, given=loaded.given | {key.field})


def _changed(config: EstimatorConfig, name: str, value: Any) -> EstimatorConfig:
    if name in _SETTINGS:
        return replace(config, settings=replace(config.settings, **{name: value}))
    return replace(config, **{name: value})


_SETTINGS = frozenset(each.name for each in fields(SolverSettings))


# -- values ---------------------------------------------------------------------------------------------------


def _number(raw: object, base: Path) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError(f"must be a number, not {_shown(raw)}")
    try:
        return float(raw)
    except (ValueError, OverflowError):
        raise ValueError(f"must be a number, not {_shown(raw)}") from None


def _whole(raw: object, base: Path) -> int:
    if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", raw):
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise ValueError(f"must be a whole number, not {_shown(raw)}")
    return raw


def _flag(raw: object, base: Path) -> bool:
    value = {"true": True, "false": False}.get(raw, raw) if isinstance(raw, str) else raw
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_shown(raw)}")
    return value


def _text(raw: object, base: Path) -> str:
    if not isinstance(raw, str) or not raw or not raw.isprintable():
        raise ValueError(f"must be a text, not {_shown(raw)}")
    return raw


def _class(raw: object, base: Path) -> str:
    """A short name where there is one: predictions remember by which solver they were made."""
    name = _text(raw, base)
    path = ALIASES.get(name, name)
    return next((short for short, long in ALIASES.items() if long == path and "." not in short), path)


def _path(raw: object, base: Path) -> Path:
    return base / Path(_text(raw, base)).expanduser()


def _paths(raw: object, base: Path) -> tuple[Path, ...]:
    texts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
    if not isinstance(texts, list):
        raise ValueError(f'must be a list of directories like ["/var/log/yarn"], not {_shown(raw)}')
    return tuple(_path(text, base) for text in texts)


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "..."


class Key(NamedTuple):
    """What a key sets (a field of the configuration or of its settings), and how its value is read."""

    field: str
    convert: Callable[[object, Path], Any]


KEYS: Mapping[str, Key] = {
    "solver.lp.alpha": Key("alpha", _number),
    "solver.lp.beta": Key("beta", _number),
    "solver.lp.minJobRuns": Key("min_runs", _whole),
    "solver.provider": Key("solver", _class),
    "solver.kind": Key("kind", _text),
    "solver.confidence": Key("confidence", _flag),
    "timeInterval": Key("interval", _whole),
    "translator.line-parser": Key("line_parser", _class),
    "translator.provider": Key("log_parser", _class),
    "skylinestore.provider": Key("store", _class),
    "service-port": Key("port", _whole),
    "bind": Key("bind", _text),
    "store-directory": Key("directory", _path),
    "log-directories": Key("log_directories", _paths),
    "workers-idle": Key("workers_idle_s", _number),
    "upload-limit": Key("upload_limit", _whole),
}
"""All keys, without their common beginning ``resourceestimator.``; those of Hadoop are as Hadoop writes them."""


# -- TOML -----------------------------------------------------------------------------------------------------


def _toml_entries(path: Path, content: bytes) -> Iterator[_Entry]:
    try:
        text = content.decode("utf-8-sig")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigurationError(f"{path}:{line}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}:1: not valid TOML: nested too deeply") from error
    for name, raw in _flat(document, ""):
        yield _Entry(name, raw, _line_of(text, name))


def _flat(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _line_of(text: str, name: str) -> int:
    """The line where a key is set; 1 if that is written in an unusual way."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split("#")[0].strip()
        if stripped.startswith("["):
            table = stripped.strip("[] ") + "."
        elif "=" in stripped and table + stripped.split("=")[0].strip().replace('"', "") == name:
            return number
    return 1


# -- XML ------------------------------------------------------------------------------------------------------


def _xml_entries(path: Path, content: bytes) -> list[_Entry]:
    reader = _ConfigurationReader(path)
    try:
        reader.parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: encodings that it does not know
        raise ConfigurationError(f"{path}:{reader.parser.CurrentLineNumber}: not well-formed XML: {error}") from error
    return reader.entries


class _ConfigurationReader:
    """Collects ``<property><name>..</name><value>..</value></property>`` below ``<configuration>``."""

    def __init__(self, path: Path) -> None:
        self.entries: list[_Entry] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.EntityDeclHandler = self._entity
        self._path = path
        self._open: list[str] = []
        self._found: dict[str, str] = {}
        self._line = 0

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if not self._open and tag != "configuration":
            raise self._error(f"a configuration begins with <configuration>, not <{tag[:40]}>")
        self._open.append(tag)
        if self._open == ["configuration", "property"]:
            self._found = {}
        elif self._open[1:] in (["property", "name"], ["property", "value"]):
            self._found[tag] = ""
            self._line = self.parser.CurrentLineNumber

    def _data(self, text: str) -> None:
        if self._open[1:] in (["property", "name"], ["property", "value"]):
            self._found[self._open[-1]] += text

    def _end(self, tag: str) -> None:
        if self._open == ["configuration", "property"]:
            if not self._found.get("name", "").strip():
                raise self._error("a <property> without <name>")
            if "value" in self._found:
                self.entries.append(_Entry(self._found["name"].strip(), self._found["value"].strip(), self._line))
        self._open.pop()

    def _entity(self, *declaration: object) -> None:
        """Entities can blow a small file up to gigabytes and read other files; no configuration needs them."""
        raise self._error("entity declarations are not read; write the values out")

    def _error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path}:{self.parser.CurrentLineNumber}: {text}")
