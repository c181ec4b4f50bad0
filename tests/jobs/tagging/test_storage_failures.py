"""A storage that fails costs no rows: its videos are read again, on another node, in this run and in the next ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.archive.video import Video
from jobs.errors import JobError
from jobs.tagging import run
from jobs.tagging.job_state import MAX_FAILURES_IN_A_ROW, MAX_TRIES
from jobs.tagging.pipeline import Workers
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger.clips import VideoEnd
from tagger.errors import ErrorKind
from tests.jobs.tagging.killed import DriverWithoutRay, rows_of

VIDEOS = 12

Fails = Callable[[str, str, int], ErrorKind | None]
"""Gives the error of a video, by its file name, the node, and the number of times that it was read before."""


def failed_rows(number: int, video: Video, kind: ErrorKind) -> pa.Table:
    end = VideoEnd("failed", 0, error_kind=kind, error=f"{video.path} cannot be read: {kind}")
    row = {"video": number, "end": json.dumps({"end": asdict(end), "version": None})}
    return pa.Table.from_pylist([row], SEGMENTS_SCHEMA)


def partial_rows(number: int, video: Video) -> pa.Table:
    rows = rows_of(number, video).to_pylist()
    end = json.loads(rows[-1]["end"])
    end["end"] |= {"status": "partial", "error_kind": "timeout", "error": "no frame for too long"}
    rows[-1]["end"] = json.dumps(end)
    return pa.Table.from_pylist(rows, SEGMENTS_SCHEMA)


class Cluster(DriverWithoutRay):
    """A Ray of one or more nodes. Each reads every other video, but the avoided ones read none."""

    nodes: tuple[str, ...] = ("a",)
    fails: Fails = staticmethod(lambda name, node, before: None)
    partial: str | None = None
    passes: list[list[str]]
    avoided: list[set[str]]

    def events(  # type: ignore[override]
        self, work: object, videos: Sequence[Video], numbers: Sequence[int], *rest: object, timeout_s: float
    ) -> Iterator[pa.Table | Workers]:
        assert isinstance(rest[-1], frozenset)
        cls = type(self)
        yield Workers("cpu", 1, 1, 0.5, 0.0, 2, 0.5, nodes=len(cls.nodes))
        names = [Path(video.path).name for video in videos]
        nodes = [node for node in cls.nodes if node not in rest[-1]]
        for i, (number, video) in enumerate(zip(numbers, videos, strict=True)):
            node, name = nodes[i % len(nodes)], names[i]
            kind = cls.fails(name, node, sum(done.count(name) for done in cls.passes))
            made = partial_rows if name == cls.partial else rows_of
            rows = made(number, video) if kind is None else failed_rows(number, video, kind)
            at = rows.schema.get_field_index("node")
            nodes_of_rows = [None] * (rows.num_rows - 1) + [node]
            yield rows.set_column(at, rows.schema.field(at), pa.array(nodes_of_rows, pa.string()))
        cls.passes.append(names)
        cls.avoided.append(set(rest[-1]))


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> type[Cluster]:
    """Replaces Ray by nodes that a test can make fail."""

    nodes = type("Nodes", (Cluster,), {"passes": [], "avoided": []})
    monkeypatch.setattr(run, "RayDriver", nodes)
    monkeypatch.setattr(run, "RETRY_WAITS_S", (0.0, 0.0))
    return nodes


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A job on twelve videos."""
    for number in range(VIDEOS):
        path = tmp_path / "videos" / f"{number:02d}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_text("ab")
    return RunConfig((str(tmp_path / "videos"),), tmp_path / "tags.parquet")


def videos_of(summary: Summary) -> dict[str, dict]:
    return {Path(row["video"]).name: row for row in pq.read_table(summary.videos_out).to_pylist()}


def test_a_video_whose_storage_fails_is_read_again_after_the_others(config: RunConfig, ray: type[Cluster]) -> None:
    ray.fails = staticmethod(lambda name, node, before: "io" if name == "03.mp4" and before < 2 else None)
    summary = run_job(make_plan(config))
    assert [len(names) for names in ray.passes] == [VIDEOS, 1, 1]
    assert (summary.ok, summary.failures, summary.segments) == (VIDEOS, (), 2 * VIDEOS)
    assert videos_of(summary)["03.mp4"]["attempts"] == 1


@pytest.mark.parametrize("kind", ["io", "unreachable", "timeout", "crashed", "memory", "permission"])
def test_an_error_that_may_pass_is_tried_by_three_runs_and_then_stays(
    kind: ErrorKind, config: RunConfig, ray: type[Cluster]
) -> None:
    ray.fails = staticmethod(lambda name, node, before: kind if name == "03.mp4" else None)
    for attempt in (1, 2, 3):
        summary = run_job(make_plan(config))
        row = videos_of(summary)["03.mp4"]
        assert (row["status"], row["error_kind"], row["attempts"]) == ("failed", kind, attempt)
        assert [failure.kind for failure in summary.failures] == [kind]
        assert summary.retried == (attempt > 1)
    assert ray.passes.count(["03.mp4"]) == (3 * (MAX_TRIES - 1) + 2 if kind == "io" else 2)
    assert make_plan(config).is_done
    retry = replace(config, retry_failed=True)
    assert videos_of(run_job(make_plan(retry)))["03.mp4"]["attempts"] == 4
    ray.fails = staticmethod(lambda name, node, before: None)
    row = videos_of(run_job(make_plan(retry)))["03.mp4"]
    assert (row["status"], row["attempts"]) == ("ok", 5)


