"""Configuration: option, then ``RETZ_*``, then the project's file, then the user's file, then the default.

A damaged configuration is an error that names file, line and key. Standard library only, and no TOML parser
unless there is a file: the command line loads this on its way to everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from .config_keys import BY_NAME, DEFAULT_URI, JOB_VARIABLES, KEYS, Key, Value, toml_value
from .config_values import convert

__all__ = ["JOB_VARIABLES"]

FILE_NAMES = ("retz.toml", ".retz.toml")
STARS = "********"
_REDIRECTING = ("retz.server.uri", "retz.tls.ca", "retz.tls.insecure")
_CREDENTIALS = ("retz.access.key", "retz.access.secret")


class ConfigError(Exception):
    """The configuration cannot be used; the text names the place and says what to do."""


class Origin(NamedTuple):
    """Where a value comes from: its kind and the place (variable, ``file:line``), empty for defaults."""

    kind: Literal["option", "environment", "project", "user", "file", "default"]
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".strip()


class Setting(NamedTuple):
    """A key with its value and where that came from."""

    key: Key
    value: Any
    origin: Origin

    @property
    def shown(self) -> Any:
        """The value as it may be printed: secrets are stars."""
        return STARS if self.key.secret and self.value else self.value


class Settings(NamedTuple):
    """All keys, resolved. ``notes`` are remarks for the user: a file ignored, a readable secret."""

    values: dict[str, Setting]
    notes: tuple[str, ...] = ()

    def of_scope(self, scope: str) -> dict[str, Any]:
        """Attribute names and values of the keys that a client or a server reads."""
        return {s.key.attribute: s.value for s in self.values.values() if s.key.scope in (scope, "both")}


@dataclass(frozen=True)
class ClientConfig:
    """What a client needs to know. Field ``server_uri`` is key ``retz.server.uri``, and so on.

    Attributes:
        server_timeout: Seconds.
        server_retry: Seconds to keep looking for a server that went away.
        tui_keys: Binding of retz-tui -> keys.
        settings: Every value with its origin.
    """

    server_uri: str = DEFAULT_URI
    server_timeout: float = 30.0
    server_retry: float = 600.0
    access_key: str | None = None
    access_secret: str | None = field(default=None, repr=False)
    authentication: bool = True
    tls_ca: Path | None = None
    tls_insecure: bool = False
    tui_keys: Mapping[str, str | float | bool] = field(default_factory=dict, compare=False)
    settings: Settings = field(default=Settings({}), repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user; see :class:`Settings`."""
        return self.settings.notes


def load_client(
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    file: Path | None = None,
) -> ClientConfig:
    """Return the client's configuration.

    Args:
        options: By key name, what the command line said; None values count as not said.
        file: Read this instead of the project's and the user's file.

    Raises:
        ConfigError: see there.
    """
    environ = os.environ if environ is None else environ
    settings = resolve(options or {}, environ, sources(environ, cwd or _working_directory(), file))
    return ClientConfig(**settings.of_scope("client"), settings=settings)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # removed under us: there is no project then
        return None


class Source(NamedTuple):
    """A configuration file that was read: its values by key name, already of their types.

    ``lines``: where keys stand in a file that is not TOML.
    """

    kind: Literal["project", "user", "file"]
    path: Path
    text: str
    values: dict[str, Any]
    notes: tuple[str, ...] = ()
    lines: Mapping[str, int] = {}

    def line(self, name: str) -> int:
        """The line where a key is set."""
        return self.lines.get(name) or line_of(self.text, name)


def sources(environ: Mapping[str, str], cwd: Path | None, file: Path | None = None) -> list[Source]:
    """Return the files to read, strongest first. Without ``cwd`` no project file is looked for."""
    if file is not None:
        return [read_file(file, "file", environ)]
    try:
        project = None if cwd is None else find_project_file(environ, cwd)
        user = user_file(environ)
        has_user = user.is_file()
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be looked at: {error.strerror}") from error
    found = [] if project is None or project == user else [read_file(project, "project", environ)]
    return [*found, read_file(user, "user", environ)] if has_user else found


