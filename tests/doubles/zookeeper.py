"""A small ZooKeeper: one server with nodes, watches and sessions, as far as those need it who look for a Mesos master.

It speaks ZooKeeper's protocol (jute records behind their length in four bytes) to any client. Tests say which masters
are there, and what goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, SYNC, PING, GET_CHILDREN2 = 1, 2, 3, 4, 5, 8, 9, 11, 12
CLOSE = -11
NODE_CREATED, NODE_DELETED, NODE_CHANGED, CHILDREN_CHANGED = 1, 2, 3, 4
UNIMPLEMENTED, NO_NODE, BAD_VERSION, NO_CHILDREN_HERE, NODE_EXISTS, NOT_EMPTY = -6, -101, -103, -108, -110, -111
WATCH_XID = -1
SYNC_CONNECTED = 3
EPHEMERAL, SEQUENCE = 1, 2
NOBODY = 0
MASTERS = -1
"""Owner of the nodes that tests add: a session that no client has."""
PASSWORD = b"0123456789abcdef"
_INT, _LONG, _HEADER = struct.Struct("!i"), struct.Struct("!q"), struct.Struct("!ii")
_STAT = struct.Struct("!qqqqiiiqiiq")
_REPLY, _WELCOME = struct.Struct("!iqi"), struct.Struct("!iiq")


class Refused(Exception):
    """An operation fails with an error code of ZooKeeper."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Node:
    """A node; ``born`` and ``changed`` are transaction ids, ``owner`` the session it lives with."""

    data: bytes
    born: int
    changed: int
    owner: int = NOBODY
    version: int = 0
    children_version: int = 0
    children_changed: int = 0
    next_sequence: int = 0
    at: float = field(default_factory=time.time)

    def stat(self, children: int) -> bytes:
        """As it goes over the wire."""
        ms = int(self.at * 1000)
        versions = (self.version, self.children_version, 0)
        sizes = (len(self.data), children)
        return _STAT.pack(self.born, self.changed, ms, ms, *versions, self.owner, *sizes, self.children_changed)


class Watch(NamedTuple):
    """Somebody wants to know of the next change, once."""

    connection: Connection
    path: str
    children: bool


@dataclass
class Session:
    """A client's session; without a connection it ends after ``timeout_s``."""

    id: int
    timeout_s: float
    connection: Connection | None = None
    ending: asyncio.TimerHandle | None = None