@pytest.mark.parametrize("kind", ["damaged", "not_video", "unsupported", "empty", "no_video_stream"])
def test_an_error_of_the_file_itself_is_tried_once(kind: ErrorKind, config: RunConfig, ray: type[Cluster]) -> None:
    ray.fails = staticmethod(lambda name, node, before: kind if name == "03.mp4" else None)
    assert videos_of(run_job(make_plan(config)))["03.mp4"]["attempts"] == 1
    assert make_plan(config).is_done


def test_a_changed_video_counts_its_attempts_anew(config: RunConfig, ray: type[Cluster], tmp_path: Path) -> None:
    ray.fails = staticmethod(lambda name, node, before: "crashed" if name == "03.mp4" else None)
    for _ in range(3):
        run_job(make_plan(config))
    (tmp_path / "videos/03.mp4").write_text("another")
    assert videos_of(run_job(make_plan(config)))["03.mp4"]["attempts"] == 1
    assert not make_plan(config).is_done


@pytest.mark.parametrize("kind", ["io", "missing", "unreachable", "permission"])
def test_a_storage_that_fails_replaces_no_rows(
    kind: ErrorKind, config: RunConfig, ray: type[Cluster], tmp_path: Path
) -> None:
    run_job(make_plan(config))
    (tmp_path / "videos/03.mp4").write_text("changed")
    ray.fails = staticmethod(lambda name, node, before: kind)
    summary = run_job(make_plan(config))
    assert (summary.changed, summary.ok, summary.segments) == (1, VIDEOS, 2 * VIDEOS)
    assert [(failure.path, failure.kind) for failure in summary.failures] == [(str(tmp_path / "videos/03.mp4"), kind)]
    ray.fails = staticmethod(lambda name, node, before: None)
    summary = run_job(make_plan(config))
    assert (summary.changed, summary.segments, summary.failures) == (1, 2 * VIDEOS + 5, ())


def test_a_partial_video_keeps_its_rows_when_the_next_try_gives_fewer(
    config: RunConfig, ray: type[Cluster], tmp_path: Path
) -> None:
    ray.partial = "03.mp4"
    assert run_job(make_plan(config)).partial == 1
    ray.fails = staticmethod(lambda name, node, before: "timeout")
    for attempts in (2, 3):
        summary = run_job(make_plan(config))
        row = videos_of(summary)["03.mp4"]
        assert (row["status"], row["segments"], row["attempts"]) == ("partial", 2, attempts)
        assert (summary.retried, len(summary.failures), summary.segments) == (1, 1, 2 * VIDEOS)
    assert make_plan(config).is_done


def test_a_node_that_does_not_see_the_videos_hands_them_to_another(config: RunConfig, ray: type[Cluster]) -> None:
    ray.nodes = ("a", "b")
    ray.fails = staticmethod(lambda name, node, before: "missing" if node == "b" else None)
    summary = run_job(make_plan(config))
    assert (summary.ok, summary.failures, summary.segments) == (VIDEOS, (), 2 * VIDEOS)
    assert [len(names) for names in ray.passes] == [VIDEOS, VIDEOS // 2]
    assert ray.avoided == [set(), {"b"}]


def test_the_job_stops_and_can_be_continued_when_the_storage_fails_on_the_only_node(
    config: RunConfig, ray: type[Cluster]
) -> None:
    ray.fails = staticmethod(lambda name, node, before: "missing" if name >= "04.mp4" else None)
    with pytest.raises(JobError, match=r"^5 videos in a row could not be read; the last: .*/08.mp4 .*same command"):
        run_job(make_plan(config))
    ray.fails = staticmethod(lambda name, node, before: None)
    plan = make_plan(config)
    assert plan.changes.unchanged == 4
    assert (run_job(plan).ok, len(plan.todo)) == (VIDEOS, VIDEOS - 4)


def test_bad_sectors_under_many_videos_do_not_stop_the_job(config: RunConfig, ray: type[Cluster]) -> None:
    ray.fails = staticmethod(lambda name, node, before: "io" if name >= "03.mp4" else None)
    summary = run_job(make_plan(config))
    assert (summary.ok, [failure.kind for failure in summary.failures]) == (3, ["io"] * (VIDEOS - 3))
    assert [len(names) for names in ray.passes] == [VIDEOS, VIDEOS - 3, VIDEOS - 3]


def test_a_disk_that_does_not_answer_any_more_stops_the_job(
    config: RunConfig, ray: type[Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(config)
    monkeypatch.setattr("jobs.tagging.job_state.can_be_opened", lambda path: False)
    ray.fails = staticmethod(lambda name, node, before: "io")
    with pytest.raises(JobError, match=r"5 videos in a row could not be read; the last: .*/04.mp4 .*same command"):
        run_job(plan)


def test_videos_that_are_deleted_while_the_job_runs_do_not_stop_it(
    config: RunConfig, ray: type[Cluster], tmp_path: Path
) -> None:
    plan = make_plan(config)
    gone = [f"{number:02d}.mp4" for number in range(MAX_FAILURES_IN_A_ROW + 2)]
    for name in gone:
        (tmp_path / "videos" / name).unlink()
    ray.fails = staticmethod(lambda name, node, before: "missing" if name in gone else None)
    summary = run_job(plan)
    assert (summary.ok, len(summary.failures)) == (VIDEOS - len(gone), len(gone))
    assert [len(names) for names in ray.passes] == [VIDEOS]


def test_a_folder_that_vanishes_while_the_job_runs_stops_it(
    config: RunConfig, ray: type[Cluster], tmp_path: Path
) -> None:
    plan = make_plan(config)
    (tmp_path / "videos").rename(tmp_path / "unmounted")
    ray.fails = staticmethod(lambda name, node, before: "missing")
    with pytest.raises(JobError, match="5 videos in a row"):
        run_job(plan)