def user_file(environ: Mapping[str, str]) -> Path:
    """``$XDG_CONFIG_HOME/retz/retz.toml``, ``~/.config/retz/retz.toml`` without that variable."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config") / "retz" / "retz.toml"


def find_project_file(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return ``retz.toml`` or ``.retz.toml`` of ``cwd`` or a parent, up to the first ``.git`` or $HOME.

    Outside both only ``cwd`` itself counts, or anybody could leave a file for you in ``/tmp``.
    """
    candidates: list[Path] = []
    for directory in (cwd, *cwd.parents):
        candidates.append(directory)
        if directory == _home(environ) or (directory / ".git").exists():
            break
    else:
        candidates = [cwd]
    return next((d / name for d in candidates for name in FILE_NAMES if (d / name).is_file()), None)


def read_file(path: Path, kind: Literal["project", "user", "file"], environ: Mapping[str, str]) -> Source:
    """Read and check one file, TOML or the ``retz.properties`` of the Java Retz.

    A project file that belongs to another user is ignored, with a note.

    Raises:
        ConfigError: not readable, not TOML, an unknown key, a wrong value; with file, line and key.
    """
    try:
        owner = path.stat()
        if kind == "project" and owner.st_uid not in (os.geteuid(), 0):
            return Source(kind, path, "", {}, (f"{path} is ignored: it belongs to another user",))
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    read = _read_properties if path.suffix == ".properties" else _read_toml
    source = read(path, kind, data, environ)
    exposed = owner.st_mode & 0o077 and "retz.access.secret" in source.values
    if not exposed:
        return source
    return source._replace(notes=(*source.notes, f"{path} holds your secret and others may read it: chmod 600 {path}"))


def _read_toml(path: Path, kind: Literal["project", "user", "file"], data: bytes, environ: Mapping[str, str]) -> Source:
    import tomllib

    try:
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    values = {name: _from_file(name, raw, path, text, environ) for name, raw in _flatten(document)}
    return Source(kind, path, text, values)


def _read_properties(
    path: Path, kind: Literal["project", "user", "file"], data: bytes, environ: Mapping[str, str]
) -> Source:
    from . import config_properties

    text = data.decode("latin-1")  # as Java reads such files
    found = config_properties.convert(text)
    values = {
        name: _converted(BY_NAME[name], raw, f"{path}:{found.lines[name]}", path.parent, environ)
        for name, raw in found.values.items()
    }
    return Source(kind, path, text, values, tuple(f"{path}: {note}" for note in found.notes), found.lines)


def resolve(options: Mapping[str, object], environ: Mapping[str, str], files: list[Source]) -> Settings:
    """Choose each key's value by precedence, and keep credentials from a server that a project file names."""
    values = {key.name: _choose(key, options, environ, files) for key in KEYS}
    notes = [note for source in files for note in source.notes]
    redirected = next((n for n in _REDIRECTING if values[n].origin.kind == "project"), None)
    for name in _CREDENTIALS if redirected else ():
        if values[name].origin.kind == "user":
            values[name] = Setting(BY_NAME[name], None, Origin("default"))
            place = values[redirected or name].origin.place
            notes.append(
                f"{name} of your own file is not used: {place} sets {redirected}, and a project must not "
                f"send your credentials elsewhere; set {BY_NAME[name].environment}"
            )
    return Settings(values, tuple(notes))


def _choose(key: Key, options: Mapping[str, object], environ: Mapping[str, str], files: list[Source]) -> Setting:
    if options.get(key.name) is not None:
        return Setting(key, _converted(key, options[key.name], "option", Path(), environ), Origin("option"))
    if environ.get(key.environment) and key.kind != "table":
        value = _converted(key, environ[key.environment], key.environment, Path(), environ)
        return Setting(key, value, Origin("environment", key.environment))
    for source in files:
        if key.name in source.values:
            place = f"{source.path}:{source.line(key.name)}"
            return Setting(key, source.values[key.name], Origin(source.kind, place))
    default = None if key.default is None else convert(key, key.default, Path("/"), environ)
    return Setting(key, default, Origin("default"))


