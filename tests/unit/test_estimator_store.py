"""The rules of a skyline store, the original's tests among them, for every store there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from estimator.documents import history_digest
from estimator.errors import (
    DuplicateRecurrenceId,
    EmptyResourceSkyline,
    NullPipelineId,
    NullPrediction,
    NullRecurrenceId,
    NullResourceSkyline,
    RecurrenceIdNotFound,
)
from estimator.model import Prediction, RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.skylinestore import files
from estimator.skylinestore.base import PipelineSummary, SkylineStore
from estimator.skylinestore.files import FileStore
from estimator.skylinestore.memory import InMemoryStore

FIRST = RecurrenceId("FraudDetection", "17/07/16 16:27:25")
SECOND = RecurrenceId("FraudDetection", "17/07/16 18:00:00")
OTHER = RecurrenceId("Random", "17/07/20 18:00:00")


def skyline(intervals: int) -> ResourceSkyline:
    """So many intervals of 10 s of <102400, 100>, each with its own container so that they do not melt into one."""
    rows = np.array([[102400.0 + k, 100.0] for k in range(intervals)])
    return ResourceSkyline(str(intervals), Skyline.sampled(rows, 10), finished=10 * intervals, input_size=1024.5)


def prediction(pipeline: str = "FraudDetection", intervals: int = 5) -> Prediction:
    return Prediction(pipeline, skyline(intervals).skyline, "fast", "allocated", {}, ("a",), warm={"at": [1, 2]})


class StoreContract:
    """What every store must do."""

    def make(self, place: Path) -> SkylineStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> SkylineStore:
        return self.make(tmp_path / "skylines")

    # -- the original's tests -------------------------------------------------------------------------------------

    def test_history_by_wildcards(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1), skyline(2)])
        store.add_history(SECOND, [skyline(3), skyline(4)])
        store.add_history(OTHER, [skyline(5)])
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2)]}
        both = store.get_history(RecurrenceId("FraudDetection", "*"))
        assert both is not None and list(both.items()) == [
            (FIRST, [skyline(1), skyline(2)]),
            (SECOND, [skyline(3), skyline(4)]),
        ]
        for run in ("*", "whatever"):
            everything = store.get_history(RecurrenceId("*", run))
            assert everything is not None and set(everything) == {FIRST, SECOND, OTHER}
        assert store.get_history(RecurrenceId("Some random pipelineId", "Some random runId")) is None
        assert store.get_history(RecurrenceId("FraudDetection", "Some random runId")) is None
        assert store.get_history(RecurrenceId("Some random pipelineId", "*")) is None

    def test_predictions(self, store: SkylineStore) -> None:
        store.add_prediction("FraudDetection", prediction())
        found = store.get_prediction("FraudDetection")
        assert found == prediction()
        assert found is not None and found.warm == {"at": [1, 2]}
        store.add_prediction("FraudDetection", prediction(intervals=2))
        assert store.get_prediction("FraudDetection") == prediction(intervals=2)
        assert store.get_prediction("*") is None
        with pytest.raises(NullPipelineId):
            store.get_prediction(None)
        with pytest.raises(NullPipelineId):
            store.add_prediction(None, prediction())
        with pytest.raises(NullPrediction):
            store.add_prediction("FraudDetection", None)

    def test_adding_drops_none_and_refuses_null(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1), None, skyline(2)])
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2)]}
        store.add_history(SECOND, [None])
        store.add_history(SECOND, [])
        assert store.get_history(SECOND) is None
        with pytest.raises(NullRecurrenceId):
            store.add_history(None, [skyline(1)])
        with pytest.raises(NullResourceSkyline):
            store.add_history(SECOND, None)
        with pytest.raises(NullRecurrenceId):
            store.get_history(None)

    def test_adding_the_same_twice_is_refused(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1), skyline(2)])
        before = store.digest("FraudDetection")
        for again in ([skyline(1), skyline(2)], [skyline(3), skyline(2)]):
            with pytest.raises(DuplicateRecurrenceId) as refused:
                store.add_history(FIRST, again)
        assert str(refused.value) == (
            "Trying to addHistory duplicate resource skylines for {pipelineId: FraudDetection, "
            "runId: 17/07/16 16:27:25}. Use updateHistory function instead."
        )
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2)]}
        assert store.digest("FraudDetection") == before
        store.add_history(FIRST, [skyline(3)])
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2), skyline(3)]}

    def test_deleting(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1)])
        store.add_history(SECOND, [skyline(2)])
        store.delete_history(FIRST)
        assert store.get_history(FIRST) is None
        assert store.get_history(SECOND) == {SECOND: [skyline(2)]}
        with pytest.raises(NullRecurrenceId):
            store.delete_history(None)
        for unknown in (FIRST, OTHER, RecurrenceId("FraudDetection", "*"), RecurrenceId("*", "*")):
            with pytest.raises(RecurrenceIdNotFound) as refused:
                store.delete_history(unknown)
            assert str(refused.value) == (
                f"Trying to deleteHistory non-existing recurring pipeline  {unknown}'s resource skylines"
            )

    def test_updating(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1)])
        store.update_history(FIRST, [skyline(1), None, skyline(2)])
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2)]}
        with pytest.raises(NullRecurrenceId):
            store.update_history(None, [skyline(1)])
        with pytest.raises(NullResourceSkyline):
            store.update_history(FIRST, None)
        with pytest.raises(EmptyResourceSkyline):
            store.update_history(FIRST, [None])
        for nothing in ([skyline(1)], [None]):
            with pytest.raises(RecurrenceIdNotFound):
                store.update_history(SECOND, nothing)
        with pytest.raises(DuplicateRecurrenceId):
            store.update_history(FIRST, [skyline(1), skyline(1)])
        assert store.get_history(FIRST) == {FIRST: [skyline(1), skyline(2)]}

    # -- beyond the original ----------------------------------------------------------------------------------------

    def test_duplicates_within_what_is_added_are_refused(self, store: SkylineStore) -> None:
        with pytest.raises(DuplicateRecurrenceId):
            store.add_history(FIRST, [skyline(1), skyline(1)])
        assert store.get_history(FIRST) is None

    def test_an_empty_store(self, store: SkylineStore) -> None:
        assert store.get_history(RecurrenceId("*", "*")) == {}
        assert store.get_history(FIRST) is None
        assert store.get_prediction("x") is None
        assert store.delete_prediction("x") is False
        assert store.pipelines() == []
        assert store.summary("x") is None
        assert store.digest("x") == ""
        with pytest.raises(RecurrenceIdNotFound):
            store.delete_history(FIRST)

    def test_what_is_returned_is_the_callers_own(self, store: SkylineStore) -> None:
        given = [skyline(1)]
        store.add_history(FIRST, given)
        given.append(skyline(2))
        found = store.get_history(FIRST)
        assert found is not None
        found[FIRST].clear()
        found.clear()
        everything = store.get_history(RecurrenceId("*", "*"))
        assert everything is not None
        everything[FIRST].clear()
        assert store.get_history(FIRST) == {FIRST: [skyline(1)]}

    def test_adding_many(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1)])
        refused = store.add_many(
            [
                (OTHER, [skyline(1)]),
                (FIRST, [skyline(1)]),
                (FIRST, [skyline(2)]),
                (SECOND, [skyline(1), skyline(1)]),
                (OTHER, [skyline(2)]),
                (RecurrenceId("empty", "run"), []),
            ]
        )
        assert sorted(refused) == [FIRST, SECOND]
        assert store.get_history(RecurrenceId("*", "")) == {
            FIRST: [skyline(1), skyline(2)],
            OTHER: [skyline(1), skyline(2)],
        }
        assert [each.pipeline for each in store.pipelines()] == ["FraudDetection", "Random"]

    def test_putting_keeps_the_newest(self, store: SkylineStore) -> None:
        def runs() -> list[str]:
            return [run.run for run in store.get_history(RecurrenceId("p", "*")) or {}]

        for name in "abcd":
            store.put_history(RecurrenceId("p", name), [skyline(1)], keep=3)
        assert runs() == ["b", "c", "d"]
        store.put_history(RecurrenceId("p", "b"), [skyline(2)], keep=3)
        assert runs() == ["b", "c", "d"]
        assert store.get_history(RecurrenceId("p", "b")) == {RecurrenceId("p", "b"): [skyline(2)]}
        store.put_history(RecurrenceId("p", "e"), [skyline(1)])
        assert runs() == ["b", "c", "d", "e"]
        store.put_history(RecurrenceId("p", "f"), [skyline(1)], keep=1)
        assert runs() == ["f"]

    def test_putting_nonsense_changes_nothing(self, store: SkylineStore) -> None:
        with pytest.raises(EmptyResourceSkyline):
            store.put_history(FIRST, [])
        with pytest.raises(DuplicateRecurrenceId):
            store.put_history(FIRST, [skyline(1), skyline(1)])
        with pytest.raises(ValueError, match="at least one run"):
            store.put_history(FIRST, [skyline(1)], keep=0)
        assert store.pipelines() == []

    def test_a_list_of_pipelines(self, store: SkylineStore) -> None:
        store.add_history(SECOND, [skyline(1)])
        store.add_history(FIRST, [skyline(1)])
        store.add_prediction("A", prediction("A"))
        store.add_history(RecurrenceId("*", "*"), [skyline(1)])
        store.add_prediction("*", prediction("*"))
        expected = [
            PipelineSummary("*", 1, True),
            PipelineSummary("A", 0, True),
            PipelineSummary("FraudDetection", 2, False),
        ]
        assert store.pipelines() == expected
        assert [store.summary(each.pipeline) for each in expected] == expected
        assert store.delete_prediction("A") is True
        assert store.delete_prediction("A") is False
        assert store.delete_prediction("*") is True
        store.delete_history(RecurrenceId("*", "*"))
        assert store.pipelines() == expected[2:]
        with pytest.raises(NullPipelineId):
            store.delete_prediction(None)

    def test_a_pipeline_is_forgotten_whole(self, store: SkylineStore) -> None:
        star = RecurrenceId("*", "run")
        store.add_many([(run, [skyline(1)]) for run in (FIRST, SECOND, OTHER, star)])
        store.add_prediction("FraudDetection", prediction())
        assert store.forget("FraudDetection") == 2
        assert store.forget("FraudDetection") == 0
        assert store.get_history(FIRST) is None
        assert store.get_prediction("FraudDetection") is None
        assert store.forget("*") == 1
        assert store.pipelines() == [PipelineSummary("Random", 1, False)]

    def test_history_and_prediction_live_apart(self, store: SkylineStore) -> None:
        store.add_history(FIRST, [skyline(1)])
        digest = store.digest("FraudDetection")
        store.add_prediction("FraudDetection", prediction())
        assert store.digest("FraudDetection") == digest
        store.delete_history(FIRST)
        assert store.get_prediction("FraudDetection") == prediction()
        assert store.digest("FraudDetection") == ""
        store.add_history(FIRST, [skyline(1)])
        store.delete_prediction("FraudDetection")
        assert store.digest("FraudDetection") == digest

    def test_the_digest_is_that_of_the_history(self, store: SkylineStore) -> None:
        actions: list[Callable[[], object]] = [
            lambda: store.add_history(FIRST, [skyline(1)]),
            lambda: store.add_history(FIRST, [skyline(2)]),
            lambda: store.put_history(SECOND, [skyline(2)]),
            lambda: store.update_history(FIRST, [skyline(3)]),
            lambda: store.add_many([(RecurrenceId("FraudDetection", "x"), [skyline(4)])]),
            lambda: store.delete_history(SECOND),
        ]
        seen = {store.digest("FraudDetection")}
        for action in actions:
            action()
            digest = store.digest("FraudDetection")
            assert digest == history_digest(store.get_history(RecurrenceId("FraudDetection", "*")) or {})
            assert digest not in seen
            seen.add(digest)

    def test_everything_about_a_job_is_kept(self, store: SkylineStore) -> None:
        job = ResourceSkyline(
            "job \ud800 ü",
            Skyline.of({-3: {"memory": 0.1, "gpus": 1}, 2**53 - 1: {"vcores": 1e-6}, 2**53: {}}),
            submitted=1_700_000_000_123,
            finished=1_700_000_009_999,
            container={"gpus": 0.25},
            input_size=0.1,
            used=Skyline.empty(("memory", "vcores", "gpus")),
        )
        run = RecurrenceId("p", "run \ud800 \n ü")
        store.add_history(run, [job])
        found = store.get_history(run)
        assert found == {run: [job]}
        assert found is not None and found[run][0].used is not None
        assert store.digest("p") == history_digest({run: [job]})

    def test_threads_lose_nothing(self, store: SkylineStore) -> None:
        failures: list[BaseException] = []

        def add(thread: int) -> None:
            try:
                for number in range(12):
                    job = ResourceSkyline(f"{thread}.{number}", skyline(1).skyline)
                    store.add_history(RecurrenceId("p", f"run {number}"), [job])
                    assert store.get_history(RecurrenceId("p", f"run {number}"))
            except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        found = store.get_history(RecurrenceId("p", "*")) or {}
        assert {job.job_id for jobs in found.values() for job in jobs} == {
            f"{thread}.{number}" for thread in range(4) for number in range(12)
        }


class _ByTheContract(InMemoryStore):
    """With what a store of one's own inherits."""

    add_many = SkylineStore.add_many
    forget = SkylineStore.forget
    summary = SkylineStore.summary


class TestInheritedMethods(StoreContract):
    def make(self, place: Path) -> SkylineStore:
        return _ByTheContract()


class TestInMemoryStore(StoreContract):
    def make(self, place: Path) -> SkylineStore:
        return InMemoryStore()


class TestFileStore(StoreContract):
    def make(self, place: Path) -> SkylineStore:
        return FileStore(place)


class TestFileStoreWithoutCache(StoreContract):
    """Every read is one of the file."""

    @pytest.fixture(autouse=True)
    def _no_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "CACHED_BYTES", 0)

    def make(self, place: Path) -> SkylineStore:
        return FileStore(place)
