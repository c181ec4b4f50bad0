"""Tests of the positions of windows and the frames that they show."""

import math
import weakref
from bisect import bisect_right
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tagger.window_cutter import WindowCutter
from tagger.windows import NEVER, TIME_TOLERANCE_S, Ranges, Sampling, WantedWindows, Window, merged_ranges
from tests.tagger.look_up import frame_at, look_up

SAMPLINGS = st.builds(
    lambda num_frames, sampling_rate, fps, hop_steps: Sampling(
        num_frames, sampling_rate, fps, None if hop_steps is None else hop_steps * sampling_rate / fps
    ),
    num_frames=st.integers(1, 9),
    sampling_rate=st.integers(1, 6),
    fps=st.sampled_from([8.0, 24000 / 1001, 25.0, 30.0]),
    # From one sample step (large overlap) to gaps between the windows.
    hop_steps=st.none() | st.floats(1, 20),
)


@st.composite
def timelines(draw: st.DrawFn) -> list[float]:
    """The start of each frame and the end of the video, at a fixed or a variable rate."""
    count = draw(st.integers(1, 120))
    if draw(st.booleans()):
        rate = draw(st.sampled_from([5.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60.0, 120.0]))
        return [i / rate for i in range(count + 1)]
    gaps = draw(st.lists(st.integers(4, 900), min_size=count, max_size=count))
    times_ms = [0]
    for gap in gaps:
        times_ms.append(times_ms[-1] + gap)
    return [time / 1000 for time in times_ms]


def cut(
    sampling: Sampling,
    timeline: list[float],
    may_end_s: float = 0.0,
    only: Ranges | None = None,
    lost: frozenset[int] = frozenset(),
) -> tuple[list[tuple[Window, list[int]]], list[int]]:
    """Uses the cutter like a reader. Returns the windows with their frame numbers, and the frames that were needed.

    The frames with a number in ``lost`` cannot be read.
    """
    cutter: WindowCutter[int] = WindowCutter(sampling, may_end_s, only)
    last = len(timeline) - 2
    windows: list[tuple[Window, list[int]]] = []
    pushed = []
    for number, shown_until_s in enumerate(timeline[1:]):
        if number in lost:
            cutter.lose(timeline[number], shown_until_s)
        elif number == last:
            windows += cutter.finish(shown_until_s, number)
        elif cutter.needs(shown_until_s):
            pushed.append(number)
            windows += cutter.push(shown_until_s, number)
    return windows, pushed


def assume_no_tie(sampling: Sampling, timeline: list[float]) -> None:
    """Discards examples in which a frame starts, or the video ends, at a sample time up to rounding."""
    for k in range(sampling.window_count(timeline[-1])):
        for i in range(-sampling.lookback, sampling.num_frames):
            time_s = sampling.sample_s(k, i) + TIME_TOLERANCE_S
            after = bisect_right(timeline, time_s)
            assume(all(abs(start - time_s) > 1e-9 for start in timeline[max(0, after - 1) : after + 1]))


@given(SAMPLINGS, timelines())
def test_the_cutter_gives_the_windows_and_frames_of_a_look_up_on_the_whole_timeline(
    sampling: Sampling, timeline: list[float]
) -> None:
    assume_no_tie(sampling, timeline)
    assert cut(sampling, timeline)[0] == look_up(sampling, timeline[:-1], timeline[-1])


@given(SAMPLINGS, timelines())
def test_windows_advance_and_end_by_the_end_of_the_video_and_are_full(
    sampling: Sampling, timeline: list[float]
) -> None:
    windows = cut(sampling, timeline)[0]
    assert [window.index for window, _ in windows] == list(range(len(windows)))
    starts = [window.start_s for window, _ in windows]
    assert starts == sorted(set(starts))
    for window, frames in windows:
        assert window.start_s < window.end_s <= timeline[-1]
        assert len(frames) == sampling.num_frames
        assert frames == sorted(frames)


@given(SAMPLINGS, timelines())
def test_windows_without_gaps_cover_every_instant(sampling: Sampling, timeline: list[float]) -> None:
    assume(sampling.effective_hop_s <= sampling.window_s)
    reached_s = 0.0
    for window, _ in cut(sampling, timeline)[0]:
        assert window.start_s <= reached_s + 1e-9
        reached_s = window.end_s
    assert reached_s == pytest.approx(timeline[-1], abs=TIME_TOLERANCE_S + 1e-9)


