import itertools
import random

import pytest

from tagger.video.clock import Clock

STEP_S = 0.04


def starts(times_s: list[float | None], container: str = "matroska", keys: tuple[int, ...] = (0,)) -> list[float]:
    clock = Clock(container, 1 / STEP_S)
    return [round(clock.start_s(time_s, STEP_S, is_key=i in keys), 6) for i, time_s in enumerate(times_s)]


def steady(count: int, start_s: float = 0.0) -> list[float]:
    return [round(start_s + i * STEP_S, 6) for i in range(count)]


def test_frames_start_at_their_times_from_the_first_one() -> None:
    assert starts([5.0, 5.04, 5.1, 7.0]) == [0.0, 0.04, 0.1, 2.0]


def test_a_frame_without_a_time_starts_at_the_end_of_the_one_before() -> None:
    assert starts([5.0, None, None, 5.12]) == [0.0, 0.04, 0.08, 0.12]


def test_the_clock_starts_with_the_first_time() -> None:
    assert starts([None, None, 0.0, 0.04]) == [0.0, 0.04, 0.08, 0.12]


@pytest.mark.parametrize("container", ["flv", "webm", "ogg", "mp4", "mpegts"])
def test_a_clock_that_restarts_or_jumps_back_goes_on_where_it_was(container: str) -> None:
    assert starts([*steady(100), *steady(100)], container, keys=(0, 100)) == steady(200)
    assert starts([*steady(10), *steady(10)], container, keys=(0, 10)) == steady(20)
    assert starts([*steady(50, 100.0), *steady(50, 40.0)], container) == steady(100)


def test_only_in_streams_that_can_be_joined_is_a_jump_ahead_no_pause() -> None:
    times_s = [*steady(5), *steady(5, 3600.0)]
    assert starts(times_s, "mpegts") == steady(10)
    assert starts(times_s, "mp4") == times_s


def test_frames_at_one_time_follow_each_other_at_the_frame_rate() -> None:
    assert starts([0.0] * 200) == steady(200)


def test_a_frame_at_the_time_of_another_or_before_it_is_placed_and_the_clock_is_caught_up_with() -> None:
    assert starts([0.0, 0.04, 0.04, 0.08, 0.12, 0.16]) == [0.0, 0.04, 0.08, 0.1, 0.12, 0.16]
    assert starts([0.0, 0.04, 0.12, 0.08, 0.2]) == [0.0, 0.04, 0.12, 0.14, 0.2]


def test_a_single_wrong_time_does_not_move_the_frames_after_it() -> None:
    times_s = [*steady(100), 1.0, *steady(10, 101 * STEP_S)]
    assert starts(times_s) == pytest.approx(steady(111), abs=0.001)


def test_a_frame_that_comes_too_early_does_not_move_the_frames_after_it() -> None:
    times_s = [*steady(10), 20 * STEP_S, *steady(40, 10 * STEP_S)]
    found = starts(times_s)
    assert found[:10] == steady(10)
    assert found[-18:] == steady(18, 32 * STEP_S)


def test_starts_always_grow() -> None:
    for seed in range(300):
        chosen = random.Random(seed)
        times_s = [chosen.choice([None, chosen.uniform(0, 5), chosen.uniform(-100, 10_000)]) for _ in range(50)]
        found = starts(times_s, chosen.choice(["mpegts", "mp4"]))
        assert all(before < after for before, after in itertools.pairwise(found)), seed


def test_a_video_that_begins_before_its_first_good_frame() -> None:
    clock = Clock("webm", 25)
    clock.begin(10.0)
    assert clock.end_s() == 0.0
    assert clock.start_s(12.0, None, is_key=True) == 2.0
