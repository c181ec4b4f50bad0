import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tagger
from jobs.archive.video import Version, Video
from jobs.errors import Interrupted, JobError
from jobs.result.compare.changes import Changes
from jobs.result.identity import file_metadata
from jobs.result.ledger import Ledger, remove
from jobs.result.rewrite.compact import compact
from jobs.result.verify import verify
from jobs.tagging.dry_run import DryRun, dry_run
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.rows import result_tables
from jobs.tagging.pipeline import Workers, choose_workers
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxFailures, RunConfig
from jobs.tagging.summary import Progress
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger.classifier import PrecisionName, choose_precision
from tagger.clips import VideoEnd
from tagger.errors import InputError, OutputError
from tagger.isolation import decoder_of_this_thread
from tests.jobs.tagging.killed import DriverWithoutRay, rows_of


@pytest.fixture
def config(archive: Path, model_file: Path, tmp_path: Path) -> RunConfig:
    """A job with one actor: each imports torch, which takes four seconds of a core."""
    out = tmp_path / "tags.parquet"
    return RunConfig((str(archive),), out, model=str(model_file), top_k=3, device="cpu", actors=1)


def stop_after(videos: int):  # type: ignore[no-untyped-def]
    def stop(progress: Progress) -> None:
        if progress.videos_done == videos:
            raise KeyboardInterrupt

    return stop


