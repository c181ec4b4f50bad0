"""Tests of fast decoding: the windows are the same, and show the nearest frame that other frames refer to."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tagger import load_model
from tagger.clips import Span, VideoEnd, read_spans
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.videos import encode, read_frame_number

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)  # 0.4 s
FAST = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0, fast_decode=True)
PREPROCESSING = Preprocessing(size=64, resize=64)


@pytest.fixture(autouse=True)
def rule_as_it_is(decord_is_cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns off ``decord_is_cheap``, so that readers are chosen by the real rule."""
    monkeypatch.undo()


def read(path: Path, sampling: Sampling) -> tuple[list[Span], VideoEnd]:
    spans = list(read_spans(path, sampling, PREPROCESSING))
    assert spans[-1].end is not None
    return spans, spans[-1].end


def numbers(spans: list[Span]) -> list[list[int | None]]:
    return [[read_frame_number(pixels) for pixels in clip] for span in spans for clip in span.clips]


def windows(spans: list[Span]) -> list[object]:
    return [window for span in spans for window in span.windows]


def referred_to(path: Path) -> Iterator[tuple[int, bool]]:
    """Yields the time in ticks of each frame of an H.264 file in MP4, and whether other frames may refer to it.

    The second value is nal_ref_idc of ITU-T H.264, in the header of each slice.
    """
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            content, at = bytes(packet), 0
            slices = []
            while at < len(content):
                length, header = int.from_bytes(content[at : at + 4], "big"), content[at + 4]
                if header & 0x1F in (1, 5):
                    slices.append(header >> 5 & 3 > 0)
                at += 4 + length
            if slices and packet.pts is not None:
                yield packet.pts, any(slices)


def nearest(path: Path) -> list[int]:
    """Returns for each frame of a file the number of the frame that fast decoding shows instead."""
    frames = sorted(referred_to(path))
    kept = [number for number, (_, is_kept) in enumerate(frames) if is_kept]
    # min() returns the first of two frames that are equally near.
    return [min(kept, key=lambda other, tick=tick: abs(frames[other][0] - tick)) for tick, _ in frames]  # type: ignore[misc]


UNEVEN_S = [Fraction(n * 40 + (n % 5) * 7, 1000) for n in range(70)]


