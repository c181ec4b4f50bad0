"""A file that is watched."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from tagger import VideoError, watch
from tagger.clips import read_spans
from tagger.live import watch as watch_module
from tests.tagger.live.fake_model import SAMPLING, fake_tagger
from tests.videos import encode


def windows_of(path: Path, hop_s: float) -> list[tuple[int, float, float, float]]:
    """Returns what ``Tagger.tag`` gives with the same model: number, times and confidence of each segment."""
    model = fake_tagger()
    sampling = replace(SAMPLING, hop_s=hop_s)
    found = []
    for span in read_spans(path, sampling, model.source.info.preprocessing, reader="pyav"):
        for window, clip in zip(span.windows, span.clips, strict=True):
            probabilities, _ = model.classifier.classify(clip[None])
            found.append((window.index, window.start_s, window.end_s, float(probabilities.max())))
    return found


def watched(path: Path, **options: float) -> list[tuple[int, float, float, float]]:
    segments = watch(str(path), model=fake_tagger(), **options)
    return [(each.index, each.start_s, each.end_s, each.confidence) for each in segments]


@pytest.mark.parametrize("hop_s", [SAMPLING.window_s / 2, 0.2, 1.0])
def test_it_gives_the_segments_of_the_file(hop_s: float, tmp_path: Path) -> None:
    times_s = [0.0, 0.05, 0.3, 0.31, 0.32, 0.9, 1.4, 1.5, 1.6, 1.7, 2.6]
    path = encode(tmp_path / "a.mp4", times_s=times_s)
    assert watched(path, hop_s=hop_s) == windows_of(path, hop_s)


@pytest.mark.usefixtures("nothing_dropped")
def test_half_a_window_is_the_usual_hop_and_the_pace_changes_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", seconds=2, rate=25)
    usual = watched(path)
    assert usual == windows_of(path, SAMPLING.window_s / 2) and len(usual) == 7
    assert watched(path, pace=4.0) == usual


def test_a_damaged_file_gives_the_windows_before_its_damage(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", seconds=4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    expected = windows_of(path, SAMPLING.window_s / 2)
    found = []
    with contextlib.suppress(VideoError):
        for each in watch(str(path), model=fake_tagger()):
            found.append((each.index, each.start_s, each.end_s, each.confidence))
    assert found == expected and len(found) > 2


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match=r"a\.mp4 .*not a video"):
        list(watch(str(tmp_path / "a.mp4"), model=fake_tagger()))


def test_a_pace_or_a_hop_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=0.5)
    for options in ({"pace": 0.0}, {"hop_s": 0.01}):
        with pytest.raises(ValueError, match=r"pace is|hop is"):
            watch(str(path), model=fake_tagger(), **options)


def test_a_pause_before_a_source_is_opened_again_has_its_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "IDLE_S", 0.01)
    ticks: list[int] = []
    watch_module.pause(0.03, lambda: ticks.append(1))
    assert ticks
