"""A client of the Retz protocol as strict as the Java one, written from the protocol's description alone.

It signs by itself, refuses any field that it does not know and any value of another type, and knows nothing of this
project's own code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, unquote

PATIENCE_S = 30.0
STATES = ("CREATED", "QUEUED", "STARTING", "STARTED", "FINISHED", "KILLED")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)")
INT = range(-(2**31), 2**31)
LONG = range(-(2**63), 2**63)


class Refused(Exception):
    """The server did not do it: its code and its sentence, as a user of the Java client would see it."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(f"{code} {sentence}")
        self.code = code
        self.sentence = sentence


class Reply(NamedTuple):
    """An answer as it came."""

    code: int
    headers: dict[str, str]
    body: bytes


Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(within: range) -> Check:
    return lambda value: type(value) is int and value in within


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(check(each) for each in value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(each) for each in value.values())


def _time(value: Any) -> bool:
    return _text(value) and TIME.fullmatch(value) is not None and datetime.fromisoformat(value).tzinfo is not None


def _object(**fields: Check) -> Check:
    def check(value: Any) -> bool:
        assert isinstance(value, dict), value
        assert set(value) == set(fields), f"fields {sorted(set(value) ^ set(fields))}"
        for name, test in fields.items():
            assert test(value[name]), (name, value[name])
        return True

    return check


_int = _whole(INT)
QUANTITY = _object(cpu=_int, memMB=_int, gpu=_int, ports=_int, diskMB=_int, nodes=_int)
JOB = _object(
    cmd=_text,
    scheduled=_maybe(_time),
    started=_maybe(_time),
    finished=_maybe(_time),
    result=_int,
    id=_int,
    url=_maybe(_text),
    reason=_maybe(_text),
    retry=_int,
    priority=lambda value: value in range(-20, 20),
    appid=_text,
    name=_maybe(_text),
    tags=_list(_text),
    resources=QUANTITY,
    attributes=_maybe(_text),
    taskId=_maybe(_text),
    slaveId=_maybe(_text),
    state=lambda value: value in STATES,
    props=_maybe(_texts),
)
VOLUME = _object(
    driver=_text, containerPath=_text, name=_text, mode=lambda value: value in ("RO", "RW"), options=_texts
)


def _container(value: Any) -> bool:
    if value["type"] == "mesos":
        return set(value) == {"type"}
    return _object(type=lambda kind: kind == "docker", image=_text, volumes=_list(VOLUME))(value)


APPLICATION = _object(
    appid=_text,
    largeFiles=_list(_text),
    files=_list(_text),
    user=_maybe(_text),
    owner=_text,
    gracePeriod=lambda value: value in range(1025),
    container=_container,
    enabled=lambda value: isinstance(value, bool),
)
ENTRY = _object(gid=_text, mode=_text, mtime=_whole(LONG), nlink=_int, path=_text, size=_whole(LONG), uid=_text)
FILE = _object(data=_text, offset=_whole(LONG))
ANSWERS: dict[str, dict[str, Check]] = {
    "error": {},
    "list": {"jobs": _list(JOB), "more": lambda value: isinstance(value, bool)},
    "schedule": {"job": JOB},
    "get-job": {"job": _maybe(JOB)},
    "kill": {},
    "get-file": {"job": _maybe(JOB), "file": _maybe(FILE)},
    "list-files": {"job": _maybe(JOB), "entries": _list(ENTRY)},
    "list-app": {"applicationList": _list(APPLICATION)},
    "load-app": {},
    "get-app": {"application": APPLICATION},
    "unload-app": {},
    "status": {
        "queueLength": _int,
        "runningLength": _int,
        "totalUsed": QUANTITY,
        "numSlaves": _int,
        "offers": _int,
        "totalOffered": QUANTITY,
        "master": _maybe(_text),
        "stanchionQueueLength": _int,
        "serverVersion": _text,
    },
}


def decode(body: bytes) -> dict[str, Any]:
    """An answer's body, as a strict reader takes it.

    Raises:
        AssertionError: it holds a field too many or too few, or a value of another type.
    """
    message: dict[str, Any] = json.loads(body.decode("utf-8"))
    fields = ANSWERS[message["command"]]
    _object(command=_text, status=_text, version=lambda value: value == "0.2.1", **fields)(message)
    return message


def padless(data: bytes) -> str:
    """Base64 without padding."""
    return base64.b64encode(data).decode().rstrip("=")