class ZooKeeper:
    """A server on a port of its own; all methods are called on its loop.

    Args:
        longest_session_s: Longer sessions are not granted, so that tests see them expire soon.
    """

    def __init__(self, *, root: str = "/mesos", longest_session_s: float = 40.0) -> None:
        self._root = root
        self._longest_s = longest_session_s
        self._zxid = 0
        self._last_session = 0x1000
        self._nodes = {"/": Node(b"", 0, 0)}
        self._watches: set[Watch] = set()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self.sessions: dict[int, Session] = {}
        self.silent = False
        """Whether connections are taken, but nothing is answered."""
        self.log: list[tuple[int, str]] = []
        """Operations that clients asked for, with their paths."""
        self.create(root, b"", NOBODY, 0)

    async def __aenter__(self) -> Self:
        await self.come_back()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_away()
        for session in self.sessions.values():
            self._stays(session)

    @property
    def hosts(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """As ``retz.mesos.master`` takes it."""
        return f"zk://{self.hosts}{self._root}"

    # -- what tests do ---------------------------------------------------------------------------------------

    def add_master(self, host: str, port: int, id: str = "") -> str:
        """A master takes part in the election; the oldest one leads. Returns its node's path."""
        (ip,) = struct.unpack("<I", socket.inet_aton(host))
        info = {
            "address": {"hostname": host, "ip": host, "port": port},
            "capabilities": [{"type": "AGENT_UPDATE"}, {"type": "AGENT_DRAINING"}, {"type": "QUOTA_V2"}],
            "hostname": host,
            "id": id or f"master-{port}",
            "ip": ip,
            "pid": f"master@{host}:{port}",
            "port": port,
            "version": "1.12.0",
        }
        return self.add(f"{self._root}/json.info_", json.dumps(info, separators=(",", ":")).encode())

    def add(self, path: str, data: bytes) -> str:
        """Another ephemeral node with a sequence number."""
        return self.create(path, data, MASTERS, EPHEMERAL | SEQUENCE)

    def add_log_replicas(self) -> None:
        """The node beside the masters' where they keep their replicated log."""
        self.create(f"{self._root}/log_replicas", b"", NOBODY, 0)

    def remove(self, path: str) -> None:
        """A master is dead, and its session is over."""
        self.delete(path, -1)

    def drop_connections(self) -> None:
        """Break them; the sessions last."""
        for connection in list(self._connections):
            connection.cut()

    def expire_sessions(self) -> None:
        """End all sessions of clients, as if none had been heard of for too long."""
        for session in list(self.sessions.values()):
            self.expire(session)

    async def go_away(self) -> None:
        """Stop to listen. Sessions do not expire meanwhile: there is nobody who could end them."""
        if self._server is not None:
            self._server.close()
            self.drop_connections()
            await self._server.wait_closed()
            self._server = None
        for session in self.sessions.values():
            self._stays(session)

    async def come_back(self) -> None:
        """Listen, on the port of before."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        for session in self.sessions.values():
            self._begins_to_end(session)

    # -- nodes -----------------------------------------------------------------------------------------------

    def create(self, path: str, data: bytes, owner: int, flags: int) -> str:
        """Make a node; returns its path, with a number if it is one of a sequence."""
        parent_path = _parent(path)
        parent = self.node(parent_path)
        if parent.owner != NOBODY:
            raise Refused(NO_CHILDREN_HERE)
        if flags & SEQUENCE:
            path = f"{path}{parent.next_sequence:010d}"
            parent.next_sequence += 1
        if path in self._nodes:
            raise Refused(NODE_EXISTS)
        self._zxid += 1
        self._nodes[path] = Node(data, self._zxid, self._zxid, owner if flags & EPHEMERAL else NOBODY)
        self._children_changed(parent)
        self._tell(path, NODE_CREATED, children=False)
        self._tell(parent_path, CHILDREN_CHANGED, children=True)
        return path

    def delete(self, path: str, version: int) -> None:
        """Remove a node without children."""
        node = self.node(path)
        if version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        if self.children(path):
            raise Refused(NOT_EMPTY)
        self._zxid += 1
        del self._nodes[path]
        self._children_changed(self.node(_parent(path)))
        self._tell(path, NODE_DELETED, children=False)
        self._tell(path, NODE_DELETED, children=True)
        self._tell(_parent(path), CHILDREN_CHANGED, children=True)

    def set_data(self, path: str, data: bytes, version: int) -> Node:
        """Replace what a node holds."""
        node = self.node(path)
        if version not in (-1, node.version):
            raise Refused(BAD_VERSION)
        self._zxid += 1
        node.data, node.version, node.changed = data, node.version + 1, self._zxid
        self._tell(path, NODE_CHANGED, children=False)
        return node

    def node(self, path: str) -> Node:
        """The node at a path."""
        try:
            return self._nodes[path]
        except KeyError:
            raise Refused(NO_NODE) from None

    def children(self, path: str) -> list[str]:
        """Names of a node's children, in no useful order."""
        prefix = path.rstrip("/") + "/"
        names = {known[len(prefix) :].partition("/")[0] for known in self._nodes if known.startswith(prefix)}
        return sorted(names - {""}, reverse=True)

    def _children_changed(self, parent: Node) -> None:
        parent.children_version += 1
        parent.children_changed = self._zxid

    def watch(self, watch: Watch) -> None:
        """Tell of the next change."""
        self._watches.add(watch)

    def _tell(self, path: str, kind: int, *, children: bool) -> None:
        for watch in [one for one in self._watches if one.path == path and one.children == children]:
            self._watches.discard(watch)
            watch.connection.reply(WATCH_XID, 0, _HEADER.pack(kind, SYNC_CONNECTED) + _buffer(path.encode()), zxid=-1)

    @property
    def zxid(self) -> int:
        """Number of the last transaction."""
        return self._zxid

    # -- sessions --------------------------------------------------------------------------------------------

    def enter(self, connection: Connection, session_id: int, timeout_s: float) -> Session | None:
        """Begin a session, or go on with one; None if it has expired."""
        if session_id:
            session = self.sessions.get(session_id)
            if session is None:
                return None
            self._stays(session)
        else:
            self._last_session += 1
            session = Session(self._last_session, min(timeout_s, self._longest_s))
            self.sessions[session.id] = session
        session.connection = connection
        return session

    def expire(self, session: Session) -> None:
        """End a session; what lives with it goes."""
        self._stays(session)
        self.sessions.pop(session.id, None)
        for path in [path for path, node in self._nodes.items() if node.owner == session.id]:
            self.delete(path, -1)
        if session.connection is not None:
            session.connection.cut()

    def _begins_to_end(self, session: Session) -> None:
        self._stays(session)
        if session.connection is None and self._server is not None:
            session.ending = asyncio.get_running_loop().call_later(session.timeout_s, self.expire, session)

    def _stays(self, session: Session) -> None:
        if session.ending is not None:
            session.ending.cancel()
            session.ending = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._connections.discard(connection)
            self._watches = {watch for watch in self._watches if watch.connection is not connection}
            connection.cut()
            session = connection.session
            if session is not None and session.connection is connection and session.id in self.sessions:
                session.connection = None
                self._begins_to_end(session)


class Connection:
    """A client's connection."""

    def __init__(self, zookeeper: ZooKeeper, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._zookeeper = zookeeper
        self._reader = reader
        self._writer = writer
        self.session: Session | None = None
        self._operations: dict[int, Callable[[Fields], bytes]] = {
            CREATE: self._create,
            DELETE: self._delete,
            EXISTS: self._exists,
            GET_DATA: self._get_data,
            SET_DATA: self._set_data,
            GET_CHILDREN: self._get_children,
            GET_CHILDREN2: self._get_children2,
            SYNC: lambda fields: _buffer(fields.text().encode()),
            PING: lambda _fields: b"",
            CLOSE: lambda _fields: b"",
        }

    async def serve(self) -> None:
        """Welcome the client, then answer until it goes."""
        if not self._welcome(Fields(await self._frame())):
            return
        while True:
            fields = Fields(await self._frame())
            xid, kind = fields.header()
            if not self._zookeeper.silent:
                self._answer(xid, kind, fields)
            if kind == CLOSE and self.session is not None:
                self._zookeeper.expire(self.session)
                return

    def _welcome(self, fields: Fields) -> bool:
        fields.i32()
        fields.i64()
        timeout_ms, session_id = fields.i32(), fields.i64()
        if self._zookeeper.silent:
            return True
        self.session = self._zookeeper.enter(self, session_id, timeout_ms / 1000)
        granted_ms = int(self.session.timeout_s * 1000) if self.session else 0
        body = _WELCOME.pack(0, granted_ms, self.session.id if self.session else 0) + _buffer(PASSWORD) + b"\0"
        self._send(body)
        return self.session is not None

    def _answer(self, xid: int, kind: int, fields: Fields) -> None:
        try:
            operation = self._operations.get(kind)
            if operation is None:
                raise Refused(UNIMPLEMENTED)
            self.reply(xid, 0, operation(fields))
        except Refused as refused:
            self.reply(xid, refused.code, b"")

    def reply(self, xid: int, error: int, body: bytes, zxid: int | None = None) -> None:
        """Send an answer, or an event of a watch."""
        self._send(_REPLY.pack(xid, self._zookeeper.zxid if zxid is None else zxid, error) + body)

    def _send(self, body: bytes) -> None:
        self._writer.write(_INT.pack(len(body)) + body)

    async def _frame(self) -> bytes:
        (length,) = _INT.unpack(await self._reader.readexactly(4))
        return await self._reader.readexactly(length)

    def cut(self) -> None:
        """Break the connection, once what was written is out."""
        self._writer.close()

    # -- operations ------------------------------------------------------------------------------------------

    def _path(self, fields: Fields, kind: int) -> str:
        path = fields.text()
        self._zookeeper.log.append((kind, path))
        return path

    def _create(self, fields: Fields) -> bytes:
        path, data = self._path(fields, CREATE), fields.buffer()
        for _ in range(fields.i32()):
            fields.i32()
            fields.buffer()
            fields.buffer()
        owner = self.session.id if self.session else NOBODY
        return _buffer(self._zookeeper.create(path, data, owner, fields.i32()).encode())

    def _delete(self, fields: Fields) -> bytes:
        self._zookeeper.delete(self._path(fields, DELETE), fields.i32())
        return b""

    def _exists(self, fields: Fields) -> bytes:
        path = self._path(fields, EXISTS)
        self._watched(path, fields, children=False)  # also of what is not there yet
        return self._stat(path)

    def _get_data(self, fields: Fields) -> bytes:
        path = self._path(fields, GET_DATA)
        node = self._zookeeper.node(path)
        self._watched(path, fields, children=False)
        return _buffer(node.data) + self._stat(path)

    def _set_data(self, fields: Fields) -> bytes:
        path, data = self._path(fields, SET_DATA), fields.buffer()
        self._zookeeper.set_data(path, data, fields.i32())
        return self._stat(path)

    def _get_children(self, fields: Fields) -> bytes:
        path = self._path(fields, GET_CHILDREN)
        self._zookeeper.node(path)
        self._watched(path, fields, children=True)
        names = self._zookeeper.children(path)
        return _INT.pack(len(names)) + b"".join(_buffer(name.encode()) for name in names)

    def _get_children2(self, fields: Fields) -> bytes:
        at = fields.at
        children = self._get_children(fields)
        fields.at = at
        return children + self._stat(fields.text())

    def _stat(self, path: str) -> bytes:
        return self._zookeeper.node(path).stat(len(self._zookeeper.children(path)))

    def _watched(self, path: str, fields: Fields, *, children: bool) -> None:
        if fields.flag():
            self._zookeeper.watch(Watch(self, path, children))


class Fields:
    """Reads the fields of a record one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def i32(self) -> int:
        """A number of 32 bits."""
        (value,) = _INT.unpack_from(self._data, self.at)
        self.at += _INT.size
        return int(value)

    def i64(self) -> int:
        """A number of 64 bits."""
        (value,) = _LONG.unpack_from(self._data, self.at)
        self.at += _LONG.size
        return int(value)

    def flag(self) -> bool:
        """A truth value."""
        self.at += 1
        return self._data[self.at - 1] != 0

    def buffer(self) -> bytes:
        """Some bytes; none if there are none."""
        length = max(0, self.i32())
        self.at += length
        return self._data[self.at - length : self.at]

    def text(self) -> str:
        """A string."""
        return self.buffer().decode()

    def header(self) -> tuple[int, int]:
        """Of a request: its id, and what is asked for."""
        return self.i32(), self.i32()


def _buffer(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
