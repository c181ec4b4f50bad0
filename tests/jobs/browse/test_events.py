"""Events: neighbouring segments of one label, merged."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.browse import events as events_module
from jobs.browse import segments as segments_module
from jobs.browse.events import EVENTS_SCHEMA, Rules, events_of, find_events
from jobs.browse.segments import Segments, open_result
from tests.jobs.browse.made_up import LABELS, Video, make_segments, make_video
from tests.jobs.result.finished import publish_to

RULES = st.builds(
    Rules,
    smooth=st.sampled_from([1, 3, 5]),
    min_confidence=st.sampled_from([0.0, 0.25, 0.5]),
    label_confidences=st.sampled_from([{}, {"Biking": 0.75}, {"Swing": 0.0, "background": 0.5}]),
    min_duration_s=st.sampled_from([0.0, 2.0, 3.5]),
    max_gap_s=st.sampled_from([0.0, 1.0, 4.0]),
    background=st.booleans(),
    only=st.sampled_from([None, frozenset({"Biking"}), frozenset({"Diving", "background"})]),
)


@st.composite
def videos(draw: st.DrawFn) -> list[Video]:
    """Videos with windows side by side, overlapping or apart, some of which could not be read."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        window_s, hop_s = draw(st.sampled_from([(2.0, 2.0), (2.0, 1.0), (2.0, 0.75), (2.0, 3.0)]))
        windows = sorted(draw(st.sets(st.integers(0, 14), min_size=1, max_size=12)))
        # Sums of sixty-fourths are exact, so a mean is the same in whatever order they are added.
        shares = st.lists(st.integers(1, 64), min_size=len(LABELS), max_size=len(LABELS))
        rows = draw(st.lists(shares, min_size=len(windows), max_size=len(windows)))
        found.append((f"/v/{number}.mp4", window_s, hop_s, windows, np.array(rows) / 64))
    return found


def rows_of(segments: Segments) -> Iterator[tuple[str, range]]:
    for name, first, end in zip(segments.videos.to_pylist(), segments.first[:-1], segments.first[1:], strict=True):
        yield name, range(first, end)


def stretch_end_s(segments: Segments, row: int, rows: range) -> float:
    next_s = segments.start_s[row + 1] if row + 1 in rows else np.inf
    return min(segments.end_s[row], next_s)


