"""The windows of a video, compared with those of decoding the whole video one frame after the other."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tagger.errors import VideoError
from tagger.preprocessing import Preprocessing
from tagger.video.choose import WHOLE_DECODERS, Choice
from tagger.video.cutting import ReadProgress, read_windows
from tagger.windows import Part, Ranges, Sampling, Window

PREPROCESSING = Preprocessing(size=64, resize=64)


def windows_of(
    path: Path,
    sampling: Sampling,
    choice: Choice | None = None,
    only: Ranges | None = None,
    part: Part | None = None,
    threads: int = 1,
) -> tuple[list[tuple[Window, np.ndarray]], ReadProgress, str | None]:
    """Returns the windows of a video with their frames, the state of the reading at its end, and its error."""
    progress = ReadProgress()
    windows = []
    try:
        for window, frames in read_windows(
            path, sampling, PREPROCESSING, choice, False, "pyav", progress, only, part, threads
        ):
            windows.append((window, np.stack(frames)))
    except VideoError as error:
        return windows, progress, str(error)
    return windows, progress, None


def assert_same_as_whole(path: Path, sampling: Sampling, only: Ranges | None = None) -> Choice:
    """Compares the windows of a video with those of decoding it whole. Returns the choice of the reader."""
    windows, progress, error = windows_of(path, sampling, only=only)
    choice = progress.choice
    assert choice is not None
    whole = Choice(WHOLE_DECODERS.get(choice.decoder, choice.decoder))
    expected, expected_progress, expected_error = windows_of(path, sampling, whole, only)
    assert [window.index for window, _ in windows] == [window.index for window, _ in expected]
    for (window, frames), (expected_window, expected_frames) in zip(windows, expected, strict=True):
        assert (window.start_s, window.end_s) == pytest.approx((expected_window.start_s, expected_window.end_s))
        assert np.array_equal(frames, expected_frames), f"window {window.index}"
    assert progress.duration_s == pytest.approx(expected_progress.duration_s)
    assert (progress.gaps, error) == (expected_progress.gaps, expected_error)
    return choice


def assert_threads_are_same_as_one(path: Path, sampling: Sampling, threads: int = 2) -> None:
    """Compares the windows of a video, its times, gaps, choice and error, with those that one thread gives."""
    choice = Choice("pyav")
    (expected, one, error), (windows, several, other_error) = (
        windows_of(path, sampling, choice, threads=count) for count in (1, threads)
    )
    assert [window for window, _ in windows] == [window for window, _ in expected]
    for (window, frames), (_, expected_frames) in zip(windows, expected, strict=True):
        assert np.array_equal(frames, expected_frames), f"window {window.index}"
    assert (several.duration_s, several.gaps, other_error) == (one.duration_s, one.gaps, error)
    assert (several.facts, several.choice) == (one.facts, one.choice)


def assert_parts_are_same_as_whole(path: Path, sampling: Sampling, parts: int, only: Ranges | None = None) -> None:
    """Compares the windows of the parts of a video with those of one decoder. Raises SparseError as a part does."""
    expected, whole, error = windows_of(path, sampling, only=only)
    windows, duration_s, positions = [], 0.0, []
    for index in range(parts):
        found, progress, part_error = windows_of(path, sampling, only=only, part=Part(index, parts))
        assert part_error is None
        windows += found
        duration_s = max(duration_s, progress.duration_s)
        positions.append(progress.positions)
    assert [window.index for window, _ in windows] == [window.index for window, _ in expected]
    for (window, frames), (expected_window, expected_frames) in zip(windows, expected, strict=True):
        assert (window.start_s, window.end_s) == pytest.approx((expected_window.start_s, expected_window.end_s))
        assert np.array_equal(frames, expected_frames), f"window {window.index}"
    assert duration_s == pytest.approx(whole.duration_s)
    assert (error, whole.gaps) == (None, [])
    read = [each for each in positions if each is not None]
    assert not read or len(read) == parts
    assert all(after[0] <= before[1] for before, after in pairwise(read)), "parts do not follow each other"
