"""GPUs by NVML: found, measured, and silently none without a driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from retz.engine.local import gpus, processes
from retz.engine.local.engine import _Held, _peak, _usage
from retz.model.agent import Gpu, GpuProcess


class NVMLError(Exception):
    pass


def unsupported(handle: int) -> None:
    raise NVMLError("not supported")


NVML = SimpleNamespace(
    NVMLError=NVMLError,
    NVML_TEMPERATURE_GPU=0,
    nvmlInit=lambda: None,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda index: index,
    nvmlDeviceGetUUID=lambda handle: f"GPU-{handle}",
    nvmlDeviceGetName=lambda handle: b"Model T",
    nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 << 30, used=(handle + 1) << 30),
    nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=40 + handle),
    nvmlDeviceGetPowerUsage=unsupported,
    nvmlDeviceGetTemperature=lambda handle, sensor: 55,
    nvmlDeviceGetComputeRunningProcesses=lambda handle: [],
    nvmlDeviceGetGraphicsRunningProcesses=unsupported,
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").touch()
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "version")
    monkeypatch.setitem(sys.modules, "pynvml", NVML)


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it would fail
    assert gpus.Telemetry().find() == ()


def test_a_driver_that_does_not_work_means_none(driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise NVMLError("driver mismatch")

    monkeypatch.setattr(NVML, "nvmlInit", broken)
    assert gpus.Telemetry().find() == ()


def test_found_and_measured(driver: None) -> None:
    telemetry = gpus.Telemetry()
    found = telemetry.find()
    assert found[1] == Gpu(uuid="GPU-1", index=1, model="Model T", mem_mb=80 << 10)
    [measured] = telemetry.sample(found[1:])
    assert (measured.util, measured.mem_used_mb, measured.temperature_c, measured.power_w) == (41.0, 2048, 55.0, None)


def test_declared_gpus_get_what_the_driver_knows_of_them(driver: None) -> None:
    telemetry = gpus.Telemetry()
    one, other = telemetry.known((Gpu("GPU-1", index=0), Gpu("mine", index=1)))
    assert (one.index, one.model, one.note) == (0, "Model T", "")
    assert (other.model, other.note) == ("", "declared, the driver does not know it")
    assert telemetry.sample((one,))[0].util == 41.0


def test_declared_gpus_without_a_driver_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "none")
    assert gpus.Telemetry().known((Gpu("mine"),)) == (Gpu("mine", note="declared, no driver"),)


def test_idle_since_the_first_look_that_found_nothing_to_do(driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = gpus.Telemetry()
    monkeypatch.setattr(NVML, "nvmlDeviceGetUtilizationRates", lambda handle: SimpleNamespace(gpu=0))
    once = telemetry.sample(telemetry.find())
    again = telemetry.sample(once)
    assert once[0].idle_since is not None and again[0].idle_since == once[0].idle_since
    monkeypatch.setattr(NVML, "nvmlDeviceGetUtilizationRates", lambda handle: SimpleNamespace(gpu=1))
    assert telemetry.sample(again)[0].idle_since is None


def test_processes_that_no_task_of_ours_started(driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    me, gone = os.getpid(), 2**30
    used = [SimpleNamespace(pid=me, usedGpuMemory=3 << 20), SimpleNamespace(pid=gone, usedGpuMemory=None)]
    monkeypatch.setattr(NVML, "nvmlDeviceGetComputeRunningProcesses", lambda handle: used)
    telemetry = gpus.Telemetry()
    found = telemetry.find()[:1]
    with subprocess.Popen(["sleep", "60"]) as stranger_above:
        (gpu,) = telemetry.sample(found, launcher=stranger_above.pid)
        stranger_above.kill()
    assert gpu.strangers == (GpuProcess(me, processes.name_of(me), 3),)
    assert telemetry.sample(found, launcher=os.getppid())[0].strangers == ()
    assert telemetry.sample(found)[0].strangers == ()


def test_declared_gpus_are_left_as_they_are(driver: None) -> None:
    declared = (Gpu(uuid="mine"),)
    assert gpus.Telemetry().sample(declared) == declared


def test_peaks_of_gpus_join_the_usage_of_their_task() -> None:
    held = _Held(("GPU-0",))
    assert _usage([1.0, 2.0, 0, []], held).gpu_util is None
    for util in (10.0, None, 60.0, 20.0):
        held.gpu_util = _peak(held.gpu_util, [util])
    held.gpu_mem_mb = _peak(None, [None, 512])
    usage = _usage([1.0, 2.0, 5.0, [[100, 7]]], held)
    assert (usage.gpu_util, usage.gpu_mem_mb, usage.series) == (60.0, 512, ((100, 7),))
