"""Tests of collecting the rows of videos that are read in parts."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pytest

from jobs.archive.video import Version, Video
from jobs.tagging.finished.collector import Collector, FinishedVideo
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger.clips import VideoEnd
from tagger.errors import ErrorKind
from tagger.video.choose import Choice
from tagger.windows import Part

VERSION = Version(1000, 1, None)


def rows(windows: Sequence[int], end: PartEnd | None = None) -> pa.Table:
    """Returns the rows of windows of one second of video 0. The last row has the ``end``."""
    made = [
        {"video": 0, "window": at, "start_s": float(at), "end_s": at + 1.0, "end": None, "predict_s": 0.0}
        | {"decode_s": 0.0, "decode_cpu_s": 0.0, "decoded_at": 0.0, "predict_cpu_s": 0.0, "predicted_at": 0.0}
        for at in windows
    ]
    if end is not None:
        made[-1]["end"] = end.to_json()
    return pa.Table.from_pylist(made, SEGMENTS_SCHEMA)


def part_end(index: int, first: int, stop: int, positions: tuple[int, int] | None, of: int = 2) -> PartEnd:
    end = VideoEnd("ok", stop - first, choice=Choice("pyav"), positions=positions)
    return PartEnd(end, VERSION, Part(index, of), first, stop)


def collected(*tables: pa.Table) -> FinishedVideo:
    collector = Collector([Video("a.mp4", 1000, 1)])
    (video,) = [video for table in tables for video in collector.add(table)]
    assert collector.windows == len(video.segments)
    return video


def test_an_end_survives_the_way_through_json() -> None:
    end = part_end(1, 3, 5, (10, 20))
    assert PartEnd.from_json(json.dumps(asdict(end))) == end


def test_parts_that_follow_each_other_are_one_video() -> None:
    video = collected(rows([2, 3], part_end(1, 2, 4, (50, 99))), rows([0, 1], part_end(0, 0, 2, (0, 60))), rows([0, 1]))
    assert (video.end.status, video.end.windows) == ("ok", 4)
    assert video.segments["window"].to_pylist() == [0, 1, 2, 3]


def test_parts_with_a_stretch_of_the_file_between_them_are_read_whole() -> None:
    video = collected(rows([0, 1], part_end(0, 0, 2, (0, 60))), rows([2, 3], part_end(1, 2, 4, (61, 99))))
    assert video.failure is not None and "do not follow each other" in video.failure.reason


def test_parts_that_overlap_are_read_whole() -> None:
    video = collected(rows([0, 1, 2], part_end(0, 0, 3, (0, 60))), rows([2, 3], part_end(1, 2, 4, (50, 99))))
    assert video.failure is not None and "overlap" in video.failure.reason


@pytest.mark.parametrize("first_is_whole", [True, False])
def test_parts_of_readers_that_do_not_fit_together_are_read_whole(first_is_whole: bool) -> None:
    # The first part has all windows if its reader reads no parts, and other parts have none.
    ends = [part_end(0, 0, 4, None), part_end(1, 2, 4, (50, 99))]
    if not first_is_whole:
        ends = [part_end(0, 0, 2, (0, 60)), part_end(1, 0, 0, None)]
    tables = [rows(range(end.first, end.stop), end) for end in ends if end.end.windows]
    if not first_is_whole:
        table = rows([0], ends[1])
        tables.append(table.set_column(1, "window", pa.nulls(1, pa.int32())))
    video = collected(*tables)
    assert video.failure is not None and "a reader that does not read parts" in video.failure.reason


@pytest.mark.parametrize(("kind", "parts"), [("damaged", 1), ("crashed", 2)])
def test_a_damaged_video_that_cannot_be_read_in_parts_is_not_read_again(kind: ErrorKind, parts: int) -> None:
    partial = VideoEnd("partial", 2, error_kind=kind, error="it is cut off", decode_s=2.0)
    rest = rows([0], PartEnd(VideoEnd("ok", 0, decode_s=0.5), VERSION, Part(1, 2)))
    rest = rest.set_column(1, SEGMENTS_SCHEMA.field("window"), pa.nulls(1, pa.int32()))
    video = collected(rest, rows([0, 1], PartEnd(partial, VERSION, Part(0, 2), 0, 2)))
    assert (video.parts, video.end.status, video.end.error) == (parts, "partial", "it is cut off")
    assert (video.end.windows, video.end.decode_s) == (2, 2.5)


def test_rows_that_come_back_twice_count_once_in_the_progress() -> None:
    collector = Collector([Video("a.mp4", 1000, 1)])
    seconds = []
    for windows in ([0, 1], [4, 5], [0, 1], [2, 3], [4, 5]):
        collector.add(rows(windows))
        seconds.append(collector.video_s)
    assert seconds == [2.0, 4.0, 4.0, 6.0, 6.0]
    collector.forget_unfinished([0])
    assert (collector.video_s, collector.windows) == (0.0, 0)
