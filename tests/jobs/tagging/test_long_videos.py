"""Long videos are tagged in parts, by all decoders, and give the same result as with one.

Videos are decoded and classified in this process, without Ray, unless a test says otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.archive.listing import find_videos
from jobs.archive.video import Video
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import Interrupted, WorkerError
from jobs.tagging.finished.collector import Collector
from jobs.tagging.pipeline import choose_workers, tag_videos
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Progress
from jobs.tagging.tasks import MIN_PART_BYTES
from tagger import find_model
from tagger.errors import OutputError
from tagger.tagger import ModelSource
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.tagger.encodings import SECOND, damage
from tests.videos import encode

LATER = ("decode_s", "predict_s")
"""Columns of the videos table that differ from run to run."""


def enlarged(path: Path, size: int) -> Path:
    """Adds an empty box to an MP4 file, so that it has ``size`` bytes. It takes no room on the disk."""
    before = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(before)
        file.write((1).to_bytes(4, "big") + b"free" + (size - before).to_bytes(8, "big"))
        file.truncate(size)
    return path


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that were read, once for each part."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverInThisProcess)
    monkeypatch.setattr(DriverInThisProcess, "read", [])
    monkeypatch.setattr(DriverInThisProcess, "decoders", 2)
    return DriverInThisProcess.read


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A long video of 26 s and a short one."""
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "short.mp4", seconds=3)
    enlarged(encode(folder / "long.mp4", seconds=26, options=SECOND, width=320, height=240), 4 * MIN_PART_BYTES)
    return folder


@pytest.fixture
def config(archive: Path, model_file: Path, tmp_path: Path) -> RunConfig:
    return RunConfig((str(archive),), tmp_path / "tags.parquet", model=str(model_file), device="cpu")


