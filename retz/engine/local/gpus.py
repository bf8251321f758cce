"""GPUs of this machine: found by NVML, or declared. Without a driver there are silently none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retz.model.agent import Gpu, GpuProcess

from . import processes

_DRIVER = Path("/proc/driver/nvidia/version")
_NO_DRIVER = "declared, no driver"
_UNKNOWN = "declared, the driver does not know it"


class Telemetry:
    """NVML, loaded at the first use and only where there is a driver. Calls may take milliseconds each."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: dict[str, Any] = {}

    def find(self) -> tuple[Gpu, ...]:
        """Return the GPUs NVML sees, without telemetry; none without driver or library."""
        nvml = self._load()
        if nvml is None:
            return ()
        try:
            return tuple(self._describe(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        except nvml.NVMLError:
            return ()

    def known(self, declared: Sequence[Gpu]) -> tuple[Gpu, ...]:
        """Return the declared GPUs with what NVML knows of them, or with why it knows nothing."""
        found = {gpu.uuid: gpu for gpu in self.find()}
        note = _NO_DRIVER if self._nvml is None else _UNKNOWN
        return tuple(
            replace(found[gpu.uuid], index=gpu.index) if gpu.uuid in found else replace(gpu, note=note)
            for gpu in declared
        )

    def sample(self, gpus: Sequence[Gpu], launcher: int = 0) -> tuple[Gpu, ...]:
        """Return the same GPUs with what they do now; those that NVML does not know as they are.

        Args:
            launcher: The process below which our tasks run; 0 if it is not known.
        """
        return tuple(self._measure(gpu, launcher) for gpu in gpus)

    def _load(self) -> Any:
        if self._nvml is None and _DRIVER.exists():
            import pynvml  # here, because only machines with GPUs should pay for it

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError:
                return None
            self._nvml = pynvml
        return self._nvml

    def _describe(self, nvml: Any, index: int) -> Gpu:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        self._handles[uuid] = handle
        memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        return Gpu(
            uuid=uuid,
            index=index,
            model=_text(nvml.nvmlDeviceGetName(handle)),
            mem_mb=None if memory is None else memory.total >> 20,
        )

    def _measure(self, gpu: Gpu, launcher: int) -> Gpu:
        nvml, handle = self._nvml, self._handles.get(gpu.uuid)
        if nvml is None or handle is None:
            return gpu
        memory = _ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
        rates = _ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
        power = _ask(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
        temperature = _ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        idle = rates is not None and rates.gpu == 0
        return replace(
            gpu,
            mem_used_mb=None if memory is None else memory.used >> 20,
            util=None if rates is None else float(rates.gpu),
            idle_since=(gpu.idle_since or time.time()) if idle else None,
            strangers=self._strangers(handle, launcher) if launcher else (),
            power_w=None if power is None else power / 1000,
            temperature_c=None if temperature is None else float(temperature),
        )

    def _strangers(self, handle: Any, launcher: int) -> tuple[GpuProcess, ...]:
        """The processes on a GPU that are not below our launcher, as far as the driver and /proc tell."""
        nvml, found = self._nvml, {}
        for question in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            for process in _ask(nvml, question, handle) or ():
                # Of one that /proc does not show (we are in a container) nobody can tell whose it is.
                if processes.read_stat(process.pid) and not processes.is_below(process.pid, launcher):
                    used = process.usedGpuMemory
                    found[process.pid] = GpuProcess(
                        process.pid, processes.name_of(process.pid), None if used is None else used >> 20
                    )
        return tuple(found[pid] for pid in sorted(found))


def _ask(nvml: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call NVML; None for what this GPU does not support."""
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
