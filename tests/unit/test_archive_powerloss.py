"""Power lost at every step of append, seal and expire: what was acknowledged is there, whole, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from retz.model.job import Job
from retz.model.resources import Resources
from retz.store.archive import Archive
from tests.doubles.powerloss import RecordingFiles, Survival, after_power_loss, marks


def ended_job(number: int) -> Job:
    return Job(
        id=number,
        owner="ann",
        command="true",
        resources=Resources(),
        submitted=0.0,
        state="FINISHED",
        ended=float(number),
    )


def work(root: Path) -> RecordingFiles:
    """Two appends to a segment, five segments, the first two expired half-way, reopened in between."""
    files = RecordingFiles(root)
    for part in (range(1, 5), range(5, 10)):
        archive = Archive.open(root / "archive", files=files, segment_records=2)
        for number in part:
            archive.append([ended_job(number)])
            files.mark(("kept", number))
        if part.start == 1:
            files.mark(("expiring", 4))
            archive.expire(4.5)
            files.mark(("expired", 4))
        archive.close()
    return files


@pytest.mark.parametrize("survival", ["synced", "data", "names", "all"])
@pytest.mark.parametrize("torn", [None, 7])
def test_acknowledged_jobs_survive_a_power_loss_at_every_step(
    tmp_path: Path, survival: Survival, torn: int | None
) -> None:
    log = work(tmp_path / "real").log
    assert len(log) > 80
    for step in range(len(log) + 1):
        lost = tmp_path / f"after-{step}"
        in_write = step > 0 and log[step - 1][0] == "write"
        after_power_loss(log[:step], lost, survival, torn if in_write else None)
        told = marks(log[:step])
        kept = {number for what, number in told if what == "kept"}
        going = {1, 2, 3, 4} if ("expiring", 4) in told else set()
        archive = Archive.open(lost / "archive", segment_records=2)
        here = {number for number in range(1, 10) if archive.get(number) == ended_job(number)}
        assert kept - going <= here, step
        assert len(archive) == len(here), step
        assert archive.damaged == 0, step
        if ("expired", 4) in told:
            assert archive.max_id >= max(kept), step
            assert not here & going, step
        archive.append([ended_job(number) for number in range(1, 10)])
        assert [archive.get(number) for number in range(1, 10)] == [ended_job(number) for number in range(1, 10)]
        archive.close()