def result(config: RunConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the rows of segments and of videos, without what differs from run to run."""
    tags = pq.read_table(config.out).to_pylist()
    videos = pq.read_table(config.out.with_suffix(".videos.parquet")).to_pylist()
    return tags, [{name: value for name, value in video.items() if name not in LATER} for video in videos]


def whole_result(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns the result of one decoder, which cuts no video."""
    monkeypatch.setattr(DriverInThisProcess, "decoders", 1)
    whole = replace(config, out=config.out.with_name("whole.parquet"))
    run_job(make_plan(whole))
    return result(whole)


def test_the_result_is_that_of_one_decoder(config: RunConfig, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    summary = run_job(make_plan(config), seen.append)
    assert sorted(read) == ["long.mp4"] * 4 + ["short.mp4"]
    assert (summary.ok, summary.segments) == (2, 15)
    assert seen[-1].video_s == summary.tagged_s == pytest.approx(29, abs=0.1)
    assert [progress.video_s for progress in seen] == sorted(progress.video_s for progress in seen)
    assert result(config) == whole_result(config, monkeypatch)


def test_a_long_video_with_damage_is_read_whole_in_the_end(
    config: RunConfig, archive: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(archive / "long.mp4", seconds=26, options=SECOND, width=320, height=240)
    enlarged(damage(path, range(15, 16)), 4 * MIN_PART_BYTES)
    summary = run_job(make_plan(config))
    assert sorted(read) == ["long.mp4"] * 5 + ["short.mp4"]
    assert (summary.ok, summary.partial) == (1, 1)
    assert summary.tagged_s == pytest.approx(29, abs=0.1)
    (tags, (long, short)), (whole_tags, (whole_long, whole_short)) = result(config), whole_result(config, monkeypatch)
    reason = long.pop("decoder_reason")
    assert "it is decoded whole" in reason and "decoding of a part failed" in reason
    assert whole_long.pop("decoder_reason") is None
    assert (tags, long, short) == (whole_tags, whole_long, whole_short)


def test_a_long_file_that_cannot_be_cut_is_read_by_one_decoder_and_the_reason_is_kept(
    config: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    path = encode(archive / "long.mp4", seconds=26, options=SECOND, container_options=fragmented)
    enlarged(path, 4 * MIN_PART_BYTES)
    summary = run_job(make_plan(config))
    assert summary.ok == 2
    (tags, (long, _)), (whole_tags, (whole_long, _)) = result(config), whole_result(config, monkeypatch)
    assert long.pop("decoder_reason") == "fragmented files are not read in parts"
    assert whole_long.pop("decoder_reason") is None
    assert (tags, long) == (whole_tags, whole_long)


def interrupt_after(parts: int, read: list[str]) -> Callable[[Progress], None]:
    """Returns a report of progress that interrupts a job when it reads the part after these."""

    def report(progress: Progress) -> None:
        if len(read) > parts:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("embeddings", [False, True])
def test_an_interrupted_job_decodes_no_finished_part_again(
    config: RunConfig, read: list[str], embeddings: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, embeddings=embeddings)
    for parts in (2, 3):
        monkeypatch.setattr("jobs.tagging.run.REPORT_S", 0.0)
        with pytest.raises(Interrupted):
            run_job(make_plan(config), interrupt_after(parts, read))
        assert not config.out.exists()
    before = len(read)
    summary = run_job(make_plan(config))
    assert read[before:].count("long.mp4") == 1 and summary.ok == 2
    assert result(config) == whole_result(config, monkeypatch)
    assert [path.name for path in config.out.parent.iterdir() if path.is_dir()] == ["videos"]


def test_a_video_of_which_all_parts_were_kept_is_not_decoded_again(
    config: RunConfig, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        # As if the job was killed after the last part, before the video was committed.
        killed.setattr("jobs.tagging.finished.committer.COMMIT_S", 0.0)
        killed.setattr(Collector, "_finish", lambda *_: None)
        with pytest.raises(WorkerError, match="only 0 of 2 videos came back"):
            run_job(make_plan(config))
    read.clear()
    assert run_job(make_plan(config)).ok == 2
    assert read == ["short.mp4"]
    assert result(config) == whole_result(config, monkeypatch)


def test_parts_of_an_older_version_of_a_video_are_not_used(
    config: RunConfig, archive: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.tagging.run.REPORT_S", 0.0)
    with pytest.raises(Interrupted):
        run_job(make_plan(config), interrupt_after(3, read))
    path = encode(archive / "long.mp4", seconds=20, options=SECOND, width=320, height=240)
    enlarged(path, 4 * MIN_PART_BYTES)
    read.clear()
    assert run_job(make_plan(config)).ok == 2
    assert read.count("long.mp4") == 4
    assert result(config) == whole_result(config, monkeypatch)


def test_damaged_kept_parts_end_the_job_in_one_line(
    config: RunConfig, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.tagging.run.REPORT_S", 0.0)
    with pytest.raises(Interrupted):
        run_job(make_plan(config), interrupt_after(2, read))
    (kept,) = config.out.parent.rglob("kept-*.parquet")
    kept.write_bytes(b"PAR1")
    with pytest.raises(
        OutputError, match=r"kept-000000\.parquet cannot be read: .* cut off; if it is damaged, remove it"
    ):
        run_job(make_plan(config))


def collect_parts(
    session: RaySession, send_event: SendEvent, videos: Sequence[Video], source: ModelSource, decoders: int
) -> None:
    collector = Collector(videos)
    workers = replace(choose_workers(session.cpus, session.gpus, "cpu"), decoders=decoders)
    for table in tag_videos(videos, source, source.info.sampling, workers, top_k=1):
        for done in collector.add(table):
            rows = done.segments.select(["window", "start_s", "end_s", "top_labels", "top_confidences"]).to_pylist()
            send_event((Path(done.video.path).name, done.parts, rows))


def test_ray_decodes_the_parts_and_gives_the_rows_of_one_decoder(
    archive: Path, model_file: Path, shared_ray: str
) -> None:
    videos, found = find_videos([str(archive)]), {}
    for decoders in (2, 1):
        events: list[Any] = []
        run_on_ray("tagging", collect_parts, videos, find_model(str(model_file)), decoders, on_event=events.append)
        found[decoders] = {name: (parts, rows) for name, parts, rows in events}
    assert {name: parts for name, (parts, _) in found[2].items()} == {"long.mp4": 4, "short.mp4": 1}
    for name, (_, rows) in found[1].items():
        parts_rows = found[2][name][1]
        assert [row["window"] for row in parts_rows] == [row["window"] for row in rows]
        for row, expected in zip(parts_rows, rows, strict=True):
            assert row.pop("top_confidences") == pytest.approx(expected.pop("top_confidences"), abs=1e-3)
            assert row == expected
