"""The efficiency of a run counts the CPU time of the work that was done after its start-up."""

from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from jobs.tagging import job_state
from jobs.tagging.finished.collector import TimeSpent
from jobs.tagging.pipeline import choose_workers
from jobs.tagging.plan import make_plan
from jobs.tagging.run_config import RunConfig
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger import Preprocessing, Sampling
from tagger.isolation import DecoderProcess
from tests.videos import encode


def rows(count: int, *, decoded_at: float, predicted_at: float) -> pa.Table:
    """Windows of one video: 0.1 s of CPU time to decode, 0.4 s to classify, and twice as much wall time."""
    row = {"video": 0, "start_s": 0.0, "end_s": 2.0, "decode_s": 0.2, "decode_cpu_s": 0.1, "predict_s": 0.8}
    row |= {"predict_cpu_s": 0.4, "decoded_at": decoded_at, "predicted_at": predicted_at}
    return pa.Table.from_pylist([row | {"window": number} for number in range(count)], SEGMENTS_SCHEMA)


def test_work_before_the_start_of_the_measurement_does_not_count() -> None:
    spent = TimeSpent(since=100.0)
    spent = spent.with_rows(rows(10, decoded_at=99.0, predicted_at=101.0))
    spent = spent.with_rows(rows(5, decoded_at=101.0, predicted_at=102.0))
    assert (spent.decode_s, spent.decode_cpu_s) == pytest.approx((1.0, 0.5))
    assert (spent.predict_s, spent.predict_cpu_s) == pytest.approx((12.0, 6.0))


def test_the_efficiency_is_the_share_of_the_cores_that_did_the_work(
    archive: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job_state.JobState(
        make_plan(RunConfig((str(archive),), tmp_path / "tags.parquet", model=str(model_file))), print
    )
    run.workers = choose_workers(cpus=2, gpus=0)
    clock = {"now": 1000.0}
    monkeypatch.setattr(job_state.time, "time", lambda: clock["now"])
    monkeypatch.setattr(job_state.time, "monotonic", lambda: clock["now"])
    # While the models were loading, forty windows were decoded and four classified.
    run.collect(rows(4, decoded_at=900.0, predicted_at=999.0))
    clock["now"] = 1005.0
    run.collect(rows(10, decoded_at=900.0, predicted_at=1004.0))
    assert run.efficiency is None, "five seconds are too short"
    clock["now"] = 1020.0
    run.collect(rows(30, decoded_at=900.0, predicted_at=1019.0))
    run.collect(rows(40, decoded_at=1010.0, predicted_at=1019.0))
    assert run.efficiency is not None
    # In 20 s of two cores 40 windows were decoded and 80 classified.
    assert run.efficiency.decode == pytest.approx(40 * 0.1 / 40)
    assert run.efficiency.model == pytest.approx(80 * 0.4 / 40)
    assert run.efficiency.total == pytest.approx(0.9)


def test_a_decoder_process_reports_its_cpu_time(tmp_path: Path) -> None:
    video = encode(tmp_path / "video.mp4", seconds=8, width=640, height=360)
    with DecoderProcess() as decoder:
        decoder.probe(video)
        assert decoder.pid is not None
        process = psutil.Process(decoder.pid)
        before = process.cpu_times()
        reported_s = sum(span.cpu_s for span in decoder.spans(video, Sampling(), Preprocessing(112, 128)))
        after = process.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    assert reported_s > 0.05
    # The kernel counts in hundredths of a second.
    assert used_s - 0.1 < reported_s < used_s + 0.03
