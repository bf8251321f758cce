"""What ``retz predict`` says about sizes."""

from __future__ import annotations

from typing import Any

from retz.cli.predict import coarse, trust
from retz.cli.sizing import MOST_STEPS, size_lines, sized_text, submitted_text


def step(**more: Any) -> dict[str, Any]:
    return {
        "step": "train", "asked": {"mem": 4096, "cpus": 4}, "given": {"mem": 1434, "cpus": 1}, "measured": 12,
        "needed": 2, "expected_mb": 1297.3, "spread": 0.041, "growth": 0.0, "stage": 12, "outliers": 0,
        "busy_cpus": 0.93, "duration_s": 312.0, "past": [], **more,
    }  # fmt: skip


def past(peak: float | None, limit: float | None) -> dict[str, Any]:
    return {"peak_mb": peak, "limit_mb": limit}


def lines(*steps: dict[str, Any]) -> str:
    return "\n".join(size_lines("etl", {"pipeline": "etl", "steps": list(steps)}))


def test_asked_given_saved_and_why() -> None:
    text = lines(step())
    assert (
        "train: asks for 4G, 4 cpus; --predicted gives 1.4G, 1 cpu: 2.6G free for others for 5m12s of each run" in text
    )
    assert "why: by 12 runs the next should peak at about 1.3G; runs stray by 4%; at most 0.93 cpus were busy" in text
    assert "nobody knows yet" in text
    assert "retz run --pipeline etl --predicted" in text


def test_every_reason_is_told() -> None:
    text = lines(step(growth=0.012, stage=3, outliers=2, busy_cpus=None))
    assert "they grow by 1.2% each; a new level began 3 runs ago; 2 runs far above it are not covered" in text
    assert "they shrink by 1.0% each" in lines(step(growth=-0.01))
    assert "1 run far above it is not covered" in lines(step(outliers=1))


def test_what_recurs_and_what_comes_often_are_reasons() -> None:
    text = lines(step(period=7, past=[past(3000, 1.0)]))
    assert "peaks recur every 7 runs" in text and "but the last" not in text
    assert "1 run far above it, which may come again, is covered" in lines(step(covered=1))
    assert "2 runs far above it, which may come again, are covered" in lines(step(covered=2))


def test_a_last_run_that_needed_more_is_a_reason() -> None:
    assert "runs stray by 4%; but the last needed 2.9G; at most" in lines(step(past=[past(1300, 1.0), past(3000, 1.0)]))
    assert "but the last" not in lines(step(past=[past(3000, 1.0), past(1300, 1.0)]))
    assert "but the last" not in lines(step(past=[past(None, 1.0)]))


def test_how_earlier_limits_would_have_done() -> None:
    text = lines(step(past=[past(100, None), past(None, 90.0), past(100, 110.0), past(100, 130.0)]))
    assert "of the last 2 runs it would have killed none, and given them 20% more than they held" in text
    text = lines(step(past=[past(100, 110.0), past(200, 130.0)]))
    assert "of the last 2 runs it would have killed 1, and given the others 10% more than they held" in text
    assert "how sure: it would have killed the last run" in lines(step(past=[past(200, 130.0)]))
    assert "it would have given the last run 10% more than it held" in lines(step(past=[past(100, 110.0)]))


def test_little_is_told_as_little() -> None:
    assert "at most 1 cpu was busy" in lines(step(busy_cpus=1.0))
    assert "hardly a cpu was busy" in lines(step(busy_cpus=0.0))
    assert "free for others for 0.3s of each run" in lines(step(duration_s=0.31))
    assert "free for others\n" in lines(step(duration_s=0.02))


def test_what_is_to_be_typed_can_be_typed() -> None:
    assert "retz run --pipeline 'we ird' --predicted" in "\n".join(size_lines("we ird", {"steps": [step()]}))


def test_who_needs_more_is_told_so() -> None:
    assert ": 1G more, because it needs that" in lines(step(given={"mem": 5120, "cpus": 4}))
    assert "--predicted gives 4G, 4 cpus\n" in lines(step(given={"mem": 4096, "cpus": 4}))


def test_too_few_runs_say_what_is_needed() -> None:
    text = lines(step(given=None, measured=1))
    assert text == "\ntrain: 1 run measured so far, 2 are needed: --predicted gives what is asked for (4G, 4 cpus)"


def test_nothing_known_is_nothing_said() -> None:
    assert lines() == ""


def test_one_screen() -> None:
    text = lines(*(step(step=f"s{number}") for number in range(MOST_STEPS + 3)))
    assert "... and 3 more steps: --json lists them" in text and "s8" not in text


def test_names_cannot_move_the_cursor() -> None:
    assert "\x1b" not in lines(step(step="\x1b[2J"))


def test_what_a_job_got() -> None:
    asked = {"asked": {"mem": 4096, "cpus": 4}, "runs": 12, "mem": 1434, "outgrew": None}
    job = {"id": 7, "resources": {"mem": 1434, "cpus": 1}, "sized": asked}
    assert submitted_text(job) == "job 7 gets 1.4G, 1 cpu: predicted by 12 past runs; asked for were 4G, 4 cpus"
    few = {**asked, "runs": 1, "mem": None}
    assert sized_text(few) == "not yet, by 1 past run: it gets what it asked for, 4G, 4 cpus"
    assert sized_text({**asked, "outgrew": 2}).startswith("1.4G by 12 past runs, which attempt 2 outgrew")
    assert sized_text(None) == ""


def test_long_steps_of_a_plan_are_told() -> None:
    def told(interval: int, until: int) -> list[str]:
        skyline = {"resourceAllocation": {"0": {"memory": 10}, str(until): {"memory": 0}}}
        return coarse({"settings": {"interval": interval}, "skyline": skyline})

    assert told(5, 10) == ["the plan is made in steps of 5s, long for such runs: --interval 1 is closer"]
    assert told(5, 60) == told(1, 2) == told(5, 0) == []


def test_how_sure_a_plan_is_and_what_was_left_out() -> None:
    confidence = {
        "needed": {"memory": 100.0, "vcores": 0.01}, "over": {"memory": 20.0, "vcores": 1.0}, "under": {"memory": 3.0},
        "runs": 9, "left_out_error": {"memory": 0.1, "vcores": 99.0}, "left_out_runs": 9,
    }  # fmt: skip
    assert trust({"confidence": confidence, "ignored": ["r1"]}, ["memory", "vcores"]) == [
        "",
        "how sure: memory 20% too much, 3% too little; cpus over 1000% too much, 0% too little for an average one of 9"
        " runs",
        "tested on 9 runs, each left out in turn: off memory by 10%, cpus by over 1000%",
        "1 run held nothing, or was not measured: left out",
    ]