class TestThroughRay:
    pytestmark = pytest.mark.usefixtures("shared_ray")

    def test_every_row_is_what_the_library_gives(self, config: RunConfig, archive: Path, model_file: Path) -> None:
        seen: list[Progress] = []
        # The precision that vtag would not choose on this machine.
        precision: PrecisionName = "fp32" if choose_precision(torch.device("cpu")) != torch.float32 else "bf16"
        summary = run_job(make_plan(replace(config, precision=precision, embeddings=True, actors=None)), seen.append)

        library = tagger.load_model(str(model_file), device="cpu", precision=precision)
        tags = pq.read_table(config.out).to_pylist()
        embeddings = pq.read_table(summary.embeddings_out).to_pylist()
        assert [(row["video"], row["segment"]) for row in embeddings] == [
            (row["video"], row["segment"]) for row in tags
        ]
        videos = pq.read_table(summary.videos_out).to_pylist()
        assert [video["video"] for video in videos] == sorted(str(p) for p in archive.rglob("*") if p.is_file())
        for video in videos:
            segments, end = library.read(video["video"], top_k=3)
            rows = [row for row in tags if row["video"] == video["video"]]
            assert [row["segment"] for row in rows] == [segment.index for segment in segments]
            for row, segment in zip(rows, segments, strict=True):
                assert (row["start_s"], row["end_s"]) == (segment.start_s, segment.end_s)
                assert (row["label"], tuple(row["top_labels"])) == (segment.label, segment.top_labels)
                assert row["confidence"] == row["top_confidences"][0]
                assert row["top_confidences"] == pytest.approx(segment.top_confidences, abs=1e-6)
            vectors = [row["embedding"] for row in embeddings if row["video"] == video["video"]]
            spans = decoder_of_this_thread().spans(video["video"], library.sampling, library.source.info.preprocessing)
            expected = [
                vector
                for span in spans
                if span.windows
                for vector in library.classifier.classify_and_embed(span.clips)[2]
            ]
            assert len(vectors) == len(expected)
            assert np.array(vectors) == pytest.approx(np.array(expected), abs=1e-3)
            assert (video["status"], video["error_kind"], video["error"]) == (end.status, end.error_kind, end.error)
            assert video["segments"] == end.windows == len(segments)
            if end.facts is not None:
                assert (video["codec"], video["duration_s"]) == (end.facts.codec, end.facts.duration_s)
        assert len({row["confidence"] for row in tags}) > len(tags) / 2, "the model tells windows apart"

        statuses = {Path(video["video"]).name: video["status"] for video in videos}
        assert statuses == {
            "good.mp4": "ok",
            "long.mkv": "ok",
            "tape.mpg": "ok",
            "cut.mp4": "partial",
            "empty.mp4": "failed",
            "text.mp4": "failed",
        }
        assert (summary.videos, summary.ok, summary.partial, summary.failed, summary.kept) == (6, 3, 1, 2, 0)
        assert summary.segments == summary.windows_done == len(tags)
        assert summary.video_s == pytest.approx(sum(video["duration_s"] or 0 for video in videos))
        assert [Path(failure.path).name for failure in summary.failures] == ["cut.mp4", "empty.mp4", "text.mp4"]
        assert sum(label.segments for label in summary.top_labels) == len(tags)
        assert sorted(path.name for path in config.out.parent.iterdir()) == [
            "tags.embeddings.parquet",
            "tags.parquet",
            "tags.videos.parquet",
        ]

        assert [progress.videos_done for progress in seen if progress.phase == "tagging"][-1] == 6
        assert [seen[0].phase, seen[-1].phase] == ["starting", "publishing"]
        failures = {progress.last_failure for progress in seen} - {None}
        assert failures == set(summary.failures), "every failure is reported"
        assert seen[-1].video_s == pytest.approx(sum(row["end_s"] - row["start_s"] for row in tags))

    @pytest.mark.slow
    def test_an_interrupted_job_continues_where_it_stopped_and_gives_the_same_result(
        self, config: RunConfig, tmp_path: Path
    ) -> None:
        whole = replace(config, out=tmp_path / "whole.parquet")
        run_job(make_plan(whole))

        with pytest.raises(Interrupted, match=r"3 of 6 videos .* same command continues"):
            run_job(make_plan(config), stop_after(3))
        assert not config.out.exists()
        plan = make_plan(config)
        assert (plan.changes.unchanged, len(plan.todo)) == (3, 3)

        again: list[Progress] = []
        summary = run_job(plan, again.append)
        assert (summary.kept, summary.new, summary.videos) == (3, 3, 6)
        assert len(summary.failures) == 3, "failures from before the interruption are listed, too"
        assert again[-1].videos_done == 3
        assert pq.read_table(config.out).equals(pq.read_table(whole.out))
        timings = ["decode_s", "predict_s"]
        videos = [
            pq.read_table(place).drop_columns(timings)
            for place in (summary.videos_out, tmp_path / "whole.videos.parquet")
        ]
        assert videos[0].equals(videos[1])

    @pytest.mark.slow
    def test_a_hop_and_a_folder_as_output(
        self, config: RunConfig, archive: Path, model_file: Path, tmp_path: Path
    ) -> None:
        config = replace(config, inputs=(str(archive / "good.mp4"),), hop_s=1.0, out=tmp_path / "result", batch_size=3)
        plan = make_plan(config)
        summary = run_job(plan)
        tags = pq.read_table(tmp_path / "result/tags")
        segments = tagger.load_model(str(model_file), device="cpu").tag(archive / "good.mp4", hop_s=1.0)
        assert tags["start_s"].to_pylist() == [segment.start_s for segment in segments]
        assert tags["top_confidences"][0].as_py() == pytest.approx(segments[0].top_confidences[:3], abs=1e-3)
        metadata = {key.decode(): value.decode() for key, value in tags.schema.metadata.items()}
        assert file_metadata(plan.identity, metadata["vtag.run"]).items() <= metadata.items()
        assert summary.sampling == "16×4 @ 30 fps, hop 1 s"

    @pytest.mark.slow
    def test_too_many_failures_end_the_job_which_can_continue(self, config: RunConfig) -> None:
        with pytest.raises(JobError, match=r"[23] of the first \d videos .* --max-failures 1 allows; the last: /"):
            run_job(make_plan(replace(config, max_failures=MaxFailures(videos=1))))
        assert not config.out.exists()
        assert make_plan(config).changes.unchanged >= 2
        again = make_plan(replace(config, retry_failed=True))
        assert {"empty.mp4", "text.mp4", "cut.mp4"} <= {Path(video.path).name for video in again.todo}
        summary = run_job(again)
        assert (summary.ok, summary.partial, summary.failed) == (3, 1, 2)

    def test_a_model_that_fails_ends_the_job_with_one_line_that_says_why(self, config: RunConfig) -> None:
        plan = make_plan(config)
        missing = replace(plan.source, file=plan.source.file.with_name("gone.safetensors"))
        with pytest.raises(tagger.VtagError) as caught:
            run_job(replace(plan, source=missing))
        assert "gone.safetensors" in str(caught.value)
        assert "\n" not in str(caught.value)


class AllVideosAtOnce(DriverWithoutRay):
    """All videos come back in one table, and none of them could be read."""

    def events(self, work: object, videos: Sequence[Video], *_: object, timeout_s: float) -> Iterator[pa.Table]:
        failed = VideoEnd("failed", 0, error_kind="empty", error="empty")
        versions = [Version(video.size, video.mtime_ns, None) for video in videos]
        ends = [PartEnd(failed, version).to_json() for version in versions]
        rows = [{"video": number, "end": end} for number, end in enumerate(ends)]
        times = ("decode_s", "decode_cpu_s", "decoded_at", "predict_s", "predict_cpu_s", "predicted_at")
        yield pa.Table.from_pylist([row | dict.fromkeys(times, 0.0) for row in rows], SEGMENTS_SCHEMA)


