"""A storage that fails costs no rows: its videos are read again, on another node, in this run and in the next ones."""

import json
import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.exceptions import RayTaskError

from jobs.archive.video import Video
from jobs.cluster.ray_driver import explain
from jobs.cluster.ray_session import RaySession
from jobs.errors import JobError
from jobs.tagging import decoding, run, tag_archive
from jobs.tagging.decoding import MAX_FAILURES_IN_A_ROW, Reach
from jobs.tagging.job_state import MAX_TRIES
from jobs.tagging.pipeline import Workers
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger.clips import VideoEnd
from tagger.errors import ErrorKind
from tests.jobs.tagging.killed import DriverWithoutRay, rows_of

VIDEOS = 12

Fails = Callable[[str, str, int], ErrorKind | None]
"""Gives the error of a video, by its file name, the node, and the number of times that it was read before."""


def failed_rows(number: int, end: VideoEnd) -> pa.Table:
    row = {"video": number, "end": PartEnd(end).to_json()}
    return pa.Table.from_pylist([row], SEGMENTS_SCHEMA)


def stale_row(number: int, video: Video) -> pa.Table:
    row = rows_of(number, video).slice(0, 1).to_pylist()[0] | {"top_labels": ["stale", "other"]}
    return pa.Table.from_pylist([row], SEGMENTS_SCHEMA)


def partial_rows(number: int, video: Video) -> pa.Table:
    rows = rows_of(number, video).to_pylist()
    end = json.loads(rows[-1]["end"])
    end["end"] |= {"status": "partial", "error_kind": "timeout", "error": "no frame for too long"}
    rows[-1]["end"] = json.dumps(end)
    return pa.Table.from_pylist(rows, SEGMENTS_SCHEMA)


