"""What agents and GPU exporters measure, read from their answers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import aiohttp
import msgspec
from msgspec import Struct

from .master_http import refusal
from .wire import Sample, SeenGpu

MAX_CONTAINERS = 64 << 20
MAX_METRICS = 1 << 20
MAX_GPUS = 64


class _Statistics(Struct, frozen=True, gc=False):
    cpus_system_time_secs: float | None = None
    cpus_user_time_secs: float | None = None
    mem_rss_bytes: float | None = None
    timestamp: float = 0.0


class _Container(Struct, frozen=True, gc=False):
    executor_id: str = ""
    framework_id: str = ""
    statistics: _Statistics | None = None


_decode = msgspec.json.Decoder(list[_Container]).decode


def samples(body: bytes, framework: str, now: float) -> list[Sample]:
    """The measurements of our tasks in an agent's answer to ``/containers``.

    A container is measured whole, Mesos's executor in it included (0.05 processor seconds, some 30 MiB). Those that
    are not measured yet are left out.

    Args:
        now: Seconds since the epoch, where the agent does not say when it measured.

    Raises:
        msgspec.MsgspecError: it is no such answer.
    """
    found = []
    for container in _decode(body):
        measured = container.statistics
        if container.framework_id != framework or measured is None or not container.executor_id:
            continue
        user, system, rss = measured.cpus_user_time_secs, measured.cpus_system_time_secs, measured.mem_rss_bytes
        if user is None and rss is None:
            continue
        cpu_s = (user or 0.0) + (system or 0.0)
        found.append(Sample(container.executor_id, measured.timestamp or now, cpu_s, (rss or 0.0) / (1 << 20)))
    return found


# One line: DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-...",modelName="NVIDIA H200",...} 45
_METRIC = re.compile(
    r"DCGM_FI_DEV_(GPU_UTIL|FB_USED|FB_FREE|FB_RESERVED|GPU_TEMP|POWER_USAGE)\{([^}]*)\}[ \t]+(\S+)", re.ASCII
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"', re.ASCII)


def gpus(body: bytes) -> list[SeenGpu]:
    """The GPUs in the text of a DCGM exporter, by index. What is not understood is skipped."""
    values: dict[int, dict[str, float]] = {}
    names: dict[int, tuple[str, str]] = {}
    for line in body[:MAX_METRICS].decode("utf-8", "replace").splitlines():
        match = _METRIC.match(line)
        if match is None:
            continue
        labels = dict(_LABEL.findall(match[2]))
        index, value = labels.get("gpu", ""), _number(match[3])
        if value is None or not index.isascii() or not index.isdigit() or len(index) > 4 or labels.get("GPU_I_ID"):
            continue  # GPU_I_ID: a slice of a GPU, not a whole one
        values.setdefault(int(index), {})[match[1]] = value
        names[int(index)] = (labels.get("UUID", "")[:100], labels.get("modelName", "")[:100])
    return [_gpu(index, *names[index], values[index]) for index in sorted(values)[:MAX_GPUS]]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e15 else None


def _gpu(index: int, uuid: str, model: str, values: dict[str, float]) -> SeenGpu:
    used, free = values.get("FB_USED"), values.get("FB_FREE")
    total = None if used is None or free is None else used + free + values.get("FB_RESERVED", 0.0)
    return SeenGpu(
        index,
        uuid,
        model,
        None if total is None else round(total),
        None if used is None else round(used),
        values.get("GPU_UTIL"),
        values.get("GPU_TEMP"),
        values.get("POWER_USAGE"),
    )


async def fetch(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], limit: int, who: str) -> bytes:
    """The body at ``url``.

    Raises:
        Refused: any status but 200.
        ValueError: the body is longer than ``limit``.
        aiohttp.ClientError, OSError: nobody answers.
    """
    async with session.get(url, headers=headers, allow_redirects=False) as response:
        if response.status != 200:
            raise await refusal(who, response)
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > limit:
                raise ValueError(f"{who} answers more than {limit >> 20} MiB")
            parts.append(part)
        return b"".join(parts)


def chunks(found: list[Sample], size: int) -> Iterable[list[Sample]]:
    """Lists of at most ``size``."""
    return (found[start : start + size] for start in range(0, len(found), size))
