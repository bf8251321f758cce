"""A Mesos cluster to try Retz with: ``python -m tests.doubles.mesos --agents 3 --gpus 2``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import click

from .agent import Agent
from .cluster import AgentSpec, Cluster
from .exporter import Exporter
from .legacy import amounts

EXPORTER_PORT = 9400
MOST_ADDRESSES = 250
"""So many agents have a loopback address each; more share one."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--agents", default=3, show_default=True, help="How many agents.")
@click.option("--cpus", default=8.0, show_default=True, help="CPUs of each.")
@click.option("--mem", default=16384.0, show_default=True, help="Memory of each, in MB.")
@click.option("--gpus", default=0, show_default=True, help="GPUs of each.")
@click.option("--port", default=5050, show_default=True, help="Where the master listens; 0: any free port.")
@click.option("--masters", default=1, show_default=True, help="How many masters; the first one leads.")
@click.option("--pretend", is_flag=True, help="Run nothing: 'sleep 5' and 'exit 3' are understood, all else succeeds.")
@click.option("--images", is_flag=True, help="Take containers with an image, and run their commands without it.")
@click.option("--exporter-port", default=EXPORTER_PORT, show_default=True, help="Where the DCGM exporters listen.")
def main(
    agents: int,
    cpus: float,
    mem: float,
    gpus: int,
    port: int,
    masters: int,
    pretend: bool,
    images: bool,
    exporter_port: int,
) -> None:
    """A double of a Mesos cluster on this machine, until Ctrl-C."""
    specs = [AgentSpec(cpus, mem, gpus=gpus, images=images, attributes={"rack": f"r{n % 3}"}) for n in range(agents)]
    if agents <= MOST_ADDRESSES and sys.platform == "linux":
        for number, spec in enumerate(specs, 1):
            spec.ip = spec.hostname = f"127.0.0.{number}"
    with tempfile.TemporaryDirectory(prefix="mesos-double-") as work_dir:
        cluster = Cluster(specs, masters=masters, port=port, work_dir=None if pretend else Path(work_dir))
        try:
            asyncio.run(serve(cluster, exporter_port if gpus else None))
        except OSError as error:
            sys.exit(f"Cannot listen: {error}. Choose other ports with --port and --exporter-port.")


async def serve(cluster: Cluster, exporter_port: int | None) -> None:
    """Run it until SIGINT or SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.stop)
        await cluster.start()
        if exporter_port is not None:
            await stack.enter_async_context(exporters(cluster.agents, exporter_port))
        print(introduction(cluster, exporter_port), flush=True)
        await ended.wait()


@asynccontextmanager
async def exporters(agents: list[Agent], port: int) -> AsyncIterator[None]:
    """One exporter per address, whose GPUs compute as jobs hold them."""
    async with AsyncExitStack() as stack:
        for agent in {each.ip: each for each in agents}.values():
            exporter = Exporter(agent.hostname, int(amounts(agent.resources)["gpus"]), held_by(agent))
            await exporter.listen(agent.ip, port)
            stack.push_async_callback(exporter.close)
        yield


def introduction(cluster: Cluster, exporter_port: int | None) -> str:
    """What to do with it."""
    told = "" if os.geteuid() else "RETZ_MESOS_USER=root "
    lines = [f"Mesos master on http://{cluster.address}/, {len(cluster.agents)} agents. Ctrl-C ends them."]
    if len(cluster.addresses) > 1:
        lines.append(f"Masters that do not lead: {', '.join(cluster.addresses[1:])}.")
    lines += [
        "",
        "In another terminal:",
        f"  {told}retz-server --engine mesos --mesos-master {cluster.address}",
        "and in a third one:",
        "  retz run -- sh -c 'echo hello from $MESOS_SLAVE_ID'",
    ]
    if exporter_port is not None:
        lines += [
            "",
            "To see GPUs at work, put this into the server's configuration (-C FILE):",
            "  [retz.gpu]",
            f'  exporter = "http://{{host}}:{exporter_port}/metrics"',
        ]
    return "\n".join(lines)


def held_by(agent: Agent) -> Callable[[], int]:
    """How many GPUs of an agent its tasks hold."""
    return lambda: int(amounts(each for run in agent.live() for each in run.info["resources"])["gpus"])


if __name__ == "__main__":
    main()