class Cluster(DriverWithoutRay):
    """A Ray of one or more nodes. Each reads every other video, but the avoided ones read none.

    ``passes`` are the names that each chunk has read, ``read_on`` the same by node, and ``avoided`` the nodes that each
    chunk avoids. ``with_rows_in_flight``: when a chunk ends early, a row of the next video has come back already, and
    is out of date.
    """

    nodes: tuple[str, ...] = ("a",)
    fails: Fails = staticmethod(lambda name, node, before: None)
    partial: str | None = None
    with_rows_in_flight = False
    passes: list[list[str]]
    read_on: dict[str, list[str]]
    avoided: list[set[str]]

    def events(  # type: ignore[override]
        self, work: Callable[..., None], *arguments: object, timeout_s: float
    ) -> Iterator[Any]:
        sent: list[Any] = []
        try:
            work(RaySession(2.0, 0.0), sent.append, *arguments)
        except JobError as error:
            yield from sent
            raise pickle.loads(pickle.dumps(explain(error, "tagging"))) from None
        yield from sent

    @classmethod
    def tag_videos(
        cls, videos: Sequence[Video], *_: object, numbers: Sequence[int], avoided: Collection[str], **__: object
    ) -> Iterator[pa.Table]:
        cls.avoided.append(set(avoided))
        before = [name for names in cls.passes for name in names]
        cls.passes.append([])
        reach = {node: Reach() for node in cls.nodes}
        for i, (number, video) in enumerate(zip(numbers, videos, strict=True)):
            nodes = [node for node in cls.nodes if node not in avoided]
            node, name = nodes[i % len(nodes)], Path(video.path).name
            cls.passes[-1].append(name)
            cls.read_on.setdefault(node, []).append(name)
            kind = cls.fails(name, node, before.count(name))
            if kind is not None:
                end = VideoEnd("failed", 0, error_kind=kind, error=f"{video.path} cannot be read: {kind}")
                try:
                    reach[node].check(video.path, end, was_listed=bool(video.size), node=node)
                except JobError as error:
                    if cls.with_rows_in_flight:
                        yield stale_row(numbers[i + 1], videos[i + 1])
                    # As it comes from a task of Ray.
                    sent = pickle.loads(pickle.dumps(error))
                    raise RayTaskError("decode", "a traceback", sent).as_instanceof_cause() from None
                yield failed_rows(number, end)
                continue
            made = partial_rows if name == cls.partial else rows_of
            yield made(number, video)

    @classmethod
    def nodes_where(cls, question: object, name: str, nodes: Iterable[str]) -> set[str]:
        return {node for node in nodes if cls.fails(Path(name).name, node, 0) is None}


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> type[Cluster]:
    """Replaces Ray by nodes that a test can make fail."""

    nodes = type("Nodes", (Cluster,), {"passes": [], "read_on": {}, "avoided": []})
    monkeypatch.setattr(run, "RayDriver", nodes)
    monkeypatch.setattr(run, "RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(tag_archive, "_workers", lambda *_: Workers("cpu", 1, 1, 0.5, 0.0, 2, 0.5))
    monkeypatch.setattr(tag_archive, "tag_videos", nodes.tag_videos)
    monkeypatch.setattr(tag_archive, "nodes_where", nodes.nodes_where)
    monkeypatch.setattr(tag_archive, "decoding_nodes", lambda: set(nodes.nodes))
    return nodes


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A job on twelve videos."""
    return make_config(tmp_path, VIDEOS)


def make_config(tmp_path: Path, videos: int) -> RunConfig:
    for number in range(videos):
        path = tmp_path / "videos" / f"{number:02d}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_text("ab")
    return RunConfig((str(tmp_path / "videos"),), tmp_path / "tags.parquet")


def videos_of(summary: Summary) -> dict[str, dict]:
    return {Path(row["video"]).name: row for row in pq.read_table(summary.videos_out).to_pylist()}


def labels_of(summary: Summary) -> set[str]:
    return set(pq.read_table(summary.out)["top_labels"].combine_chunks().flatten().to_pylist()) - {"other"}


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
    # The first chunk ends with the fifth failure, the second has the unfinished videos, the third those that failed.
    assert [len(names) for names in ray.passes] == [10, 3, 4]
    assert ray.avoided == [set(), {"b"}, {"b"}]


@pytest.mark.parametrize("kind", ["missing", "io"])
def test_a_mount_that_goes_away_on_one_node_in_the_middle_of_a_chunk_costs_five_failures_and_no_row(
    kind: ErrorKind, ray: type[Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = 300
    ray.nodes, ray.with_rows_in_flight = ("a", "b", "c"), True
    ray.fails = staticmethod(lambda name, node, before: kind if node == "b" and name >= "100.mp4" else None)
    monkeypatch.setattr(decoding, "can_be_opened", lambda path: False)
    summary = run_job(make_plan(make_config(tmp_path, videos)))
    assert (summary.ok, summary.failures, summary.segments) == (videos, (), 2 * videos)
    assert (summary.windows_done, len(videos_of(summary))) == (2 * videos, videos)
    assert labels_of(summary) == {"a", "b"}
    failed = [name for name in ray.read_on["b"] if name >= "100.mp4"]
    assert len(failed) == MAX_FAILURES_IN_A_ROW
    # Only the failed videos are read again.
    assert sum(map(len, ray.passes)) == videos + MAX_FAILURES_IN_A_ROW
    assert ray.avoided == [set(), {"b"}, {"b"}]


def test_bad_sectors_of_a_shared_disk_shut_out_no_node(config: RunConfig, ray: type[Cluster]) -> None:
    ray.nodes = ("a", "b")
    ray.fails = staticmethod(lambda name, node, before: "io" if name >= "01.mp4" else None)
    summary = run_job(make_plan(config))
    assert (summary.ok, [failure.kind for failure in summary.failures]) == (1, ["io"] * (VIDEOS - 1))
    assert ray.avoided == [set()] * MAX_TRIES


@pytest.mark.parametrize("kind", ["missing", "io"])
def test_a_storage_that_is_down_for_all_nodes_stops_the_job_at_once(
    kind: ErrorKind, ray: type[Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.nodes = ("a", "b", "c")
    ray.fails = staticmethod(lambda name, node, before: kind)
    monkeypatch.setattr(decoding, "can_be_opened", lambda path: False)
    plan = make_plan(make_config(tmp_path, 60))
    with pytest.raises(JobError, match=r"^5 videos in a row could not be read; the last: .*/12.mp4 .*same command"):
        run_job(plan)
    assert len(ray.passes) == 1


def test_nodes_that_have_left_the_cluster_do_not_count(ray: type[Cluster], tmp_path: Path) -> None:
    videos = 60
    ray.nodes = ("a", "b", "c")

    def fails(name: str, node: str, before: int) -> ErrorKind | None:
        if ray.avoided[-1] == {"b"}:
            ray.nodes = ("a", "c")
            return "missing" if node == "a" else None
        return "missing" if node in ray.avoided[-1] | {"b"} else None

    ray.fails = staticmethod(fails)
    summary = run_job(make_plan(make_config(tmp_path, videos)))
    assert (summary.ok, summary.failures, summary.segments) == (videos, (), 2 * videos)
    assert ray.avoided[:3] == [set(), {"b"}, {"a", "b"}]


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
    monkeypatch.setattr(decoding, "can_be_opened", lambda path: False)
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