@pytest.mark.parametrize(("bound", "is_exceeded"), [(MaxFailures(videos=5), True), (MaxFailures(videos=6), False)])
def test_failures_are_counted_also_when_the_last_videos_come_back_together(
    bound: MaxFailures, is_exceeded: bool, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.tagging.run.RayDriver", AllVideosAtOnce)
    plan = make_plan(replace(config, max_failures=bound))
    if is_exceeded:
        with pytest.raises(JobError, match=r"6 of the first 6 videos .* more than --max-failures 5 allows"):
            run_job(plan)
        assert not config.out.exists()
        assert make_plan(config).changes.unchanged == 6
    else:
        assert run_job(plan).failed == 6


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/tmp/a"), "/tmp/a cannot be read or written: permission denied"),
        (
            PermissionError(13, "Permission denied", b"/tmp/\xff"),
            r"/tmp/\\udcff cannot be .*: permission denied",
        ),
        (
            OSError(24, "Too many open files"),
            "vtag stopped while working in .*tags.parquet.run: too many open files",
        ),
    ],
)
def test_a_system_error_is_told_with_its_own_file_and_not_with_the_run_folder(
    error: OSError, words: str, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(DriverWithoutRay):
        def events(self, *_: object, timeout_s: float) -> Iterator[pa.Table]:  # type: ignore[override]
            raise error
            yield

    monkeypatch.setattr("jobs.tagging.run.RayDriver", Fails)
    with pytest.raises(OutputError, match=f"^{words}; finished videos are kept, and the same command continues$"):
        run_job(make_plan(config))


def test_a_full_disk_is_told_with_the_work_that_needs_it(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.tagging.run.RayDriver", AllVideosAtOnce)
    monkeypatch.setattr("jobs.result.ledger.Ledger.commit", fill_up)
    words = r"^vtag stopped while writing finished videos to .*tags.parquet.run: no space left on device; finished"
    with pytest.raises(OutputError, match=words):
        run_job(make_plan(config))


class RecordsParts(DriverWithoutRay):
    """Records the parts of the archive that it gets. Its first event for each part are the workers."""

    parts: ClassVar[list[tuple[int, int]]] = []

    def events(
        self, work: object, videos: Sequence[Video], numbers: Sequence[int], *rest: object, timeout_s: float
    ) -> Iterator[Workers | pa.Table]:
        self.parts.append((numbers[0], len(videos)))
        yield choose_workers(cpus=2, gpus=0)
        for number, video in zip(numbers, videos, strict=True):
            yield rows_of(number, video)


def test_a_long_list_is_tagged_in_parts(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.tagging.run.RayDriver", RecordsParts)
    monkeypatch.setattr("jobs.tagging.run.chunk_size", lambda decoders: decoders + 1)
    archive = tmp_path / "videos"
    archive.mkdir()
    for number in range(7):
        (archive / f"{number}.mp4").write_text(f"video {number}")
    summary = run_job(make_plan(RunConfig((str(archive),), tmp_path / "tags.parquet", model=str(model_file))))
    # One decoder is assumed for the first part; then the workers are known to have two.
    assert RecordsParts.parts == [(0, 2), (2, 3), (5, 2)]
    assert (summary.videos, summary.segments) == (7, 7 * len("video 0"))


def finish_all(config: RunConfig) -> None:
    """Makes the run folder of a job that was interrupted when all its videos were finished."""
    plan = make_plan(config)
    end = VideoEnd("failed", 0, error_kind="empty", error="nothing there")
    ledger = Ledger.open(plan.output.run_folder, plan.identity)
    version = {video: Version(video.size, video.mtime_ns, None) for video in plan.videos}
    ledger.commit(
        *result_tables([FinishedVideo(v, version[v], SEGMENTS_SCHEMA.empty_table(), end, 0.0) for v in plan.videos])
    )


def test_a_job_whose_videos_are_all_finished_publishes_without_starting_ray(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_all(config)
    monkeypatch.setattr("jobs.tagging.run.RayDriver", None)
    summary = run_job(make_plan(config))
    assert (summary.failed, summary.kept) == (6, 6)


class TestOverwrite:
    def test_overwrite_reads_finished_videos_again(self, config: RunConfig) -> None:
        finish_all(config)
        assert not make_plan(config).todo
        again = make_plan(replace(config, overwrite=True))
        assert (again.todo, again.run_id) == (again.videos, None)

    def test_the_same_command_after_an_interruption_continues(self, config: RunConfig) -> None:
        again = make_plan(replace(config, overwrite=True))
        Ledger.open(again.output.run_folder, again.identity, replaces=True)
        finish_all(config)
        assert not make_plan(replace(config, overwrite=True)).todo
        assert make_plan(config).replaces, "also without the option, because there is no result to lose"

    def test_a_run_without_overwrite_does_not_finish_an_interrupted_one_over_a_result(self, config: RunConfig) -> None:
        finish_all(config)
        run_job(make_plan(config))
        again = make_plan(replace(config, overwrite=True))
        Ledger.open(again.output.run_folder, again.identity, replaces=True)
        with pytest.raises(OutputError, match=r"interrupted --overwrite; give --overwrite again .* or remove it"):
            make_plan(config)
        remove(again.output.run_folder)
        assert make_plan(config).is_done

    def test_a_damaged_run_folder_does_not_stop_overwrite(self, config: RunConfig) -> None:
        config = replace(config, overwrite=True)
        plan = make_plan(config)
        Ledger.open(plan.output.run_folder, plan.identity, replaces=True)
        finish_all(config)
        part = Path(plan.output.run_folder.path, "part-000000.videos.parquet")
        part.write_bytes(part.read_bytes()[:100])
        assert make_plan(config).todo == plan.videos
        part.with_name("part-000000.tags.parquet").unlink()
        assert make_plan(config).todo == plan.videos
        with pytest.raises(OutputError, match="remove it, and its videos are tagged again"):
            make_plan(replace(config, overwrite=False))


class TestNothingToDo:
    @pytest.fixture
    def done(self, config: RunConfig) -> RunConfig:
        finish_all(config)
        run_job(make_plan(config))
        return config

    def test_the_files_stay_as_they_are(self, done: RunConfig) -> None:
        def files() -> dict[str, tuple[int, int, int, bytes]]:
            # Without the access time, which may change.
            found = ((path, path.stat()) for path in Path(done.out).parent.iterdir())
            return {
                path.name: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, path.read_bytes())
                for path, status in found
            }

        before = files()
        run_job(make_plan(done))
        assert files() == before

    def test_a_run_that_was_interrupted_before_its_first_commit_ends(self, done: RunConfig) -> None:
        plan = make_plan(done)
        Ledger.open(plan.output.run_folder, plan.identity)
        run_job(make_plan(done))
        assert not plan.output.run_folder.is_folder()

    def test_an_unreadable_video_that_is_only_touched_is_no_failure_of_this_run(self, done: RunConfig) -> None:
        plan = make_plan(done)
        summary = run_job(replace(plan, changes=Changes(touched=plan.videos)))
        assert (summary.failed, summary.touched, summary.failures) == (6, 6, ())

    def test_a_list_of_videos_on_a_missing_disk_removes_nothing(self, done: RunConfig, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        shutil.copytree(done.inputs[0], disk)
        names = sorted(str(path) for path in disk.rglob("*.mp4"))
        (tmp_path / "list.txt").write_text("\n".join(names))
        listed = replace(done, inputs=(f"@{tmp_path}/list.txt",), out=tmp_path / "listed.parquet")
        finish_all(listed)
        before = run_job(make_plan(listed))
        disk.rename(tmp_path / "away")
        summary = run_job(make_plan(listed))
        assert (summary.videos, summary.new, summary.changed, summary.gone) == (before.videos, 0, 0, before.videos)
        (tmp_path / "away").rename(disk)
        assert not make_plan(listed).todo


@pytest.mark.parametrize("table", ["tags", "videos"])
def test_a_result_that_lacks_a_part_is_refused_before_any_work(config: RunConfig, tmp_path: Path, table: str) -> None:
    config = replace(config, out=tmp_path / "result")
    finish_all(config)
    run_job(make_plan(config))
    for name in (f"parts/part-00000.{table}.parquet", f"{table}/part-00000.parquet"):
        (tmp_path / "result" / name).unlink()
    with pytest.raises(OutputError, match=r"part-00000\.parquet.*--overwrite"):
        make_plan(config)
    assert make_plan(replace(config, overwrite=True)).todo


def test_only_vtag_run_names_its_options_when_it_cannot_use_a_result(config: RunConfig) -> None:
    Path(config.out).touch()
    with pytest.raises(OutputError, match=r"is missing; use --overwrite to start over, or choose another --out$"):
        make_plan(config)
    with pytest.raises(OutputError, match=r"is missing$"):
        verify(str(config.out))


def test_a_plan_that_was_made_before_the_parts_were_merged_is_refused(config: RunConfig, tmp_path: Path) -> None:
    config = replace(config, out=tmp_path / "result")
    finish_all(config)
    run_job(make_plan(config))
    plan = make_plan(replace(config, retry_failed=True))
    compact(str(config.out))
    with pytest.raises(OutputError, match="changed by another job just now"):
        run_job(plan)


@pytest.mark.parametrize("change", [{"top_k": 2}, {"hop_s": 0.5}, {"fast_decode": True}])
def test_an_interrupted_run_with_other_settings_is_refused_or_started_over(config: RunConfig, change: dict) -> None:
    plan = make_plan(config)
    Ledger.open(plan.output.run_folder, plan.identity)
    with pytest.raises(OutputError, match=r"another (top-k|sampling).*--overwrite"):
        make_plan(replace(config, **change))
    assert make_plan(replace(config, overwrite=True, **change)).run_id is None


def test_a_hop_shorter_than_a_sample_step_is_an_error(config: RunConfig) -> None:
    with pytest.raises(InputError, match=r"^windows every 0\.01 s are too close: .* 0\.134 s apart or more"):
        make_plan(replace(config, hop_s=0.01))


def test_a_dry_run_counts_videos_and_windows_and_writes_nothing(
    config: RunConfig, archive: Path, model_file: Path
) -> None:
    inputs = [str(archive / name) for name in ("good.mp4", "long.mkv", "empty.mp4")]
    found = dry_run(make_plan(replace(config, inputs=tuple(inputs))))
    windows = sum(len(tagger.load_model(str(model_file)).read(path)[0]) for path in inputs)
    assert found == DryRun(
        videos=3,
        new=3,
        changed=0,
        retried=0,
        kept=0,
        gone=0,
        pruned=0,
        unknown=0,
        unlisted=(),
        left_out={},
        unreadable=1,
        unopened=0,
        video_s=found.video_s,
        windows=windows,
    )
    assert math.isclose(found.video_s, 29, abs_tol=0.2)
    assert list(config.out.parent.iterdir()) == []


PROGRAM = """
import os, signal, sys
from pathlib import Path
from jobs import Interrupted, RunConfig, make_plan, run_job

def stop(progress):
    if progress.videos_done == 1:
        print("stopping", flush=True)
        sys.stdin.readline()

try:
    config = RunConfig((sys.argv[1],), Path(sys.argv[2]), model=sys.argv[3], top_k=3, device="cpu", actors=1)
    run_job(make_plan(config), stop)
except Interrupted as interrupted:
    print(interrupted)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_with_one_line_and_leaves_no_process(config: RunConfig, number: signal.Signals) -> None:
    arguments = [config.inputs[0], str(config.out), config.model]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "stopping\n", process.stderr.read()
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "1 of 6 videos are finished and kept" in out
    assert err == "", "no output of Ray is shown"
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    assert make_plan(config).changes.unchanged == 1


@pytest.mark.parametrize(
    ("bound", "failed", "done", "exceeded"),
    [
        (MaxFailures(), 1000, 1000, False),
        (MaxFailures(videos=0), 0, 10, False),
        (MaxFailures(videos=0), 1, 10, True),
        (MaxFailures(videos=5), 5, 5, False),
        (MaxFailures(share=0.5), 10, 19, False),
        (MaxFailures(share=0.5), 19, 19, False),
        (MaxFailures(share=0.5), 10, 20, False),
        (MaxFailures(share=0.5), 11, 20, True),
    ],
)
def test_failures_are_too_many_above_a_number_or_above_a_share_of_at_least_20_videos(
    bound: MaxFailures, failed: int, done: int, exceeded: bool
) -> None:
    assert bound.is_exceeded(failed, done) is exceeded


def test_planning_and_running_do_not_import_torch_or_ray() -> None:
    # Importing torch takes half a gigabyte and seconds, on a machine that may not need it.
    program = """
import sys
import jobs.tagging.plan, jobs.tagging.run, jobs.result.verify
from tagger.tagger import find_model
find_model("actions38").hash
print([name for name in ("torch", "ray", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