def _converted(key: Key, raw: object, place: str, base: Path, environ: Mapping[str, str]) -> Any:
    try:
        return convert(key, raw, base.absolute() if key.kind == "path" else base, environ)
    except ValueError as error:
        message = "must be a text in quotes, without control characters" if key.secret else error
        raise ConfigError(f"{place}: {key.name}: {message}") from None


def _from_file(name: str, raw: object, path: Path, text: str, environ: Mapping[str, str]) -> Any:
    place = f"{path}:{line_of(text, name)}"
    key = BY_NAME.get(name)
    if key is None:
        from difflib import get_close_matches

        near = get_close_matches(name, BY_NAME, 1)
        hint = f"did you mean {near[0]}?" if near else "'retz config --all' lists them all"
        raise ConfigError(f"{place}: {name}: no such key; {hint}")
    return _converted(key, raw, place, path.parent, environ)


def _flatten(document: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Value | object]]:
    for name, value in document.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict) and full not in BY_NAME:
            yield from _flatten(value, full + ".")
        else:
            yield full, value


def line_of(text: str, name: str) -> int:
    """Return the line (from 1) of a TOML text where a key is set; 1 if it is written in an unusual way."""
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split("#")[0].strip()
        if stripped.startswith("["):
            table = stripped.strip("[] ") + "."
            if table == name + ".":
                return number
        elif "=" in stripped and table + stripped.split("=")[0].strip().replace('"', "") == name:
            return number
    return 1


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    value = environ.get(variable, "")
    return Path(value) if value.startswith("/") else _home(environ) / default


def write_client_config(path: Path, uri: str, key: str, secret: str, *, replace: bool = False) -> bool:
    """Write a client's identity, readable by its owner alone from its first instant.

    A file that differs only in the port of a server on this host gets the new address; the rest of it stays.

    Returns:
        True if something was written, False if the file says the same already.

    Raises:
        ConfigError: the file holds something else and ``replace`` is False: it stays as it is.
    """
    identity = {"retz.server.uri": uri, "retz.access.key": key, "retz.access.secret": secret}
    if path.exists() and not replace:
        held = read_file(path, "user", os.environ).values
        if all(held.get(name) == value for name, value in identity.items()):
            return False
        if all(held.get(name) == identity[name] for name in _CREDENTIALS) and _both_here(held, uri):
            return _move(path, uri)
        theirs = held.get("retz.access.key")
        if theirs is None:
            raise ConfigError(f"{path} holds settings, but no key: it is left as it is")
        raise ConfigError(
            f"{path} holds another identity (key {theirs}): it is left as it is; "
            "move it away, or use another file with 'retz -C FILE'"
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = "# Written by retz-server: who you are. Keep it to yourself.\n"
    text += f"[retz.server]\nuri = {toml_value(uri)}\n"
    text += f"\n[retz.access]\nkey = {toml_value(key)}\nsecret = {toml_value(secret)}\n"
    _write_private(path, text, replace)
    return True


def _both_here(held: Mapping[str, Any], uri: str) -> bool:
    old = str(held.get("retz.server.uri", ""))
    return all(urlsplit(u).hostname in ("127.0.0.1", "localhost", "::1") for u in (old, uri))


def _move(path: Path, uri: str) -> bool:
    lines = path.read_text(encoding="utf-8").splitlines()
    index = line_of("\n".join(lines), "retz.server.uri") - 1
    name, equals, _ = lines[index].partition("=")
    if not equals:
        raise ConfigError(f"{path}: write uri = {toml_value(uri)} into [retz.server] yourself")
    lines[index] = f"{name}{equals} {toml_value(uri)}"
    _write_private(path, "\n".join(lines) + "\n", replace=True)
    return True


def _write_private(path: Path, text: str, replace: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike rename this cannot overwrite what somebody wrote meanwhile
    except FileExistsError as error:
        raise ConfigError(f"{path} appeared meanwhile: it is left as it is") from error
    finally:
        temporary.unlink(missing_ok=True)


def host_token() -> str:
    """Return a text that two processes share exactly when they run on the same booted host.

    A hash, because boot ids are nobody's business. Containers differ by their host name.
    """
    from hashlib import sha256
    from socket import gethostname

    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip() if boot.exists() else ""
    return sha256(f"retz {boot_id} {gethostname()}".encode()).hexdigest()[:32]