def voted(segments: Segments, row: int, rows: range, smooth: int) -> tuple[int, np.float32]:
    """Label and confidence of the stretch of a row, from every segment of the video, one by one."""
    middle_s = (segments.start_s[row] + stretch_end_s(segments, row, rows)) / 2
    unbroken = [r for r in rows if segments.segment[r] - segments.segment[row] == r - row]
    covering = [r for r in unbroken if segments.start_s[r] <= middle_s < segments.end_s[r]]
    voters = [r for r in unbroken if covering[0] - smooth // 2 <= r <= covering[-1] + smooth // 2]
    sums = np.zeros(len(LABELS))
    for voter in voters:
        entries = slice(segments.top.bounds[voter], segments.top.bounds[voter + 1])
        sums[segments.top.label[entries]] += segments.top.confidence[entries]
    return int(sums.argmax()), np.float32(sums.max() / len(voters))


def events_one_by_one(segments: Segments, rules: Rules) -> list[dict[str, Any]]:
    """The events of segments, by the plainest of programs."""
    found = []
    for name, rows in rows_of(segments):
        of_video: list[dict[str, Any]] = []
        for row in rows:
            number, confidence = voted(segments, row, rows, rules.smooth)
            label = LABELS[number]
            limit = np.float32(rules.label_confidences.get(label, rules.min_confidence))
            is_left_out = label == "background" and not rules.background
            if confidence < limit or is_left_out or (rules.only is not None and label not in rules.only):
                continue
            start_s = segments.start_s[row]
            before = [event for event in of_video if event["label"] == label]
            if before and start_s - before[-1]["end_s"] <= rules.max_gap_s:
                before[-1]["end_s"] = stretch_end_s(segments, row, rows)
                before[-1]["confidences"].append(confidence)
            else:
                event = {"video": name, "start_s": start_s, "end_s": stretch_end_s(segments, row, rows)}
                of_video.append(event | {"label": label, "confidences": [confidence]})
        found += [event for event in of_video if event["end_s"] - event["start_s"] >= rules.min_duration_s]
    return found


@given(videos(), RULES)
def test_events_are_those_of_a_plain_program(made: list[Video], rules: Rules) -> None:
    segments = make_segments(made)
    found = events_of(segments, rules).to_pylist()
    expected = events_one_by_one(segments, rules)
    assert [[e["video"], e["start_s"], e["end_s"], e["label"]] for e in found] == [
        [e["video"], e["start_s"], e["end_s"], e["label"]] for e in expected
    ]
    assert [e["segments"] for e in found] == [len(e["confidences"]) for e in expected]
    assert [e["peak_confidence"] for e in found] == [max(e["confidences"]) for e in expected]
    assert [e["confidence"] for e in found] == pytest.approx([np.mean(e["confidences"]) for e in expected])


@given(videos(), RULES)
def test_events_of_a_label_never_overlap(made: list[Video], rules: Rules) -> None:
    ends: dict[tuple[str, str], float] = {}
    for event in events_of(make_segments(made), rules).to_pylist():
        key = event["video"], event["label"]
        assert ends.get(key, 0.0) <= event["start_s"] < event["end_s"]
        ends[key] = event["end_s"]


@given(videos(), st.sampled_from([1, 3]))
def test_without_limits_events_partition_the_segments(made: list[Video], smooth: int) -> None:
    segments = make_segments(made)
    found = events_of(segments, Rules(smooth=smooth)).to_pylist()
    assert sum(event["segments"] for event in found) == len(segments)
    for name, rows in rows_of(segments):
        events = [event for event in found if event["video"] == name]
        for row in rows:
            start_s, end_s = segments.start_s[row], stretch_end_s(segments, row, rows)
            assert [e["start_s"] <= start_s and end_s <= e["end_s"] for e in events].count(True) == 1
        assert all(a["end_s"] <= b["start_s"] for a, b in itertools.pairwise(events))


@given(videos(), RULES)
def test_without_a_gap_events_cover_only_segments_that_passed(made: list[Video], rules: Rules) -> None:
    segments = make_segments(made)
    strict = Rules(rules.smooth, rules.min_confidence, rules.label_confidences)
    total_s = sum(event["end_s"] - event["start_s"] for event in events_of(segments, strict).to_pylist())
    passed_s = 0.0
    for _, rows in rows_of(segments):
        for row in rows:
            number, confidence = voted(segments, row, rows, strict.smooth)
            if confidence >= np.float32(strict.lowest_confidence(LABELS[number])):
                passed_s += stretch_end_s(segments, row, rows) - segments.start_s[row]
    assert total_s == pytest.approx(passed_s)


def test_overlapping_windows_vote(tmp_path: Path) -> None:
    sure, unsure = {"Biking": 0.875, "Diving": 0.125}, {"Diving": 0.5625, "Biking": 0.4375}
    windows = [sure, unsure, sure, unsure, unsure]
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", windows, window_s=2.0, hop_s=1.0)])
    found = pa.concat_tables(find_events(open_result(str(tmp_path / "t.parquet")), Rules())).to_pylist()
    # The second to the fourth second are in a window of each kind: 0.65625 for Biking.
    assert [(e["start_s"], e["end_s"], e["label"], e["segments"]) for e in found] == [
        (0.0, 4.0, "Biking", 4),
        (4.0, 6.0, "Diving", 1),
    ]
    assert found[0]["confidence"] == pytest.approx((0.875 + 3 * 0.65625) / 4)
    assert found[0]["peak_confidence"] == 0.875


def test_a_limit_is_compared_as_it_is_shown(tmp_path: Path) -> None:
    # 0.7 as a float32 is a little less than 0.7.
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [{"Biking": 0.7}])])
    finished = open_result(str(tmp_path / "t.parquet"))
    assert len(pa.concat_tables(find_events(finished, Rules(min_confidence=0.7)))) == 1
    assert len(pa.concat_tables(find_events(finished, Rules(min_confidence=0.71)))) == 0


@pytest.mark.parametrize("smooth", [1, 3])
def test_portions_end_with_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smooth: int) -> None:
    random = np.random.default_rng(0)
    made = []
    for number in range(9):
        shares = random.random((int(random.integers(1, 12)), 2))
        made.append(make_video(f"/v/{number}.mp4", [{"Biking": a, "Diving": b} for a, b in shares], hop_s=1.0))
    publish_to(tmp_path / "t.parquet", made)
    finished = open_result(str(tmp_path / "t.parquet"))
    whole = pa.concat_tables(find_events(finished, Rules(smooth=smooth)))
    for rows in (1, 3, 7, 100):
        # In a large result, videos go on from row group to row group, each with dictionaries of its own.
        pq.write_table(pq.read_table(tmp_path / "t.parquet"), tmp_path / "t.parquet", row_group_size=5)
        monkeypatch.setattr(segments_module, "BATCH_ROWS", rows)
        monkeypatch.setattr(events_module, "VOTE_NUMBERS", 2 * rows)
        portions = list(find_events(finished, Rules(smooth=smooth)))
        assert len(portions) > 3
        assert pa.concat_tables(portions).equals(whole)


def test_events_have_the_columns_of_their_schema() -> None:
    made: list[Video] = [("/v/a.mp4", 2.0, 2.0, [0], np.array([[0.5, 0.25, 0.125, 0.125]]))]
    assert events_of(make_segments(made), Rules()).schema.equals(EVENTS_SCHEMA)
    nothing = events_of(make_segments(made), Rules(min_confidence=0.75))
    assert nothing.schema.equals(EVENTS_SCHEMA) and not len(nothing)
