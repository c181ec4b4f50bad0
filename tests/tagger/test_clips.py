"""Tests of clips: how the windows of a video are put into spans."""

import errno
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from tagger.clips import Span, read_spans, read_unstacked_spans
from tagger.preprocessing import Preprocessing
from tagger.video import cutting
from tagger.video.choose import Choice, has_decord
from tagger.video.cutting import ReadProgress
from tagger.video.readers.reader import DecoderName, WantedReader
from tagger.windows import Sampling, Window
from tests.videos import encode, read_frame_number

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)  # 0.4 s
PREPROCESSING = Preprocessing(size=64, resize=64)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
@pytest.mark.parametrize("span_windows", [1, 2, 3, 5, 6, 100])
def test_spans_carry_the_windows_in_order_and_the_end_on_the_last(name: str, span_windows: int, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=2)
    spans = list(read_spans(path, SAMPLING, PREPROCESSING, span_windows=span_windows))
    assert [window.index for span in spans for window in span.windows] == [0, 1, 2, 3, 4]
    for span in spans:
        assert span.clips.shape == (len(span.windows), 4, 64, 64, 3)
        assert span.clips.dtype == np.uint8
        for window, clip in zip(span.windows, span.clips, strict=True):
            assert [read_frame_number(pixels) for pixels in clip] == [12 * window.index + 3 * i for i in range(4)]
    assert [len(span.windows) for span in spans[:-1]] == [span_windows] * (len(spans) - 1)
    assert 0 < len(spans[-1].windows) <= span_windows
    assert all(span.end is None for span in spans[:-1])
    end = spans[-1].end
    assert end is not None
    assert (end.status, end.windows, end.error_kind, end.error) == ("ok", 5, None, None)


