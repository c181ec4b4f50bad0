"""Labels of a live picture are those that ``vtag events`` gives for its segments."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.browse.events import Rules, events_of
from jobs.browse.segments import Segments, TopLabels
from jobs.watching.smoother import Moment, Smoother
from tagger import LiveSegment, Sampling
from tests.jobs.watching.made_up import LABELS, SAMPLING, labelled, made_up


def smoothed(segments: list[LiveSegment], rules: Rules, sampling: Sampling) -> dict[int, Moment]:
    """Returns the moments by their number. The last one of a number counts."""
    smoother = Smoother(sampling, LABELS, rules)
    found = {}
    for segment in segments:
        found |= {moment.index: moment for moment in smoother.push(segment)}
    return found | {moment.index: moment for moment in smoother.finish()}


def merged(moments: dict[int, Moment]) -> list[tuple[float, float, str]]:
    """Returns neighbouring moments of one label as one."""
    rows: list[tuple[float, float, str]] = []
    for _, moment in sorted(moments.items()):
        if moment.label is None:
            continue
        if rows and rows[-1][2] == moment.label and moment.start_s - rows[-1][1] < 1e-3:
            rows[-1] = (rows[-1][0], moment.end_s, moment.label)
        else:
            rows.append((moment.start_s, moment.end_s, moment.label))
    return rows


def by_events(segments: list[LiveSegment], rules: Rules) -> list[tuple[float, float, str]]:
    numbers = {label: number for number, label in enumerate(LABELS)}
    sizes = [len(segment.top_labels) for segment in segments]
    top = TopLabels(
        np.concatenate([[0], np.cumsum(sizes)]),
        np.array([numbers[label] for segment in segments for label in segment.top_labels], np.int32),
        np.array([each for segment in segments for each in segment.top_confidences], np.float32),
    )
    table = events_of(
        Segments(
            videos=pa.array(["/v/a.mp4"]),
            first=np.array([0, len(segments)]),
            segment=np.array([segment.index for segment in segments], np.int32),
            start_s=np.array([segment.start_s for segment in segments]),
            end_s=np.array([segment.end_s for segment in segments]),
            labels=list(LABELS),
            label=np.array([numbers[segment.label] for segment in segments], np.int32),
            confidence=np.array([segment.confidence for segment in segments], np.float32),
            top=top,
        ),
        rules,
    )
    return [(row["start_s"], row["end_s"], row["label"]) for row in table.to_pylist()]


PROBABILITIES = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.45, 0.6, 0.9]), min_size=3, max_size=3, unique=True)


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 4]), PROBABILITIES), min_size=1, max_size=25),
    smooth=st.sampled_from([1, 3, 5]),
    hop_s=st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]),
    min_confidence=st.sampled_from([0.0, 0.4]),
)
def test_moments_are_the_events_of_the_segments(
    rows: list[tuple[int, list[float]]], smooth: int, hop_s: float, min_confidence: float
) -> None:
    sampling = replace(SAMPLING, hop_s=hop_s)
    rules = Rules(smooth=smooth, min_confidence=min_confidence)
    indices = np.cumsum([step for step, _ in rows])
    segments = [made_up(int(index), values, sampling) for index, (_, values) in zip(indices, rows, strict=True)]
    found = merged(smoothed(segments, rules, sampling))
    expected = by_events(segments, rules)
    assert [row[2] for row in found] == [row[2] for row in expected]
    assert np.allclose([row[:2] for row in found], [row[:2] for row in expected])


@pytest.mark.parametrize(("smooth", "late"), [(1, 0), (3, 1), (5, 2)])
def test_a_label_is_known_as_soon_as_the_windows_that_vote_are_there(smooth: int, late: int) -> None:
    smoother = Smoother(SAMPLING, LABELS, Rules(smooth=smooth))
    for segment in labelled(*["Biking"] * 6):
        moments = smoother.push(segment)
        assert [moment.index for moment in moments] == ([segment.index - late] if segment.index >= late else [])


def test_one_odd_window_is_smoothed_away() -> None:
    segments = labelled("Biking", "Biking", "Biking", "Diving", "Biking", "Biking", "Biking")
    found = smoothed(segments, Rules(smooth=5), SAMPLING)
    assert {moment.label for moment in found.values()} == {"Biking"}


def test_a_moment_tells_when_it_was_seen() -> None:
    (segment,) = labelled("Swing", first=7)
    (moment,) = Smoother(SAMPLING, LABELS, Rules()).push(segment)
    assert (moment.start_s, moment.end_s, moment.label) == (7.0, 8.0, "Swing")
    assert (segment.ended_at - moment.started_at).total_seconds() == pytest.approx(2.0)


def test_a_label_that_is_not_confident_enough_is_none() -> None:
    rules = Rules(label_confidences={"Diving": 0.9})
    found = smoothed(labelled("Diving", "Swing", "Swing", "Swing"), rules, SAMPLING)
    assert [moment.label for _, moment in sorted(found.items())][0::3] == [None, "Swing"]


def test_memory_does_not_grow() -> None:
    smoother = Smoother(SAMPLING, LABELS, Rules(smooth=3))
    for segment in labelled(*["Biking"] * 500):
        smoother.push(segment)
    assert len(smoother._recent) < 10
