"""Jobs on clusters of several nodes, which are child processes of the test process."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

import jobs.cluster.ray_versions
import tagger
from jobs.archive.gone import can_be_opened
from jobs.archive.video import Video, existing_paths
from jobs.cluster.nodes import NodeAnswer, check_nodes, find_problem, nodes_where, this_node
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import JobError
from jobs.tagging import pipeline
from jobs.tagging.decoding import MAX_FAILURES_IN_A_ROW, OutOfReachError, decode
from jobs.tagging.finished.collector import Collector
from jobs.tagging.pipeline import Workers, choose_workers, tag_videos
from jobs.tagging.tag_archive import CutOff, TaggingSettings, tag_archive
from jobs.tagging.transport import PartEnd
from tagger import find_model
from tagger.errors import ModelFileError
from tagger.tagger import ModelSource
from tests.clusters import cluster
from tests.videos import encode

VIDEOS = 60
WINDOWS = 4

HERE = tagger.__version__


def test_nodes_with_the_same_version_that_see_all_videos_are_no_problem() -> None:
    assert find_problem([NodeAnswer("10.0.0.1", HERE, ()), NodeAnswer("10.0.0.2", HERE, ())]) is None


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([NodeAnswer("10.0.0.2", HERE, ("/videos/a.mp4", "/videos/b.mp4"))], r"/videos/a.mp4 .* 10.0.0.2 .*s3://"),
        ([NodeAnswer("10.0.0.2", "0.0.1", ())], rf"vtag {HERE} is not installed on 10.0.0.2 \(found: 0.0.1\)"),
        ([NodeAnswer("10.0.0.2", None, ("/videos/a.mp4",))], rf"vtag {HERE} is not .* \(found: none\); install"),
        ([NodeAnswer("10.0.0.2")], r"10.0.0.2 of the cluster did not answer .*ray status"),
        ([NodeAnswer(f"10.0.0.{i}", HERE, ("/a.mp4",)) for i in range(2, 10)], r"10.0.0.2, .*, 10.0.0.6 and 3 more"),
    ],
)
def test_a_problem_is_one_line_that_names_the_nodes(answers: list[NodeAnswer], words: str) -> None:
    problem = find_problem([NodeAnswer("10.0.0.1", HERE, ()), *answers])
    assert problem is not None and "\n" not in problem
    assert re.search(words, problem)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """Many links to one video of four windows, and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    clip = encode(folder / "clip.mp4", seconds=7, rate=10)
    for i in range(VIDEOS - 1):
        (folder / f"{i:02d}.mp4").symlink_to(clip)
    (folder / "text.mp4").write_text("not a video")
    paths = sorted(path for path in folder.iterdir() if path != clip)
    return [Video(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


TIMES = ["decode_s", "decode_cpu_s", "decoded_at", "predict_s", "predict_cpu_s", "predicted_at"]


def tag_with_two_actors(session: RaySession, send_event: SendEvent, videos: list[Video], source: ModelSource) -> None:
    workers = replace(choose_workers(cpus=2, gpus=0, device="cpu"), actors=2)
    for table in tag_videos(videos, source, source.info.sampling, workers, top_k=2):
        send_event(table)


def tag(
    address: str, videos: list[Video], source: ModelSource, on_rows: Callable[[int], None] = lambda rows: None
) -> dict[Any, Any]:
    """Tags the videos. Returns all rows by video and window, without times. A repeated row must be the same."""
    rows: dict[Any, Any] = {}

    def add(table: pa.Table) -> None:
        for row in table.drop_columns(TIMES).to_pylist():
            if row["end"] is not None:
                read = PartEnd.from_json(row["end"])
                end, version = read.end, read.version
                row["end"] = (replace(end, decode_s=0.0), version)
            key = (row["video"], row["window"])
            assert rows.setdefault(key, row) == row
        on_rows(len(rows))

    run_on_ray("tagging", tag_with_two_actors, videos, source, on_event=add, address=address)
    return rows


@pytest.fixture(scope="module")
def single_node_rows(ray_address: str, videos: list[Video], model_file: Path) -> dict[Any, Any]:
    """The rows of the videos from a Ray of one node."""
    rows = tag(ray_address, videos, find_model(str(model_file)))
    assert len(rows) == (VIDEOS - 1) * WINDOWS + 1
    return rows


def once(action: Callable[[], None], after: int) -> Callable[[int], None]:
    """Returns a function that calls ``action`` once, as soon as ``after`` rows have arrived."""
    done = []

    def on_rows(rows: int) -> None:
        if rows >= after and not done:
            done.append(True)
            action()

    return on_rows


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes with a CPU each, which notices within seconds that a node is gone."""
    health = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    with cluster(1, 1, _system_config=health) as nodes:
        yield nodes


def check_a_path_that_only_the_driver_sees(session: RaySession, send_event: SendEvent, videos: list[Video]) -> None:
    check_nodes(existing_paths(videos))
    # This path exists only in this process.
    os.dup2(os.open(videos[0].path, os.O_RDONLY), 500)
    check_nodes([*existing_paths(videos), "/proc/self/fd/500"])


def check_with_another_version(session: RaySession, send_event: SendEvent, videos: list[Video]) -> None:
    tagger.__version__ = "99.0"
    check_nodes(existing_paths(videos))


@pytest.mark.slow
def test_a_cluster_without_the_model_that_loses_a_node_gives_the_rows_of_one_node(
    two_nodes: Any, videos: list[Video], model_file: Path, single_node_rows: dict[Any, Any]
) -> None:
    address = two_nodes.address
    with pytest.raises(JobError, match=r"/proc/self/fd/500 cannot be seen from \S+ of the cluster"):
        run_on_ray("tagging", check_a_path_that_only_the_driver_sees, videos, address=address)
    with pytest.raises(JobError, match=r"vtag 99.0 is not installed"):
        run_on_ray("tagging", check_with_another_version, videos, address=address)

    kill = once(lambda: two_nodes.remove_node(two_nodes.last, allow_graceful=False), after=40)
    # The nodes have another model in the place of the built-in one.
    source = replace(find_model(str(model_file)), is_builtin=True)
    assert tag(address, videos, source, kill) == single_node_rows


def decode_and_log(log: str, blind: str) -> Callable[..., Iterator[pa.Table]]:
    """Returns a decoding task that logs each node and video. The node with the id ``blind`` looks in another folder.

    The task is nested, so that Ray sends its code: the workers may not find this module.
    """

    def decode_batch(batch: pa.Table, **settings: Any) -> Iterator[pa.Table]:
        node = this_node()
        for i in range(batch.num_rows):
            video = batch.slice(i, 1)
            name = os.fsdecode(video["path"][0].as_py())
            with Path(log).open("a") as file:
                file.write(f"{node} {name}\n")
            if node == blind:
                video = video.set_column(1, "path", pa.array([os.fsencode(f"/unmounted{name}")]))
            try:
                yield from decode(video, **settings)
            except OutOfReachError as error:
                error.video = name
                raise

    return decode_batch


def tag_with_a_blind_node(
    session: RaySession, send_event: SendEvent, videos: list[Video], source: ModelSource, log: str, takes_options: bool
) -> None:
    """Sends the ids of the nodes, what came back of a chunk, of the next one, and of one that avoids the other node."""
    import ray

    jobs.cluster.ray_versions.HAS_REMOTE_ARGUMENTS = takes_options
    here, blind = sorted((node["NodeID"] for node in ray.nodes()), key=lambda node: node != this_node())
    pipeline.decode = decode_and_log(log, blind)
    settings = TaggingSettings("cpu", "auto", "auto", None, 2, None, "auto")
    workers = replace(choose_workers(cpus=2, gpus=0, device="cpu"), actors=2)

    def tag(numbers: list[int], avoided: set[str]) -> tuple[list[int], set[str]]:
        """Returns the numbers of the videos that are finished and not missing, and the nodes that were cut off."""
        collector, finished, cut_off = Collector(videos), [], set()

        def take(event: Workers | CutOff | pa.Table) -> None:
            if isinstance(event, CutOff):
                cut_off.update(event.nodes)
            elif isinstance(event, pa.Table):
                finished.extend(video for video in collector.add(event) if video.end.error_kind != "missing")

        chunk = [videos[number] for number in numbers]
        tag_archive(session, take, chunk, numbers, source, source.info.sampling, settings, workers, avoided)
        return [video.number for video in finished], cut_off

    send_event((here, blind))
    assert nodes_where(can_be_opened, videos[0].path, {here, blind}) == {here, blind}
    assert nodes_where(can_be_opened, f"{log}\udcff", {here, blind}) == set()
    everything = list(range(len(videos)))
    done, cut_off = tag(everything, set())
    send_event((done, cut_off))
    done, cut_off = tag([number for number in everything if number not in done], cut_off)
    send_event((done, cut_off, Path(log).read_text()))
    pipeline.decode = decode_and_log(log, blind="")
    done, cut_off = tag(everything, {here})
    send_event((done, cut_off, Path(log).read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("takes_options", [True, False])
def test_a_node_that_cannot_reach_the_videos_ends_the_chunk_and_decodes_no_more(
    takes_options: bool, two_nodes: Any, videos: list[Video], model_file: Path, tmp_path: Path
) -> None:
    from ray.data import ExecutionOptions

    if not takes_options and not hasattr(ExecutionOptions(), "label_selector"):
        pytest.skip("this Ray has no label selector for all steps")
    events: list[Any] = []
    source, log = find_model(str(model_file)), tmp_path / "log"
    run_on_ray(
        "tagging",
        tag_with_a_blind_node,
        videos,
        source,
        str(log),
        takes_options,
        on_event=events.append,
        address=two_nodes.address,
    )
    (here, blind), (first, cut_off), (second, none, log_2), (third, still_none, log_3) = events
    assert (cut_off, none, still_none) == ({blind}, set(), set())
    # Two tasks decode at a time, and each stops after five videos.
    assert MAX_FAILURES_IN_A_ROW <= log_2.count(blind) <= 2 * MAX_FAILURES_IN_A_ROW
    assert sorted(first + second) == sorted(third) == list(range(VIDEOS))
    read_again = log_3[len(log_2) :]
    assert (read_again.count(here), read_again.count(blind)) == (0, VIDEOS)


def kill_one(*words: str) -> None:
    """Kills the first process below this one whose command line has all the words. Waits for such a process."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if all(word in line for word in words):
                    process.kill()
                    return
        time.sleep(0.02)
    raise AssertionError(f"there was no process of {words}")


@pytest.mark.slow
def test_a_run_survives_when_processes_of_every_kind_are_killed(
    ray_address: str, videos: list[Video], model_file: Path, single_node_rows: dict[Any, Any]
) -> None:
    def kill_decoders() -> None:
        for _ in range(2):
            kill_one("tagger.isolation.child")
            kill_one("ray::", "MapBatches(decode)")

    with ThreadPoolExecutor(1) as thread:
        killed = thread.submit(kill_decoders)
        kill_actor = once(lambda: kill_one("ray::", "Predictor"), after=1)
        rows = tag(ray_address, videos, find_model(str(model_file)), kill_actor)
        killed.result()
    assert without_readers(rows) == without_readers(single_node_rows)
    # A video that was being read when its decoder process was killed is read once more, and its row says so.
    again = [row["end"][0].choice for key, row in rows.items() if row != single_node_rows[key]]
    assert len(again) <= 2
    assert all(choice.decoder == "pyav" and "SIGKILL" in choice.reason for choice in again)


def without_readers(rows: dict[Any, Any]) -> dict[Any, Any]:
    """``rows`` without the choice of the decoder."""
    return {
        key: row if row["end"] is None else {**row, "end": (replace(row["end"][0], choice=None), row["end"][1])}
        for key, row in rows.items()
    }


def test_a_model_is_sent_as_its_file_and_identified_by_its_hash(model_file: Path, tmp_path: Path) -> None:
    source = find_model(str(model_file))
    assert source.is_here()
    elsewhere = replace(source, file=Path("/nowhere/tiny.safetensors"))
    elsewhere.__dict__["hash"] = source.hash  # As it is sent to another process.
    assert not elsewhere.is_here()
    unpacked = elsewhere.with_file_from(source.content(), tmp_path)
    assert unpacked.is_here()
    unpacked.load("cpu")
    with pytest.raises(ModelFileError, match="damaged on their way"):
        elsewhere.with_file_from(source.content()[:-1], tmp_path)
    unpacked.file.write_bytes(b"another model")
    with pytest.raises(ModelFileError, match="replaced by another model"):
        unpacked.content()
