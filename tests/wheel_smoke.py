"""Use an installed wheel as a stranger would: ``python -m tests.wheel_smoke BIN``; exit code 0 if it works."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path


def main(binaries: Path) -> None:
    """Start the installed server, run one job with the installed client, look at it; the estimator; then Mesos."""
    with tempfile.TemporaryDirectory(prefix="retz-wheel-", ignore_cleanup_errors=True) as home:
        environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": home, "LANG": "C.UTF-8"}
        if os.geteuid() == 0:  # a server of root's must be told
            environment |= {"RETZ_LOCAL_USER": "root", "RETZ_MESOS_USER": "root"}
        version = subprocess.run(
            [binaries / "retz", "--version"], env=environment, capture_output=True, text=True, check=True
        )
        server = subprocess.Popen(
            [binaries / "retz-server", "--bind", "http://127.0.0.1:0"],
            env=environment,
            cwd=home,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        try:
            ready, _, _ = select.select([server.stdout], [], [], 60)
            assert ready, "the server says nothing"
            line = server.stdout.readline()
            assert line.startswith("listening on "), line
            run = subprocess.run(
                [binaries / "retz", "run", "--", "echo", "hello"],
                env=environment | {"RETZ_SERVER_URI": line.split()[-1]},
                cwd=home,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (run.returncode, run.stdout) == (0, "hello\n"), run
            window = subprocess.run(
                [binaries / "retz-tui", "--server", line.split()[-1], "--once", "queue"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert window.returncode == 0 and "retz ▸ queue" in window.stdout and "live" in window.stdout, window
            estimate(binaries, Path(home), environment)
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
            server.stdout.close()
        mesos(binaries, home, environment)
    print(f"the installed {version.stdout.strip()} runs jobs")


def mesos(binaries: Path, home: str, environment: dict[str, str]) -> None:
    """The Mesos engine names the command that installs what it needs; the command does; the driver then starts."""
    server: list[str | Path] = [binaries / "retz-server", "--data-dir", f"{home}/mesos", "--bind", "http://127.0.0.1:0"]
    without = subprocess.run(
        [*server, "--engine", "mesos", "--mesos-master", "127.0.0.1:5050"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert without.returncode == 1 and "retz-server setup-mesos" in without.stderr, without
    for said in ("Done.", "are installed in"):
        setup = subprocess.run(
            [binaries / "retz-server", "setup-mesos"],
            env=environment | network(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert setup.returncode == 0 and said in setup.stdout, setup
    # It ends at once, as its input does; not before it has imported pymesos.
    driver = subprocess.run(
        [binaries / "python", "-m", "retz.engine.mesos.driver"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (driver.returncode, driver.stderr) == (0, ""), driver


def network() -> dict[str, str]:
    """How pip reaches its index from here."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_CERT")) or name.lower().endswith("_proxy")
    }


def estimate(binaries: Path, home: Path, environment: dict[str, str]) -> None:
    """From a log to a picture with the installed estimator."""
    program: list[str | Path] = [binaries / "retz-estimator", "--store", home / "skylines"]
    log, picture = home / "tpch.log", home / "skyline.png"
    log.write_bytes(subprocess.run([*program, "sample"], env=environment, check=True, stdout=subprocess.PIPE).stdout)
    steps: list[list[str | Path]] = [["parse", log], ["plot", "tpch_q12", "-o", picture]]
    for arguments in steps:
        subprocess.run([*program, *arguments], env=environment, check=True, capture_output=True, timeout=60)
    assert picture.read_bytes().startswith(b"\x89PNG"), "no picture"


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