@pytest.mark.parametrize(
    "settings",
    [
        {"seconds": 3, "options": {"bf": "2"}},
        {"seconds": 3, "options": {"bf": "3", "b-pyramid": "none", "b_strategy": "0"}},
        {"seconds": 3, "options": {"bf": "3", "b-pyramid": "normal", "b_strategy": "0"}},
        {"seconds": 3, "rate": 60, "options": {"bf": "8", "b-pyramid": "none", "b_strategy": "0"}},
        {"seconds": 3, "options": {"bf": "0"}},
        {"times_s": UNEVEN_S},
        {"seconds": 3, "start_s": 2},
        {"frames": 1},
        {"frames": 2},
        {"frames": 5},
    ],
)
@pytest.mark.parametrize("hop_s", [None, 0.137])
def test_a_sample_shows_the_nearest_frame_that_others_refer_to(
    settings: dict[str, object], hop_s: float | None, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", **settings)  # type: ignore[arg-type]
    sampling, fast = (Sampling(4, 1, 10.0, hop_s, fast_decode) for fast_decode in (False, True))
    exact, exact_end = read(path, sampling)
    found, end = read(path, fast)
    instead = nearest(path)
    assert numbers(found) == [[instead[number] for number in clip if number is not None] for clip in numbers(exact)]
    assert windows(found) == windows(exact)
    assert (end.status, end.windows, end.facts) == (exact_end.status, exact_end.windows, exact_end.facts)
    assert end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("pyav-fast", None)


@pytest.mark.parametrize("size", [64, 48, 90])
def test_pictures_are_nearly_those_of_exact_decoding(size: int, tmp_path: Path) -> None:
    # Without B-frames, so that the same frames are shown.
    path = encode(tmp_path / "a.mp4", seconds=2, options={"bf": "0"})
    exact, fast = (
        np.concatenate([span.clips for span in read_spans(path, sampling, Preprocessing(size, size))]).astype(float)
        for sampling in (SAMPLING, FAST)
    )
    assert np.abs(fast - exact).mean() < 2


def test_half_of_the_frames_or_more_are_skipped_with_b_frames(tmp_path: Path) -> None:
    # Otherwise the tests above would prove nothing.
    for b_frames, kept in ((1, 1 / 2), (3, 1 / 4)):
        options = {"bf": str(b_frames), "b-pyramid": "none", "b_strategy": "0", "g": "240"}
        path = encode(tmp_path / "a.mp4", seconds=2, options=options)
        assert len(set(nearest(path))) <= kept * 60 + 2


@pytest.mark.parametrize(
    ("name", "codec", "reason"),
    [
        ("a.mkv", "libvpx", "there is no fast decoding of vp8 in matroska files"),
        ("a.mov", "mjpeg", "there is no fast decoding of mjpeg in mov files"),
        ("a.ts", "libx264", "there is no fast decoding of h264 in mpegts files"),
        ("a.avi", "libx264", "there is no fast decoding of h264 in avi files"),
    ],
)
def test_a_video_that_cannot_be_decoded_faster_is_read_normally(
    name: str, codec: str, reason: str | None, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, codec=codec, seconds=2)
    exact, exact_end = read(path, SAMPLING)
    found, end = read(path, FAST)
    assert numbers(found) == numbers(exact)
    assert end.choice is not None
    assert exact_end.choice is not None
    assert end.choice.decoder == exact_end.choice.decoder
    assert end.choice.reason == reason


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx265"), ("a.mp4", "mpeg4"), ("a.mov", "mpeg2video")])
def test_other_codecs_with_frames_that_none_refers_to_are_decoded_fast_too(
    name: str, codec: str, tmp_path: Path
) -> None:
    path = encode(tmp_path / name, codec=codec, seconds=2, options=None if codec == "libx265" else {"bf": "2"})
    # Samples every fifth frame. Other frames refer to every third or fourth frame.
    exact, exact_end = read(path, Sampling(4, 1, 6.0))
    found, end = read(path, Sampling(4, 1, 6.0, fast_decode=True))
    assert end.choice is not None
    assert end.choice.decoder == "pyav-fast"
    assert (end.status, end.facts) == ("ok", exact_end.facts)
    assert windows(found) == windows(exact)
    shown, expected = (np.array(numbers(spans)) for spans in (found, exact))
    assert 0 < np.abs(shown - expected).max() <= 2


def test_a_damaged_video_keeps_the_windows_before_the_damage(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=4, options={"g": "12"})
    content = bytearray(path.read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(content)
    exact, exact_end = read(path, SAMPLING)
    found, end = read(path, FAST)
    assert (end.status, end.error_kind) == (exact_end.status, exact_end.error_kind) == ("partial", "damaged")
    assert 2 <= len(windows(found)) <= len(windows(exact)) + 1
    assert windows(found)[:2] == windows(exact)[:2]


def test_a_decoder_process_and_the_library_decode_fast_too(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=2)
    with DecoderProcess() as decoder:
        spans = list(decoder.spans(path, FAST, PREPROCESSING))
        assert numbers(spans) == numbers(read(path, FAST)[0])
    segments, end = load_model().read(path, fast_decode=True)
    assert segments
    assert end.choice is not None
    assert end.choice.decoder == "pyav-fast"


def test_a_sampling_describes_fast_decoding() -> None:
    assert str(FAST) == "4×1 @ 10 fps, fast decoding"
    assert Sampling(**FAST.to_json()) == FAST
    # Without fast decoding the JSON is the same as in versions without this option.
    assert SAMPLING.to_json() == {"num_frames": 4, "sampling_rate": 1, "target_fps": 10.0, "hop_s": None}


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "mpeg4")])
def test_damage_costs_the_same_windows_as_in_normal_reading(name: str, codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, codec=codec, seconds=12, rate=25, options={"g": "25"})
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 2000] = bytes(2000)
    path.write_bytes(data)
    (usual, end), (found, fast_end) = read(path, SAMPLING), read(path, FAST)
    assert (end.status, fast_end.status, len(end.gaps), len(fast_end.gaps)) == ("partial", "partial", 1, 1)
    # The gap begins with the last frame that was decoded. Fast decoding skips some before it.
    assert fast_end.gaps[0] == pytest.approx(end.gaps[0], abs=0.25)
    assert 0 <= len(windows(usual)) - len(windows(found)) <= 1
    assert set(windows(found)) <= set(windows(usual))
    assert end.windows < SAMPLING.window_count(12.0)
