"""Several threads give the frames of one thread, and leave every video with a sign of damage to one thread."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tagger.clips import read_spans, read_unstacked_spans
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts, probe
from tagger.video.readers.nvdec_reader import NvdecError
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import Frame, Gap, Needs
from tagger.video.readers.threaded_reader import ThreadedReader, ThreadsError, threads_for
from tagger.windows import Sampling
from tests.tagger.sequential import assert_threads_are_same_as_one, windows_of
from tests.videos import encode

SAMPLING = Sampling(num_frames=4, sampling_rate=2, target_fps=20.0, hop_s=0.3)
PREPROCESSING = Preprocessing(size=32, resize=32)

WITHOUT_B_FRAMES = {"bf": "0"}

VIDEOS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"container_options": {"movflags": "faststart"}, "options": WITHOUT_B_FRAMES},
    "h264.ts": {"options": WITHOUT_B_FRAMES},
    "h264.mkv": {"options": WITHOUT_B_FRAMES},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mp4": {"codec": "libsvtav1"},
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> VideoFacts:
    """Facts of an H.264 video."""
    return probe(encode(tmp_path_factory.mktemp("facts") / "a.mp4", frames=2))


def threaded(path: Path) -> ThreadedReader:
    """Opens a video with three threads."""
    return ThreadedReader(path, probe(path), 32, 32, 3)


@pytest.mark.parametrize("name", VIDEOS)
def test_an_intact_video_is_read_to_its_end(name: str, tmp_path: Path) -> None:
    reader = threaded(encode(tmp_path / name, frames=40, **VIDEOS[name]))
    frames = list(reader.timed_frames())
    reader.close()
    assert len(frames) == 40


@pytest.mark.parametrize("name", VIDEOS)
def test_a_damaged_video_is_read_as_by_one_thread(name: str, tmp_path: Path) -> None:
    data = encode(tmp_path / name, frames=40, width=192, height=128, **VIDEOS[name]).read_bytes()
    for number in range(8):
        random = np.random.default_rng(number)
        at, length = int(random.integers(len(data) // 4, len(data))), int(random.integers(50, 800))
        mutant = data[:at] + (bytes(length) if number % 2 else random.bytes(length)) + data[at + length :]
        (tmp_path / name).write_bytes(mutant)
        assert_threads_are_same_as_one(tmp_path / name, SAMPLING, threads=3)


@pytest.mark.parametrize("frame", [18, 19])
def test_damage_in_the_last_frames_that_is_not_logged_is_found(frame: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", codec="libsvtav1", frames=20, width=192, height=128)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
        assert packet.pos is not None
    data = bytearray(path.read_bytes())
    data[packet.pos + packet.size // 2] ^= 0xFF
    path.write_bytes(data)
    assert windows_of(path, SAMPLING, Choice("pyav"))[-1] is not None
    assert_threads_are_same_as_one(path, SAMPLING, threads=5)


def test_a_reading_that_begins_again_with_several_threads_forgets_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingReader(PyAVReader):
        def frames(self, needs: Needs) -> Iterator[Frame | Gap]:
            yield Gap(0.0, 0.5)
            raise NvdecError("the GPU is lost")

    monkeypatch.setattr("tagger.video.choose.NvdecReader", FailingReader)
    path = encode(tmp_path / "a.mp4", frames=20)
    _, progress, error = windows_of(path, SAMPLING, Choice("pyav-nvdec"), threads=2)
    assert (progress.gaps, error, progress.choice and progress.choice.decoder) == ([], None, "pyav")


def test_only_a_video_that_pyav_reads_whole_has_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mp4", frames=60)
    opened = []

    def opening(*arguments: Any) -> ThreadedReader:
        opened.append(arguments[4])
        return ThreadedReader(*arguments)

    monkeypatch.setattr("tagger.video.choose.ThreadedReader", opening)
    for sampling in (SAMPLING, replace(SAMPLING, hop_s=1.0), replace(SAMPLING, fast_decode=True)):
        (span,) = read_unstacked_spans(path, sampling, PREPROCESSING, span_windows=99, reader="pyav", threads=3)
        assert span.end is not None and span.end.status == "ok"
    assert opened == [3]


@pytest.mark.parametrize("name", ["h264.mp4", "h264.ts"])
def test_h264_with_b_frames_is_left_to_one_thread(name: str, tmp_path: Path) -> None:
    reader = threaded(encode(tmp_path / name, frames=40, options={"bf": "2"}))
    with pytest.raises(ThreadsError, match="has B-frames"):
        list(reader.timed_frames())
    reader.close()


def test_a_hole_ends_the_work_of_several_threads(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", frames=60, width=192, height=128, options=WITHOUT_B_FRAMES)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    reader = threaded(path)
    with pytest.raises(ThreadsError, match="data are damaged"):
        list(reader.timed_frames())
    reader.close()


@pytest.mark.parametrize(
    ("width", "height", "asked", "threads"),
    [(320, 240, 1, 1), (320, 240, 6, 6), (3840, 2160, 64, 10), (320, 240, 64, 16), (8192, 8192, 8, 1)],
)
def test_the_frames_of_all_threads_fit_into_the_memory_of_a_decoder(
    width: int, height: int, asked: int, threads: int, facts: VideoFacts
) -> None:
    assert threads_for(replace(facts, width=width, height=height), asked) == threads


def test_codecs_whose_silent_damage_shows_other_pixels_have_one_thread(facts: VideoFacts) -> None:
    assert [threads_for(replace(facts, codec=codec), 4) for codec in ("h264", "av1", "hevc", "ffv1")] == [4, 4, 1, 1]


def test_a_decoder_process_gives_the_same_with_several_threads(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", frames=40, options=WITHOUT_B_FRAMES)
    (expected,) = read_spans(path, SAMPLING, PREPROCESSING, span_windows=99)
    with DecoderProcess() as decoder:
        (span,) = decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=99, threads=2)
        assert (span.windows, span.end and span.end.status) == (expected.windows, "ok")
        assert np.array_equal(span.clips, expected.clips)
