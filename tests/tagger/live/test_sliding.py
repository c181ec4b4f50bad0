"""Windows of frames that come one by one."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger.live.sliding import slide, slide_exactly
from tagger.video.readers.pyav_reader import TimedFrame
from tagger.video.readers.reader import Gap
from tagger.window_cutter import WindowCutter
from tagger.windows import TIME_TOLERANCE_S, Sampling

SAMPLING = Sampling(8, 4, hop_s=8 * 4 / 30 / 2)


def frame(number: int, start_s: float, end_s: float, *, is_last: bool = False) -> TimedFrame:
    shown: Any = SimpleNamespace(number=number)
    return TimedFrame(shown, start_s, end_s, is_last)


def number_of(shown: Any) -> np.ndarray:
    return np.array(shown.number)


def steady(count: int, rate: float) -> list[TimedFrame]:
    return [frame(number, number / rate, (number + 1) / rate) for number in range(count)]


def live_cutter() -> "WindowCutter[np.ndarray]":
    return WindowCutter(SAMPLING, math.inf)


def numbers(cut: Any) -> list[tuple[int, float, float, list[int]]]:
    return [(each.index, each.start_s, each.end_s, [int(shown) for shown in frames]) for each, frames in cut]


@pytest.mark.parametrize("rate", [12, 15, 23.976, 25, 30, 50, 60])
def test_a_window_is_given_out_with_its_last_frame(rate: float) -> None:
    frames = steady(200, rate)
    given: list[int] = []
    came: list[int] = []

    def coming() -> Iterator[TimedFrame]:
        for number, each in enumerate(frames):
            came.append(number)
            yield each

    for window, _ in slide(coming(), live_cutter(), number_of):
        last = frames[came[-1]]
        assert last.start_s < window.end_s <= last.end_s + TIME_TOLERANCE_S
        given.append(window.index)
    assert given == list(range(len(given))) and len(given) >= 5


@pytest.mark.parametrize("rate", [12, 15, 23.976, 25, 30, 50, 60])
def test_windows_of_a_live_picture_are_those_of_the_same_file(rate: float) -> None:
    frames = steady(150, rate)
    exact = [*frames[:-1], TimedFrame(frames[-1].frame, frames[-1].start_s, frames[-1].end_s, is_last=True)]
    live = numbers(slide(frames, live_cutter(), number_of))
    assert live == numbers(slide_exactly(exact, WindowCutter(SAMPLING), number_of))[: len(live)]
    assert len(live) >= 3


@given(st.lists(st.floats(0.01, 0.3), min_size=20, max_size=80), st.floats(0.01, 0.2))
def test_no_window_shows_a_frame_outside_of_its_time(steps_s: list[float], expected_s: float) -> None:
    starts_s = np.concatenate([[0.0], np.cumsum(steps_s)])
    frames = [frame(number, start_s, start_s + expected_s) for number, start_s in enumerate(starts_s)]
    found = numbers(slide(frames, live_cutter(), number_of))
    assert [each[0] for each in found] == list(range(len(found)))
    for _, start_s, end_s, shown in found:
        assert shown == sorted(shown)
        assert starts_s[shown[-1]] < end_s
        assert starts_s[shown[0] + 1 :][:1] > start_s - TIME_TOLERANCE_S or shown[0] + 1 == len(starts_s)


def test_no_window_reaches_over_a_gap() -> None:
    before, gap = steady(45, 30), Gap(1.5, 4.0)
    after = [frame(number, 4 + number / 30, 4 + (number + 1) / 30) for number in range(60)]
    found = numbers(slide([*before, gap, *after], live_cutter(), number_of))
    assert [each[0] for each in found] == [0, 8, 9]
    assert all(end_s <= 1.5 or start_s >= 4.0 for _, start_s, end_s, _ in found)


def test_no_window_reaches_past_the_last_frame() -> None:
    found = numbers(slide(steady(40, 30), live_cutter(), number_of))
    assert [each[2] for each in found] == pytest.approx([16 / 15])


def test_pixels_are_made_once_for_each_frame() -> None:
    made: list[int] = []

    def pixels(shown: Any) -> np.ndarray:
        made.append(shown.number)
        return np.array(shown.number)

    list(slide(steady(200, 12), live_cutter(), pixels))
    assert len(made) == len(set(made))