@given(SAMPLINGS, timelines())
def test_only_frames_that_hold_a_sample_are_asked_for(sampling: Sampling, timeline: list[float]) -> None:
    pushed = cut(sampling, timeline)[1]
    # Windows are also sampled before their start and past the end of the video, because the end is not known yet.
    windows = range(math.ceil(timeline[-1] / sampling.effective_hop_s) + 2)
    samples = [sampling.sample_s(k, i) for k in windows for i in range(-sampling.lookback, sampling.num_frames)]
    assert set(pushed) <= {frame_at(timeline, time_s + rounding) for time_s in samples for rounding in (-1e-9, 1e-9)}


def test_most_frames_of_a_fast_video_are_never_asked_for() -> None:
    timeline = [i / 60 for i in range(601)]
    assert len(cut(Sampling(), timeline)[1]) == 75  # 10 s, a sample every 4/30 s


@pytest.mark.parametrize("rate", [24.0, 25.0, 30000 / 1001, 60.0])
@pytest.mark.parametrize("hop_s", [None, 1.0, 3.0])
def test_the_frame_rate_changes_neither_the_windows_nor_what_they_show(rate: float, hop_s: float | None) -> None:
    sampling = Sampling(hop_s=hop_s)
    at_30 = cut(sampling, [i / 30 for i in range(301)])[0]
    count = round(10 * rate)
    other = cut(sampling, [10 * i / count for i in range(count + 1)])[0]
    assert [window for window, _ in other] == [window for window, _ in at_30]
    for (_, frames), (_, frames_at_30) in zip(other, at_30, strict=True):
        for frame, frame_at_30 in zip(frames, frames_at_30, strict=True):
            assert abs(frame * 10 / count - frame_at_30 / 30) <= 1 / min(rate, 30.0) + TIME_TOLERANCE_S


def test_a_variable_rate_gives_the_windows_of_a_fixed_one() -> None:
    fixed = [i / 30 for i in range(301)]
    variable = [time_s for i, time_s in enumerate(fixed) if i % 7 not in (2, 3) or i == 300]
    both = [cut(Sampling(), timeline)[0] for timeline in (fixed, variable)]
    assert [window for window, _ in both[0]] == [window for window, _ in both[1]]
    for (_, frames), (_, others) in zip(*both, strict=True):
        for frame, other in zip(frames, others, strict=True):
            assert 0 <= fixed[frame] - variable[other] <= 2 / 30 + 1e-9