def signature(secret: str, method: str, md5: str, date: str, resource: str) -> str:
    """What Retz's code makes."""
    text = method + "\n" + md5 + "\n" + date + "\n" + resource + "\n"
    return padless(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def documented_signature(secret: str, method: str, md5: str, date: str, resource: str) -> str:
    """What Retz's documents describe: SHA-1, padded, no newline at the end."""
    text = "\n".join((method, md5, date, resource))
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()


def now() -> str:
    """The Date header."""
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def job(command: str, appid: str | None = "t", cpu: int = 1, mem: int = 32, disk: int = 32, **fields: Any) -> Any:
    """A job as the Java client writes it before it is scheduled."""
    quantity = {
        "cpu": cpu, "memMB": mem, "gpu": fields.pop("gpu", 0), "ports": fields.pop("ports", 0),
        "diskMB": disk, "nodes": 1,
    }  # fmt: skip
    return {
        "cmd": command, "scheduled": None, "started": None, "finished": None, "result": -1, "id": 0, "url": None,
        "reason": None, "retry": 0, "priority": 0, "appid": appid, "name": "-403044032", "tags": [],
        "resources": quantity, "attributes": None, "taskId": None, "slaveId": None, "state": "CREATED", "props": {},
    } | fields  # fmt: skip


class OldClient:
    """One user's client. Attributes ``key``, ``secret``; ``sign`` may be replaced by another way to sign."""

    def __init__(self, host: str, port: int, key: str, secret: str) -> None:
        self.host, self.port, self.key, self.secret = host, port, key, secret
        self.sign: Callable[[str, str, str, str, str], str] = signature

    def ask(self, method: str, target: str, document: Any = None, *, body: bytes = b"", headers: Any = None) -> Reply:
        """Send a signed request; ``headers`` replace or, where None, leave out."""
        body = body if document is None else json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        path, mark, query = target.partition("?")
        sent = {"Content-Type": "application/json", "Accept": "application/json", "Date": now()}
        if body:
            sent["Content-MD5"] = padless(hashlib.md5(body).digest())
        sent |= headers or {}
        if "Authorization" not in sent:
            resource = unquote(path) + mark + query
            made = self.sign(self.secret, method, sent.get("Content-MD5") or "", sent["Date"], resource)
            sent["Authorization"] = f"Retz-auth-v1 {self.key}:{made}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_S)
        try:
            given = {name: value for name, value in sent.items() if value is not None}
            connection.request(method, target, body=body or None, headers=given)
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def call(self, method: str, target: str, document: Any = None, **options: Any) -> dict[str, Any]:
        """The answer, read strictly.

        Raises:
            Refused: as the Java client would tell it.
        """
        reply = self.ask(method, target, document, **options)
        # Without such a number the Java client throws, whatever the answer says.
        assert re.search(r"\d+\.\d+\.\d+", reply.headers["server"])
        assert "retry-after" not in reply.headers
        if reply.code in (200, 201):
            message = decode(reply.body)
            assert message["status"] == "ok"
            return message
        if reply.headers["content-type"].startswith("text/plain"):
            raise Refused(reply.code, reply.body.decode())
        message = decode(reply.body)
        assert message["command"] == "error"
        raise Refused(reply.code, message["status"])

    def schedule(self, described: Any) -> dict[str, Any]:
        """Submit a job."""
        asked = {"command": "schedule", "job": described, "version": "0.2.1"}
        answer: dict[str, Any] = self.call("POST", "/job", asked)["job"]
        return answer

    def list(self, state: str, tag: str | None = None) -> dict[str, Any]:
        """Jobs in a state."""
        return self.call("POST", "/jobs", {"command": "list", "state": state, "tag": tag, "version": "0.2.1"})

    def get_job(self, job_id: int) -> dict[str, Any] | None:
        """One job."""
        found: dict[str, Any] | None = self.call("GET", f"/job/{job_id}")["job"]
        return found

    def kill(self, job_id: int) -> dict[str, Any]:
        """Kill a job."""
        return self.call("DELETE", f"/job/{job_id}")

    def get_file(self, job_id: int, path: str, offset: int = 0, length: int = -1) -> dict[str, Any]:
        """Part of a file."""
        return self.call("GET", f"/job/{job_id}/file?path={quote_plus(path)}&offset={offset}&length={length}")

    def download(self, job_id: int, path: str) -> Reply:
        """A file, as the Java client asks for it: with an empty digest and without a type."""
        headers = {"Accept": "application/octet-stream", "Content-md5": "", "Content-Type": None}
        return self.ask("GET", f"/job/{job_id}/download?path={quote_plus(path)}", headers=headers)

    def list_files(self, job_id: int, path: str = "$MESOS_SANDBOX") -> dict[str, Any]:
        """A directory."""
        return self.call("GET", f"/job/{job_id}/dir?path={quote_plus(path)}")

    def load_app(self, name: str, **fields: Any) -> dict[str, Any]:
        """Register an application."""
        application = {
            "appid": name, "largeFiles": [], "files": [], "user": None, "owner": self.key, "gracePeriod": 0,
            "container": {"type": "mesos"}, "enabled": True,
        } | fields  # fmt: skip
        asked = {"command": "load-app", "application": application, "version": "0.2.1"}
        return self.call("PUT", f"/app/{quote(name)}", asked)

    def get_app(self, name: str) -> dict[str, Any]:
        """One application."""
        found: dict[str, Any] = self.call("GET", f"/app/{quote(name)}")["application"]
        return found

    def apps(self) -> Any:
        """All applications."""
        return self.call("GET", "/apps")["applicationList"]

    def unload_app(self, name: str) -> dict[str, Any]:
        """Forget an application."""
        return self.call("DELETE", f"/app/{quote(name)}")

    def whole_file(self, job_id: int, path: str) -> str:
        """A text file, read 65 536 bytes at a time; the offset moves on by what was received, in UTF-8.

        Raises:
            FileNotFoundError: it is neither readable nor in the listing of its directory.
        """
        text, offset = "", 0
        while (part := self.get_file(job_id, path, offset, 65536)["file"]) is not None and part["data"]:
            text += part["data"]
            offset += len(part["data"].encode())
        parent = path.rpartition("/")[0] or "$MESOS_SANDBOX"
        name = path.rpartition("/")[2]
        if not any(entry["path"].endswith(name) for entry in self.list_files(job_id, parent)["entries"]):
            raise FileNotFoundError(path)
        return text

    def run(self, described: Any) -> dict[str, Any]:
        """Submit a job and wait for its end."""
        job_id = self.schedule(described)["id"]
        return self.wait(job_id)

    def wait(self, job_id: int, states: tuple[str, ...] = ("FINISHED", "KILLED")) -> dict[str, Any]:
        """Look at a job until it is in one of these states; old clients have no other way."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = self.get_job(job_id)
            assert found is not None
            if found["state"] in states:
                return found
            time.sleep(0.05)
        raise TimeoutError(f"job {job_id} is still {found}")
