"""A DCGM exporter: the text that a machine with NVIDIA GPUs tells of them, with values that tests set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from .answers import Answer, HttpServer, not_found

FIELDS = {
    "DCGM_FI_DEV_SM_CLOCK": "SM clock frequency (in MHz).",
    "DCGM_FI_DEV_GPU_TEMP": "GPU temperature (in C).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_FB_FREE": "Framebuffer memory free (in MiB).",
    "DCGM_FI_DEV_FB_USED": "Framebuffer memory used (in MiB).",
}

KIND = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Gpu:
    """A GPU and what is told of it: MiB, %, degrees, W, MHz."""

    index: int
    model: str = "NVIDIA H200"
    memory: int = 143_771
    used: int = 0
    util: int = 0
    temperature: int = 31
    power: float = 76.5
    clock: int = 345

    def values(self) -> dict[str, float]:
        """By the name of the field."""
        return {
            "DCGM_FI_DEV_SM_CLOCK": self.clock,
            "DCGM_FI_DEV_GPU_TEMP": self.temperature,
            "DCGM_FI_DEV_POWER_USAGE": self.power,
            "DCGM_FI_DEV_GPU_UTIL": self.util,
            "DCGM_FI_DEV_FB_FREE": self.memory - self.used,
            "DCGM_FI_DEV_FB_USED": self.used,
        }

    def work(self, busy: bool) -> None:
        """Look like a GPU that computes, or one that does not."""
        self.used, self.util = (self.memory * 3 // 4, 87) if busy else (0, 0)
        self.temperature, self.power, self.clock = (64, 611.0, 1980) if busy else (31, 76.5, 345)


class Exporter(HttpServer):
    """Answers GET /metrics.

    Args:
        hostname: As it is told.
        count: How many GPUs.
        busy: How many of them compute, asked at each request: the first ones. None: only tests change values.
    """

    def __init__(self, hostname: str, count: int, busy: Callable[[], int] | None = None) -> None:
        super().__init__(self._handle)
        self.hostname = hostname
        self.gpus = [Gpu(index) for index in range(count)]
        self._busy = busy

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return Answer(200, self.text().encode(), KIND) if request.path == "/metrics" else not_found()

    async def close(self) -> None:
        """Stop listening, drop all connections."""
        self.vanish()
        await self.shutdown(0.0)

    def text(self) -> str:
        """What it tells now."""
        if self._busy is not None:
            busy = self._busy()
            for gpu in self.gpus:
                gpu.work(gpu.index < busy)
        lines: list[str] = []
        for field, meaning in FIELDS.items():
            lines += [f"# HELP {field} {meaning}", f"# TYPE {field} gauge"]
            lines += [f"{field}{{{self._labels(gpu)}}} {gpu.values()[field]}" for gpu in self.gpus]
        return "\n".join(lines) + "\n"

    def _labels(self, gpu: Gpu) -> str:
        labels = {
            "gpu": str(gpu.index),
            "UUID": f"GPU-00000000-0000-0000-0000-{gpu.index:012d}",
            "pci_bus_id": f"00000000:{gpu.index:02X}:00.0",
            "device": f"nvidia{gpu.index}",
            "modelName": gpu.model,
            "Hostname": self.hostname,
            "DCGM_FI_DRIVER_VERSION": "550.54.15",
        }
        return ",".join(f'{name}="{value}"' for name, value in labels.items())