@pytest.mark.parametrize("windows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(("num_frames", "rate", "fps"), [(16, 4, 30.0), (16, 4, 30000 / 1001), (8, 3, 25.0)])
def test_a_video_of_exactly_k_windows_has_k_windows(windows: int, num_frames: int, rate: int, fps: float) -> None:
    sampling = Sampling(num_frames, rate, fps)
    frames = windows * num_frames * rate
    for end_s in (frames / fps, windows * sampling.window_s, sum([1 / fps] * frames)):
        assert sampling.window_count(end_s) == windows
        assert len(cut(sampling, [*(i / fps for i in range(frames)), end_s])[0]) == windows


@pytest.mark.parametrize("windows", [1, 2, 7])
def test_a_video_longer_by_one_frame_has_one_window_more(windows: int) -> None:
    cuts = cut(Sampling(), [i / 30 for i in range(64 * windows + 2)])[0]
    assert len(cuts) == windows + 1
    shown = list(range(64 * windows - 60, 64 * windows + 1, 4))
    assert cuts[-1] == (Window(windows, windows * 64 / 30, (64 * windows + 1) / 30), shown)


@given(SAMPLINGS, timelines())
def test_the_last_window_shows_its_samples_before_the_end_and_those_right_before_them(
    sampling: Sampling, timeline: list[float]
) -> None:
    assume_no_tie(sampling, timeline)
    end_s = timeline[-1]
    assume(end_s > sampling.window_s + TIME_TOLERANCE_S)
    ((window, frames),) = cut(sampling, timeline)[0][-1:]
    own = [sampling.sample_s(window.index, i) for i in range(sampling.num_frames)]
    inside = [time_s for time_s in own if time_s < end_s - TIME_TOLERANCE_S]
    before = [own[0] - i * sampling.step_s for i in range(sampling.num_frames - len(inside), 0, -1)]
    assert before == [] or before[0] >= -TIME_TOLERANCE_S
    assert frames == [frame_at(timeline[:-1], time_s) for time_s in before + inside]
    # The last sample is less than a step before the end of what the window covers.
    assert window.end_s - (before + inside)[-1] <= sampling.step_s + 2 * TIME_TOLERANCE_S


@pytest.mark.parametrize(
    ("hop_s", "seconds", "shown"),
    [
        # Windows of 4 samples, 0.5 s apart. Without overlap: 4.6 s are two windows and a third that begins at 4.0 s.
        (None, 4.6, [30, 35, 40, 45]),
        # A hop of one and a half steps: the last window begins at 3.0 s, and only its last sample is not in the video.
        (0.75, 4.5, [25, 30, 35, 40]),
        # Windows with pauses between them: the last one, at 6.0 s, shows what is before it in the pause.
        (3.0, 6.2, [45, 50, 55, 60]),
        (3.0, 7.6, [60, 65, 70, 75]),
    ],
)
def test_the_last_window_is_shifted_back_by_whole_steps_at_any_hop(
    hop_s: float | None, seconds: float, shown: list[int]
) -> None:
    sampling = Sampling(num_frames=4, sampling_rate=1, target_fps=2.0, hop_s=hop_s)
    count = round(10 * seconds)
    assert cut(sampling, [i / 10 for i in range(count + 1)])[0][-1][1] == shown


@pytest.mark.parametrize("hop_s", [None, 16 / 15, 8 / 15])
def test_a_shift_asks_for_no_more_frames_where_windows_begin_at_samples_of_others(hop_s: float | None) -> None:
    sampling = Sampling(hop_s=hop_s)
    timeline = [i / 60 for i in range(1201)]
    samples = [sampling.sample_s(k, i) for k in range(60) for i in range(16)]
    assert set(cut(sampling, timeline)[1]) <= {frame_at(timeline, time_s) for time_s in samples}


@given(SAMPLINGS, timelines(), st.floats(0, 1))
def test_windows_are_the_same_when_the_video_lasts_as_long_as_expected(
    sampling: Sampling, timeline: list[float], share: float
) -> None:
    assume_no_tie(sampling, timeline)
    windows, pushed = cut(sampling, timeline)
    expecting, fewer = cut(sampling, timeline, share * timeline[-1])
    assert expecting == windows
    assert set(fewer) <= set(pushed)


def test_with_pauses_between_windows_only_windows_that_may_be_the_last_ask_for_frames_before_them() -> None:
    sampling = Sampling(hop_s=10.0)
    timeline = [i / 30 for i in range(60 * 30 + 1)]
    # Six windows of 16 frames, and the first frames before a window at 60 s.
    assert len(cut(sampling, timeline, 54.0)[1]) == 6 * 16 + 15
    assert len(cut(sampling, timeline)[1]) == 16 + 6 * 31 - 16


def test_a_last_window_that_comes_before_the_expected_end_repeats_the_last_frame() -> None:
    sampling = Sampling(num_frames=4, sampling_rate=1, target_fps=2.0, hop_s=3.0)
    assert cut(sampling, [i / 10 for i in range(63)], 20.0)[0][-1][1] == [60] + [61] * 3


def test_a_long_video_is_cut_with_the_frames_of_two_windows_in_memory() -> None:
    cutter: WindowCutter[bytearray] = WindowCutter(Sampling())
    alive: list[weakref.ref[bytearray]] = []

    class Picture(bytearray):
        pass

    for number in range(1, 10_000):
        if cutter.needs(number / 30):
            picture = Picture(b"pixels")
            alive = [ref for ref in alive if ref() is not None] + [weakref.ref(picture)]
            list(cutter.push(number / 30, picture))
            assert len(alive) <= 33


def test_a_rounding_error_in_the_duration_adds_no_window() -> None:
    assert Sampling().window_count(64 / 30 + TIME_TOLERANCE_S / 2) == 1


def test_a_video_shorter_than_a_window_repeats_its_last_frame() -> None:
    ((window, frames),) = cut(Sampling(), [i / 30 for i in range(21)])[0]
    assert window == Window(0, 0.0, 20 / 30)
    assert frames == [0, 4, 8, 12, 16] + [19] * 11


@pytest.mark.parametrize("end_s", [0.0005, 0.04, 100.0])
def test_a_video_of_one_frame_shows_it_in_every_window(end_s: float) -> None:
    cuts = cut(Sampling(), [0.0, end_s])[0]
    assert len(cuts) == max(1, math.ceil(end_s / Sampling().window_s))
    assert all(frames == [0] * 16 for _, frames in cuts)
    assert cuts[-1][0].end_s == end_s


def test_windows_with_gaps_start_only_inside_the_video() -> None:
    sampling = Sampling(num_frames=4, sampling_rate=1, target_fps=4.0, hop_s=3.0)
    for end_s, starts in [(0.5, [0.0]), (3.0, [0.0]), (3.1, [0.0, 3.0]), (4.5, [0.0, 3.0]), (6.0, [0.0, 3.0])]:
        count = round(end_s * 10)
        cuts = cut(sampling, [i / 10 for i in range(count + 1)])[0]
        assert [window.start_s for window, _ in cuts] == starts


@pytest.mark.parametrize(
    "values",
    [
        {"num_frames": 0},
        {"num_frames": -1},
        {"sampling_rate": 0},
        {"target_fps": 0.0},
        {"target_fps": -30.0},
        {"target_fps": math.inf},
        {"target_fps": math.nan},
    ],
)
def test_a_sampling_that_describes_no_window_is_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no window can be sampled as") as error:
        Sampling(**values)  # type: ignore[arg-type]
    assert str(next(iter(values.values()))) in str(error.value)


@pytest.mark.parametrize("hop_s", [0.0, -1.0, 0.1, math.inf, math.nan])
def test_a_hop_shorter_than_a_sample_step_or_endless_is_refused(hop_s: float) -> None:
    with pytest.raises(ValueError, match=r"at least one sample step, 0\.133 s"):
        Sampling(hop_s=hop_s)


def test_a_sampling_describes_itself_as_in_the_literature() -> None:
    assert str(Sampling()) == "16×4 @ 30 fps"
    assert str(Sampling(8, 2, 25.0, hop_s=1.0)) == "8×2 @ 25 fps, hop 1 s"


def test_a_sampling_survives_json() -> None:
    sampling = Sampling(8, 2, 25.0, hop_s=1.0)
    assert Sampling(**sampling.to_json()) == sampling


@pytest.mark.parametrize("hop_s", [None, 0.4, 0.7, 0.9, 3.0])
@pytest.mark.parametrize("gap", [(0.0, 0.7), (2.0, 2.1), (3.05, 7.2), (8.5, 8.7), (9.0, 9.2), (9.9, 9.95), (1.6, 1.6)])
def test_only_windows_that_touch_a_gap_are_left_out(hop_s: float | None, gap: tuple[float, float]) -> None:
    sampling = Sampling(num_frames=4, sampling_rate=3, target_fps=7.5, hop_s=hop_s)
    starts_s = [i / 20 for i in range(200) if not gap[0] - 1e-9 <= i / 20 < gap[1] - 1e-9]
    cutter: WindowCutter[int] = WindowCutter(sampling)
    found = []
    for number, start_s in enumerate(starts_s):
        after_s = starts_s[number + 1] if number + 1 < len(starts_s) else 10.0
        if number == 0 and start_s > 0:
            cutter.lose(0.0, start_s)
        if number + 1 == len(starts_s):
            found += list(cutter.finish(10.0, number))
            break
        has_gap = after_s - start_s > 0.051
        if cutter.needs(until_s := start_s + 0.05 if has_gap else after_s):
            found += list(cutter.push(until_s, number))
        if has_gap:
            cutter.lose(until_s, after_s)
    expected = [
        (window, numbers)
        for window, numbers in look_up(sampling, starts_s, 10.0, begin_s=gap[1])
        if not (window.start_s < gap[1] - 2e-3 and window.start_s + sampling.window_s > gap[0] + 2e-3)
        or gap[0] == gap[1]
    ]
    assert found == expected


@dataclass(frozen=True)
class Case:
    """A video of which ranges are wanted. The frames with a number in ``lost`` cannot be read."""

    timeline: list[float]
    only: list[tuple[float, float]]
    lost: frozenset[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Ranges are in any order. They may overlap, touch, be very short, or begin after the end of the video."""
    timeline = draw(timelines())
    end_s, last = timeline[-1], len(timeline) - 2
    lengths_s = st.floats(1e-6, end_s) | st.sampled_from([TIME_TOLERANCE_S, 0.1, 1000.0])
    only = [(start_s, start_s + draw(lengths_s)) for start_s in draw(st.lists(st.floats(0, 1.3 * end_s), max_size=4))]
    gaps = draw(st.lists(st.tuples(st.integers(0, last), st.integers(1, 9)), max_size=3))
    # The last frame is read, so that the video ends.
    lost = frozenset(number for first, count in gaps for number in range(first, min(first + count, last)))
    return Case(timeline, only, lost)


def inside(found: list[tuple[Window, list[int]]], only: Ranges) -> list[tuple[Window, list[int]]]:
    """The obvious way: all windows of the video, then those that overlap a range."""
    return [
        (window, frames)
        for window, frames in found
        if any(
            min(window.end_s, end_s) - max(window.start_s, start_s) > TIME_TOLERANCE_S
            for start_s, end_s in merged_ranges(only)
        )
    ]


@given(SAMPLINGS, cases(), st.floats(0, 12))
def test_windows_of_ranges_are_those_of_the_whole_video_with_the_same_frames(
    sampling: Sampling, case: Case, may_end_s: float
) -> None:
    windows, pushed = cut(sampling, case.timeline, may_end_s, lost=case.lost)
    found, fewer = cut(sampling, case.timeline, may_end_s, case.only, case.lost)
    assert found == inside(windows, case.only)
    assert set(fewer) <= set(pushed)


@given(SAMPLINGS, cases(), st.floats(0, 12))
def test_frames_of_no_wanted_window_are_not_needed(sampling: Sampling, case: Case, may_end_s: float) -> None:
    timeline = case.timeline
    assume_no_tie(sampling, timeline)
    # The end of the video is not known, so a range after it may ask for frames before it.
    wanted = WantedWindows(sampling, case.only)
    numbers = [k for k in range(math.ceil(timeline[-1] / sampling.effective_hop_s) + 2) if wanted.next(k) == k]
    samples = [sampling.sample_s(k, i) for k in numbers for i in range(-sampling.lookback, sampling.num_frames)]
    needed = {frame_at(timeline, time_s + rounding) for time_s in samples for rounding in (-1e-9, 1e-9)}
    assert set(cut(sampling, timeline, may_end_s, case.only, case.lost)[1]) <= needed


@pytest.mark.parametrize(
    ("lost", "only", "indices"),
    [
        # Windows of 0.5 s at 10 frames per second; the video ends at 2.3 s.
        (range(0), [(0.6, 0.7), (2.1, 9.0)], [1, 4]),
        (range(0), [(2.4, 9.0)], []),
        (range(7, 12), [(0.0, 0.1), (0.6, 0.7), (1.6, 1.7)], [0, 3]),
        (range(7, 12), [(0.6, 0.7), (2.0, 2.1)], [4]),
        (range(7, 8), [(0.6, 0.7), (1.6, 1.7)], [3]),
        (range(3), [(0.0, 0.1), (1.0, 1.1)], [2]),
    ],
)
def test_ranges_at_the_end_and_around_a_gap(lost: range, only: list[tuple[float, float]], indices: list[int]) -> None:
    sampling = Sampling(num_frames=5, sampling_rate=1, target_fps=10.0)
    windows, _ = cut(sampling, [i / 10 for i in range(24)], 2.0, only, frozenset(lost))
    assert [window.index for window, _ in windows] == indices


def test_a_range_in_a_long_video_needs_the_frames_of_its_window_and_of_the_shift_before_it() -> None:
    timeline = [i / 30 for i in range(3600 * 30 + 1)]
    windows, pushed = cut(Sampling(), timeline, only=[(1000.0, 1000.5)])
    assert [window.index for window, _ in windows] == [468]
    assert len(pushed) == 16 + 15


@given(SAMPLINGS, cases())
def test_wanted_windows_are_counted_without_a_video(sampling: Sampling, case: Case) -> None:
    end_s = case.timeline[-1]
    count = WantedWindows(sampling, case.only, end_s).count(sampling.window_count(end_s))
    assert count == len(cut(sampling, case.timeline, only=case.only)[0])


def test_without_ranges_all_windows_are_wanted_and_of_no_range_none() -> None:
    assert WantedWindows(Sampling(), None).next(7) == 7
    assert WantedWindows(Sampling(), None).count(7) == 7
    assert WantedWindows(Sampling(), []).next(0) == NEVER
    assert cut(Sampling(), [i / 30 for i in range(301)], only=[]) == ([], [])


@pytest.mark.parametrize("only", [(0.0, 1e308), (1e300, 1e308), (1e11, 1e13)])
def test_ranges_may_reach_far_beyond_any_video(only: tuple[float, float]) -> None:
    windows = cut(Sampling(), [i / 30 for i in range(301)], only=[only])[0]
    assert [window.index for window, _ in windows] == ([0, 1, 2, 3, 4] if only[0] == 0 else [])


def test_ranges_that_overlap_or_touch_are_merged() -> None:
    assert merged_ranges([(5, 6), (0, 2), (1, 3), (3, 4), (1, 1.5)]) == ((0, 4), (5, 6))
