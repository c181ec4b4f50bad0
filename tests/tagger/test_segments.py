"""Tests of segments, the rows of the result."""

import numpy as np
import pyarrow as pa
import pytest

from tagger.schema import TAGS_SCHEMA
from tagger.segments import Segment, make_segments
from tagger.windows import Window

LABELS = ("run", "jump", "swim", "rest")
WINDOWS = (Window(0, 0.0, 2.0), Window(1, 2.0, 3.5))


def probabilities(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_a_segment_is_a_window_with_its_best_labels_first() -> None:
    first, second = make_segments(
        WINDOWS, probabilities([0.1, 0.2, 0.65, 0.05], [0.5, 0.125, 0.25, 0.125]), LABELS, top_k=3
    )
    assert (first.index, first.start_s, first.end_s) == (0, 0.0, 2.0)
    assert first.top_labels == ("swim", "jump", "run")
    assert first.top_confidences == pytest.approx((0.65, 0.2, 0.1))
    assert second == Segment(1, 2.0, 3.5, "run", 0.5, ("run", "swim", "jump"), (0.5, 0.25, 0.125))


def test_the_label_is_the_first_of_the_best() -> None:
    for segment in make_segments(WINDOWS, probabilities([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]), LABELS, top_k=2):
        assert segment.label == segment.top_labels[0]
        assert segment.confidence == segment.top_confidences[0]


def test_equal_confidences_keep_the_order_of_the_labels() -> None:
    equal = make_segments(WINDOWS[:1], probabilities([0.25] * 4), LABELS, top_k=4)
    assert equal[0].top_labels == LABELS
    tied = make_segments(WINDOWS[:1], probabilities([0.1, 0.4, 0.1, 0.4]), LABELS, top_k=4)
    assert tied[0].top_labels == ("jump", "rest", "run", "swim")


@pytest.mark.parametrize("top_k", [4, 5, 400])
def test_asking_for_more_labels_than_there_are_gives_all(top_k: int) -> None:
    (segment,) = make_segments(WINDOWS[:1], probabilities([0.1, 0.2, 0.3, 0.4]), LABELS, top_k)
    assert segment.top_labels == ("rest", "swim", "jump", "run")


def test_a_segment_has_the_score_of_its_window_or_none() -> None:
    rows = probabilities([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1])
    scored = make_segments(WINDOWS, rows, LABELS, 1, np.array([0.25, 1.0], np.float32))
    assert [segment.ood_score for segment in scored] == [0.25, 1.0]
    assert [segment.ood_score for segment in make_segments(WINDOWS, rows, LABELS, 1)] == [None, None]


def test_no_windows_make_no_segments() -> None:
    assert make_segments([], np.empty((0, 4), np.float32), LABELS, top_k=5) == []


def test_windows_and_probabilities_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_segments(WINDOWS, probabilities([0.1, 0.2, 0.3, 0.4]), LABELS, top_k=1)


def test_a_segment_fits_the_table_of_tags() -> None:
    (segment,) = make_segments(WINDOWS[:1], probabilities([0.1, 0.2, 0.3, 0.4]), LABELS, top_k=2)
    row = {
        "video": "a.mp4",
        "segment": segment.index,
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "label": segment.label,
        "confidence": segment.confidence,
        "ood_score": segment.ood_score,
        "top_labels": segment.top_labels,
        "top_confidences": segment.top_confidences,
    }
    table = pa.Table.from_pylist([row], schema=TAGS_SCHEMA)
    assert table.column_names == list(row)
    assert table.to_pylist()[0]["top_labels"] == ["rest", "swim"]
