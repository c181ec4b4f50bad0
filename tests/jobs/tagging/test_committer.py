"""The committer writes finished videos when they are due, and writes nothing else."""

from pathlib import Path

import numpy as np
import pytest

from jobs.result.compare.records import read_records
from jobs.result.ledger import Ledger, committed_parts
from jobs.result.lock import Lock, locked
from jobs.result.output import choose_output
from jobs.tagging.finished import committer
from jobs.tagging.finished.committer import COMMIT_S, Committer
from tagger.errors import OutputError
from tests.jobs.result.finished import IDENTITY, make_finished


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"now": 1000.0}
    monkeypatch.setattr(committer.time, "monotonic", lambda: now["now"])
    return now


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(choose_output(tmp_path / "tags.parquet").run_folder, IDENTITY)


def test_nothing_is_written_while_no_video_is_finished(ledger: Ledger, clock: dict[str, float]) -> None:
    with locked(ledger.folder) as lock, Committer(ledger, lock) as committing:
        for _ in range(3):
            clock["now"] += COMMIT_S + 1
            committing.commit_when_due()
    assert committed_parts(ledger.folder) == []


def test_a_finished_video_is_written_when_the_time_is_up(ledger: Ledger, clock: dict[str, float]) -> None:
    with locked(ledger.folder) as lock, Committer(ledger, lock) as committing:
        committing.add(make_finished("/v/a.mp4"))
        committing.commit_when_due()
        assert committed_parts(ledger.folder) == []
        clock["now"] += COMMIT_S + 1
        committing.commit_when_due()
        assert len(committed_parts(ledger.folder)) == 1
        assert committing.committed == 1


def test_finished_videos_are_written_on_exit_also_after_an_error(ledger: Ledger, clock: dict[str, float]) -> None:
    def fail(lock: Lock) -> None:
        with Committer(ledger, lock) as committing:
            committing.add(make_finished("/v/a.mp4"))
            committing.add(make_finished("/v/b.mp4"))
            raise RuntimeError("the model fails")

    with locked(ledger.folder) as lock, pytest.raises(RuntimeError, match="the model fails"):
        fail(lock)
    assert read_records(committed_parts(ledger.folder)).names(np.arange(2)).to_pylist() == ["/v/a.mp4", "/v/b.mp4"]


def test_nothing_is_written_after_another_job_has_taken_the_lock_over(ledger: Ledger, clock: dict[str, float]) -> None:
    def lose(lock: Lock) -> None:
        with Committer(ledger, lock) as committing:
            committing.add(make_finished("/v/a.mp4"))
            ledger.folder.child("lock.json").write_text('{"host": "elsewhere", "token": "t"}')

    with locked(ledger.folder) as lock, pytest.raises(OutputError, match="another job has taken over this output"):
        lose(lock)
    assert committed_parts(ledger.folder) == []