def test_a_clip_of_a_short_video_repeats_the_last_frame(tmp_path: Path) -> None:
    (span,) = read_spans(encode(tmp_path / "a.mp4", frames=5), SAMPLING, PREPROCESSING)
    assert [read_frame_number(pixels) for pixels in span.clips[0]] == [0, 3, 4, 4]
    assert span.windows[0].end_s == pytest.approx(5 / 30)


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("fast_decode", [False, True])
def test_the_last_window_shows_the_end_of_the_video_and_keeps_its_times(
    reader: WantedReader, fast_decode: bool, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", frames=20, options={"bf": "0"})
    sampling = replace(SAMPLING, fast_decode=fast_decode)
    (span,) = read_spans(path, sampling, PREPROCESSING, reader=reader)
    assert [(window.start_s, window.end_s) for window in span.windows] == [(0.0, 0.4), (0.4, pytest.approx(20 / 30))]
    shown = [[read_frame_number(pixels) for pixels in clip] for clip in span.clips]
    # 0.4, 0.5 and 0.6 s are in the video, 0.7 s is not: so the window begins one sample earlier.
    assert shown == [[0, 3, 6, 9], [9, 12, 15, 18]]


class CountedCrops(Preprocessing):
    """A preprocessing that counts the frames that are converted."""

    made = 0

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        type(self).made += 1
        return super().crop(pixels)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_with_pauses_between_windows_few_more_frames_are_converted_than_shown(name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, frames=276, options={"bf": "0"})
    CountedCrops.made = 0
    (span,) = read_spans(path, replace(SAMPLING, hop_s=1.5), CountedCrops(64, 64))
    assert [window.start_s for window in span.windows] == [0, 1.5, 3, 4.5, 6, 7.5, 9]
    shown = [[read_frame_number(pixels) for pixels in clip] for clip in span.clips]
    # The last window, from 9.0 to 9.2 s, is shifted back by two samples.
    assert shown[:2] == [[0, 3, 6, 9], [45, 48, 51, 54]] and shown[-1] == [264, 267, 270, 273]
    # The window at 9 s takes a third sample before it, and the last frame is always converted.
    assert CountedCrops.made == 7 * 4 + 2


class Clock:
    """A clock that advances by one second with each call. Tests can also set it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def consume(spans: Iterator[Span], clock: Clock, seconds: float) -> tuple[int, float]:
    """Takes all spans and waits ``seconds`` after each. Returns the number of spans and the time spent reading."""
    for count, span in enumerate(spans, start=1):
        clock.now_s += seconds
        if span.end is not None:
            return count, span.end.decode_s
    raise AssertionError("no span had the end")


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_the_time_spent_reading_leaves_out_the_wait_for_the_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / name, seconds=2)
    spent = []
    for seconds in (0.0, 1000.0):
        clock = Clock()
        monkeypatch.setattr("tagger.clips.time.perf_counter", clock)
        count, decode_s = consume(read_spans(path, SAMPLING, PREPROCESSING, span_windows=1), clock, seconds)
        assert count == 5
        spent.append(decode_s)
    assert spent[0] == spent[1] > 0


def test_a_reader_is_closed_when_its_spans_are_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    open_video = cutting.open_video

    def watched(*args: object) -> object:
        reader, choice = open_video(*args)  # type: ignore[arg-type]
        close = reader.close
        monkeypatch.setattr(reader, "close", lambda: closed.append(close()))
        return reader, choice

    monkeypatch.setattr("tagger.video.cutting.open_video", watched)
    spans = read_spans(encode(tmp_path / "a.ts", seconds=2), SAMPLING, PREPROCESSING, span_windows=1)
    next(spans)
    assert not closed
    assert inspect.isgenerator(spans)
    spans.close()
    assert closed


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RuntimeError("no idea\nwhat to do"), "damaged", "cannot be read (no idea what to do)"),
        (MemoryError("no room"), "memory", "needs more memory to decode than there is"),
        (OSError(errno.ENOMEM, "no room"), "memory", "needs more memory to decode than there is"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_unexpected_error_fails_only_the_video(
    error: Exception, kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> NoReturn:
        raise error

    path = encode(tmp_path / "clip.mp4", frames=30)
    monkeypatch.setattr("tagger.video.cutting.probe", explode)
    (span,) = read_spans(path, SAMPLING, PREPROCESSING)
    assert span.end is not None
    assert (span.end.status, span.end.error_kind, span.end.error) == ("failed", kind, f"{path} {words}")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("last_good", "windows"), [(0, 1), (20, 2)])
def test_a_frame_that_claims_to_last_for_days_is_damage_and_not_a_million_windows(
    name: str, last_good: int, windows: int, tmp_path: Path
) -> None:
    times_s = [i / 30 + (100_000 if i > last_good else 0) for i in range(last_good + 5)]
    path = encode(tmp_path / name, times_s=times_s)
    spans = list(read_spans(path, SAMPLING, PREPROCESSING))
    numbers = [[read_frame_number(pixels) for pixels in clip] for span in spans for clip in span.clips]
    assert numbers == [[min(12 * k + 3 * i, last_good) for i in range(4)] for k in range(windows)]
    end = spans[-1].end
    assert end is not None
    assert (end.status, end.windows, end.error_kind) == ("partial", windows, "damaged")
    assert f"one frame, at {last_good / 30:.2f} s, claims to last 28 h" in (end.error or "")


def slides(path: Path, count: int, seconds: float) -> Path:
    """A video of ``count`` pictures, each shown for ``seconds``."""
    return encode(path, times_s=[i * seconds for i in range(count)], options={"bf": "0"})


def test_a_slide_show_of_hours_is_read_to_its_end(tmp_path: Path) -> None:
    sampling = Sampling(num_frames=1, sampling_rate=1, target_fps=10.0, hop_s=300.0)
    spans = list(read_spans(slides(tmp_path / "a.mkv", 30, 600.0), sampling, PREPROCESSING))
    end = spans[-1].end
    assert end is not None and (end.status, end.windows) == ("ok", 2 * 29 + 1)
    numbers = [read_frame_number(clip[0]) for span in spans for clip in span.clips]
    assert numbers == [i // 2 for i in range(59)]


def test_few_frames_that_claim_to_last_for_days_together_are_damage(tmp_path: Path) -> None:
    sampling = Sampling(num_frames=1, sampling_rate=1, target_fps=10.0, hop_s=300.0)
    spans = list(read_spans(slides(tmp_path / "a.mkv", 30, 3000.0), sampling, PREPROCESSING))
    end = spans[-1].end
    assert end is not None and (end.status, end.error_kind) == ("partial", "damaged")
    assert "its first 15 frames claim to last 12 h" in (end.error or "")
    # 14 frames are accepted, with 10 windows each, and the first window of the next frame.
    assert end.windows == 141


@pytest.mark.parametrize("decoder", ["decord", "pyav", "pyav-fast", "pyav-sparse"])
def test_a_reader_reports_progress_while_it_yields_no_frames(decoder: DecoderName, tmp_path: Path) -> None:
    if decoder == "decord" and not has_decord():
        pytest.skip("decord has no wheel for this machine")
    path = encode(tmp_path / "a.mp4", seconds=2)
    calls = 0

    class Watched(ReadProgress):
        def on_advance(self) -> None:
            nonlocal calls
            calls += 1

    progress = Watched()
    sampling = replace(SAMPLING, hop_s=100.0)
    list(read_unstacked_spans(path, sampling, PREPROCESSING, choice=Choice(decoder), progress=progress))
    assert progress.choice == Choice(decoder)
    # One call for each packet, and one for each frame.
    assert calls >= 120


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(188))


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 10**9))


@pytest.mark.parametrize("change", [grow, touch, Path.unlink], ids=lambda change: change.__name__)
def test_a_file_that_changes_while_it_is_read_keeps_its_windows_and_is_reported_as_changed(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.ts", seconds=2)
    spans = read_spans(path, SAMPLING, PREPROCESSING, span_windows=1)
    windows = list(next(spans).windows)
    change(path)
    for span in spans:
        windows += span.windows
    assert [window.index for window in windows] == [0, 1, 2, 3, 4]
    assert span.end is not None
    assert (span.end.status, span.end.windows, span.end.error_kind) == ("partial", 5, "changed")
    assert span.end.error == f"{path} was written to, or removed, while it was read"


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.avi"])
@pytest.mark.parametrize("hop_s", [None, 0.25, 0.7])
def test_windows_of_ranges_are_those_of_the_whole_video(name: str, hop_s: float | None, tmp_path: Path) -> None:
    path = encode(tmp_path / name, seconds=2, codec="mpeg4" if name == "a.avi" else "libx264")
    sampling = replace(SAMPLING, hop_s=hop_s)
    only = [(1.7, 5.0), (0.45, 0.5), (3.0, 4.0)]
    whole = {window: clip for span in read_spans(path, sampling, PREPROCESSING) for window, clip in clips_of(span)}
    spans = list(read_spans(path, sampling, PREPROCESSING, span_windows=1, only=only))
    found = {window: clip for span in spans for window, clip in clips_of(span)}
    assert list(found) == [
        window
        for window in whole
        if any(window.start_s < end_s - 1e-3 and window.end_s > start_s + 1e-3 for start_s, end_s in only)
    ]
    assert 0 < len(found) < len(whole)
    assert all(np.array_equal(clip, whole[window]) for window, clip in found.items())
    end = spans[-1].end
    assert end is not None and end.facts is not None
    assert (end.status, end.windows, end.facts.duration_s) == ("ok", len(found), pytest.approx(2.0))


def clips_of(span: Span) -> list[tuple[Window, np.ndarray]]:
    return list(zip(span.windows, span.clips, strict=True))


def test_a_video_without_a_window_in_its_ranges_is_read_to_its_end(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", seconds=2)
    (span,) = read_spans(path, SAMPLING, PREPROCESSING, only=[(2.5, 3.0)])
    assert span.end is not None and span.end.facts is not None
    assert (span.windows, span.end.status, span.end.windows) == ((), "ok", 0)
    assert span.end.facts.duration_s == pytest.approx(2.0)
