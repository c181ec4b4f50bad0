import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.archive.video import Version
from jobs.tagging.transport import (
    SEGMENTS_SCHEMA,
    WINDOWS_SCHEMA,
    PartEnd,
    clips_of,
    segments_table,
    span_to_table,
)
from tagger.clips import Span, VideoEnd
from tagger.segments import Segment
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tagger.windows import Window

SHAPE = (2, 3, 4, 3)
FACTS = VideoFacts("mp4", "h264", 4, 3, 29.97, 1.5, 45, 0.0, 1 / 15360, 90, True)
END = VideoEnd("partial", 3, FACTS, Choice("pyav", "why"), "damaged", "cut \udcff off", 0.25)


def make_span(first: int, count: int, end: VideoEnd | None = None) -> Span:
    clips = np.random.default_rng(first).integers(0, 256, (count, *SHAPE), np.uint8)
    return Span(tuple(Window(first + i, float(first + i), first + i + 0.5) for i in range(count)), clips, end)


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), data=st.data())
def test_any_slice_of_concatenated_tables_gives_back_its_clips(counts: list[int], data: st.DataObject) -> None:
    spans = [make_span(10 * i, count, END) for i, count in enumerate(counts)]
    table = pa.concat_tables([span_to_table(i, span, 0.1) for i, span in enumerate(spans)])
    if data.draw(st.booleans(), "combined"):
        table = table.combine_chunks()
    start = data.draw(st.integers(0, table.num_rows), "start")
    part = table.slice(start, data.draw(st.integers(0, table.num_rows - start), "length"))
    expected = {(i, w.index): clip for i, s in enumerate(spans) for w, clip in zip(s.windows, s.clips, strict=True)}
    rows = [row for row in part.select(["video", "window"]).to_pylist() if row["window"] is not None]

    clips = clips_of(part, SHAPE)

    assert clips.shape == (len(rows), *SHAPE)
    for row, clip in zip(rows, clips, strict=True):
        np.testing.assert_array_equal(clip, expected[row["video"], row["window"]])


def test_clips_are_not_copied_on_the_way_in_or_out() -> None:
    span = make_span(0, 3)
    table = span_to_table(7, span, 0.1)
    assert table.schema == WINDOWS_SCHEMA
    assert np.shares_memory(clips_of(table, SHAPE), span.clips)
    assert np.shares_memory(clips_of(table.slice(1, 1), SHAPE), span.clips[1])


def test_only_the_last_row_of_a_video_has_its_end_and_its_version() -> None:
    version = Version(2**40, 1_700_000_000_123_456_789, "s1:0123")
    column = span_to_table(0, make_span(0, 3, END), 0.3, version)["end"].to_pylist()
    assert column[:2] == [None, None]
    assert PartEnd.from_json(column[2]) == PartEnd(END, version)


def test_a_video_without_windows_is_one_row_without_a_clip() -> None:
    end = VideoEnd("failed", 0, None, None, "empty", "nothing there")
    table = span_to_table(5, make_span(0, 0, end), 0.1)
    (row,) = table.to_pylist()
    assert (row["video"], row["window"], row["clip"]) == (5, None, None)
    assert PartEnd.from_json(row["end"]) == PartEnd(end)


def test_segments_replace_the_clips_of_their_rows() -> None:
    failed = VideoEnd("failed", 0, None, None, "empty", "nothing there")
    table = pa.concat_tables([span_to_table(0, make_span(0, 1), 0.1), span_to_table(1, make_span(0, 0, failed), 0.1)])
    table = pa.concat_tables([table, span_to_table(2, make_span(4, 1, END), 0.1)])
    segments = [
        Segment(0, 0.0, 0.5, "a", 0.75, ("a", "b"), (0.75, 0.25), 0.125),
        Segment(4, 4.0, 4.5, "b", 1.0, ("b",), (1.0,)),
    ]

    result = segments_table(table, segments, 0.5, 0.25)

    assert result.schema == SEGMENTS_SCHEMA
    assert result["top_labels"].to_pylist() == [["a", "b"], None, ["b"]]
    assert result["top_confidences"].to_pylist() == [[0.75, 0.25], None, [1.0]]
    assert result["predict_s"].to_pylist() == [0.25, 0.0, 0.25]
    assert result["predict_cpu_s"].to_pylist() == [0.125, 0.0, 0.125]
    assert result["ood_score"].to_pylist() == [0.125, None, None]
    predicted = ["predict_s", "predict_cpu_s", "predicted_at", "ood_score", "top_labels", "top_confidences"]
    assert result.drop_columns(predicted).equals(table.drop_columns(["clip"]))

    vectors = np.array([[1, 0], [0.6, 0.8]], np.float16)
    embedded = segments_table(table, segments, 0.5, 0.25, vectors)
    assert embedded.drop_columns(["predicted_at", "embedding"]).equals(result.drop_columns(["predicted_at"]))
    assert embedded["embedding"].type == pa.list_(pa.float16(), 2)
    assert embedded["embedding"].to_pylist() == [vectors[0].tolist(), None, vectors[1].tolist()]


def test_a_table_without_segments_has_a_column_of_embeddings_as_well() -> None:
    table = span_to_table(1, make_span(0, 0, VideoEnd("failed", 0, None, None, "empty", "nothing there")), 0.1)
    embeddings = segments_table(table, [], 0.0, 0.0, np.empty((0, 8), np.float16))["embedding"]
    assert embeddings.type == pa.list_(pa.float16(), 8) and embeddings.to_pylist() == [None]
