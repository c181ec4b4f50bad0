"""Tests with every kind of video: each window shows the same frames as a plain decode of the whole video."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagger.clips import read_spans
from tagger.preprocessing import Preprocessing
from tagger.video.choose import has_decord
from tagger.windows import Sampling
from tests.tagger.look_up import look_up
from tests.tagger.reference import ReferenceFrame, decode_all
from tests.tagger.sequential import assert_same_as_whole, assert_threads_are_same_as_one
from tests.tagger.zoo import ZOO
from tests.videos import encode, read_frame_number

# A sample about every 0.1 s, and never at the start of a frame, where rounding would decide.
SAMPLING = Sampling(num_frames=6, sampling_rate=2, target_fps=19.37, hop_s=0.41)
PREPROCESSING = Preprocessing(size=64, resize=64)

PathOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def path_of(tmp_path_factory: pytest.TempPathFactory) -> PathOf:
    """Returns the path of a video of the zoo. The video is made on first use."""
    folder = tmp_path_factory.mktemp("zoo")

    def path_of(name: str) -> Path:
        path = folder / name
        if not path.exists():
            ZOO[name].make(path)
        return path

    return path_of


@lru_cache(maxsize=1)
def plain_decode(path: Path, name: str) -> tuple[list[ReferenceFrame], float]:
    """The frames of a video and its end in seconds, for all tests of it that follow each other."""
    return decode_all(path, ZOO[name], PREPROCESSING)


@pytest.mark.parametrize("with_decord", [True, False], ids=["by the rule", "without decord"])
@pytest.mark.parametrize("name", ZOO)
def test_every_window_shows_what_a_plain_decode_shows_at_its_times(
    name: str, with_decord: bool, path_of: PathOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_decord and not has_decord():
        pytest.skip("decord has no wheel for this machine")
    if not with_decord:
        monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
    specimen, path = ZOO[name], path_of(name)
    frames, end_s = plain_decode(path, name)
    if specimen.shown is not None and specimen.is_legible:
        assert [frame.number for frame in frames] == [number for _, number in specimen.shown]
        assert [frame.start_s for frame in frames] == pytest.approx([s for s, _ in specimen.shown], abs=1.1e-3)
        assert specimen.end_s is None or end_s == pytest.approx(specimen.end_s, abs=2e-3)

    spans = list(read_spans(path, SAMPLING, PREPROCESSING))
    end = spans[-1].end
    assert end is not None and end.choice is not None and end.facts is not None
    begin_s = 0.0 if specimen.gap is None else frames[specimen.gap[1]].start_s
    expected = look_up(SAMPLING, [frame.start_s for frame in frames], end_s, begin_s)
    if specimen.gap is None:
        assert end.status == "ok", end.error
    else:
        lost_s, next_s = (frames[number].start_s for number in specimen.gap)
        assert end.status == "partial"
        assert end.gaps == (pytest.approx((lost_s, next_s), abs=1.1e-3),)
        expected = [
            (window, numbers)
            for window, numbers in expected
            if window.start_s >= next_s or window.start_s + SAMPLING.window_s <= lost_s
        ]
        assert expected
    windows = [window for span in spans for window in span.windows]
    assert [(window.index, window.start_s) for window in windows] == [(w.index, w.start_s) for w, _ in expected]
    assert [window.end_s for window in windows] == pytest.approx([w.end_s for w, _ in expected], abs=2e-3)
    assert all(0 <= window.start_s < window.end_s <= end_s + 2e-3 for window in windows)
    assert end.facts.duration_s == pytest.approx(end_s, abs=2e-3)

    # A wrong frame differs by at least 10, usually by 60.
    clips = np.concatenate([span.clips for span in spans])
    tolerance = 6.0 if end.choice.decoder == "decord" else 0.5
    for clip, (window, numbers) in zip(clips, expected, strict=True):
        for pixels, number in zip(clip, numbers, strict=True):
            difference = np.abs(pixels.astype(int) - frames[number].pixels).mean()
            assert difference < tolerance, f"window {window.index}, frame {number}"

    if not with_decord:
        assert (end.choice.decoder, end.choice.reason) == ("pyav", "decord is not installed")
    elif specimen.pyav is None:
        assert (end.choice.decoder, end.choice.reason) == ("decord", None)
    else:
        assert end.choice.decoder == "pyav"
        assert end.choice.reason and specimen.pyav in end.choice.reason
        assert str(path.parent) not in end.choice.reason


@pytest.mark.parametrize("fast", [False, True], ids=["", "fast decoding"])
@pytest.mark.parametrize("name", ZOO)
def test_windows_with_pauses_show_what_decoding_the_whole_video_shows(name: str, fast: bool, path_of: PathOf) -> None:
    assert_same_as_whole(path_of(name), Sampling(3, 1, target_fps=15.37, hop_s=0.83, fast_decode=fast))


@pytest.mark.parametrize("name", ZOO)
def test_two_threads_show_what_one_thread_shows(name: str, path_of: PathOf) -> None:
    assert_threads_are_same_as_one(path_of(name), SAMPLING)


@pytest.mark.parametrize("name", [name for name, specimen in ZOO.items() if not specimen.is_legible])
def test_neighbouring_frames_of_a_tiny_video_are_told_apart(name: str, path_of: PathOf) -> None:
    # Otherwise the test above could pass with wrong frames.
    frames, _ = decode_all(path_of(name), ZOO[name], PREPROCESSING)
    light = [frame.pixels.astype(float).mean() for frame in frames]
    assert np.abs(np.diff(light)).min() > 10


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.mp4", "a.mkv", "a.avi", "a.ts"]),
    rate=st.sampled_from([5, 12, 25, 30, 50]),
    count=st.integers(1, 60),
    gop=st.integers(1, 30),
    samples=st.integers(1, 6),
    step=st.integers(1, 9),
    hop=st.integers(1, 3),
)
def test_any_rate_length_window_and_hop(
    name: str, rate: int, count: int, gop: int, samples: int, step: int, hop: int, tmp_path: Path
) -> None:
    # Sample times that are a multiple of no frame interval, so that no sample is at the start of a frame.
    sampling = Sampling(samples, step, 31.37, hop_s=hop * step / 31.37)
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = encode(tmp_path / name, codec=codec, rate=rate, frames=count, width=64, options={"g": str(gop)})
    spans = list(read_spans(path, sampling, PREPROCESSING))
    # Matroska rounds to milliseconds, which moves the start of a frame past some samples.
    digits = 3 if name.endswith("mkv") else 9
    starts_s = [round(i / rate, digits) for i in range(count)]
    expected = look_up(sampling, starts_s, starts_s[-1] + round(1 / rate, digits))
    windows = [window for span in spans for window in span.windows]
    assert [window.start_s for window in windows] == [window.start_s for window, _ in expected]
    numbers = [[read_frame_number(pixels) for pixels in clip] for span in spans for clip in span.clips]
    assert numbers == [frames for _, frames in expected]
