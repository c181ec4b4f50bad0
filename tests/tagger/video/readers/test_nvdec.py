"""Tests of decoding on a GPU: the windows are the same, and the CPU decodes videos that the GPU cannot."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from tagger.clips import Span, VideoEnd, read_spans
from tagger.errors import VideoError
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.video import probe
from tagger.video.choose import Choice, choose_reader
from tagger.video.pyav_versions import READS_FROM_GPU
from tagger.video.readers import nvdec_reader
from tagger.video.readers.nvdec_reader import NVDEC_CODECS, nvdec_reads, to_planar
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.windows import Sampling
from tests.videos import encode

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)  # 0.4 s
PREPROCESSING = Preprocessing(size=64, resize=64)


@pytest.fixture(autouse=True)
def rule_as_it_is(decord_is_cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns off ``decord_is_cheap``, so that readers are chosen by the real rule."""
    monkeypatch.undo()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the CPU in place of the GPU."""
    if not READS_FROM_GPU:
        pytest.skip("this PyAV cannot read frames from a GPU")
    monkeypatch.setattr(nvdec_reader, "_gpu_settings", lambda: None)
    monkeypatch.setattr(nvdec_reader, "GPU_FORMAT", "yuv420p")


def read(path: Path, *, nvdec: bool, preprocessing: Preprocessing = PREPROCESSING) -> tuple[list[Span], VideoEnd]:
    spans = list(read_spans(path, SAMPLING, preprocessing, span_windows=2, nvdec=nvdec))
    assert spans[-1].end is not None
    return spans, spans[-1].end


def assert_same(found: tuple[list[Span], VideoEnd], expected: tuple[list[Span], VideoEnd]) -> None:
    """Asserts that windows, clips and end are equal, except for the reader and the time."""
    clips, windows = zip(*((span.clips, span.windows) for span in found[0]), strict=True)
    other_clips, other_windows = zip(*((span.clips, span.windows) for span in expected[0]), strict=True)
    assert sum(windows, ()) == sum(other_windows, ())
    assert np.array_equal(np.concatenate(clips), np.concatenate(other_clips))
    assert replace(found[1], choice=None, decode_s=0) == replace(expected[1], choice=None, decode_s=0)


def test_decoding_on_the_gpu_gives_the_same_windows(stand_in: None, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=3)
    found = read(path, nvdec=True)
    assert found[1].choice == Choice("pyav-nvdec")
    assert_same(found, read(path, nvdec=False))


def test_without_a_gpu_the_cpu_decodes_and_the_reason_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Hides the GPU if there is one.
    monkeypatch.setattr(nvdec_reader, "hwdevices_available", list)
    monkeypatch.setattr(nvdec_reader, "READS_FROM_GPU", True)
    path = encode(tmp_path / "a.mp4", seconds=3)
    found = read(path, nvdec=True)
    reason = "there is no GPU that decodes (this FFmpeg was built without CUDA)"
    assert found[1].choice == Choice("pyav", reason)
    assert_same(found, read(path, nvdec=False))
    assert not nvdec_reads(path, probe(path))


def test_with_an_old_pyav_the_cpu_decodes_and_the_reason_is_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nvdec_reader, "READS_FROM_GPU", False)
    end = read(encode(tmp_path / "a.mp4", seconds=3), nvdec=True)[1]
    assert end.status == "ok" and end.choice is not None
    assert end.choice.decoder == "pyav"
    assert end.choice.reason == f"there is no GPU that decodes (PyAV {av.__version__} is too old, 18 is needed)"


def test_a_video_that_the_gpu_refuses_is_decoded_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvdec_reader, "_gpu_settings", lambda: None)
    path = encode(tmp_path / "a.mp4", seconds=3)
    found = read(path, nvdec=True)
    assert found[1].choice == Choice("pyav", "the GPU does not decode it")
    assert_same(found, read(path, nvdec=False))


@pytest.mark.parametrize("good_frames", [1, 2, 30, 89, 90])
def test_a_gpu_that_fails_in_the_middle_loses_no_windows(
    good_frames: int, stand_in: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp4", seconds=3)
    expected = read(path, nvdec=False)
    on_core = PyAVReader._decoded

    def failing(reader: PyAVReader) -> Iterator[av.VideoFrame]:
        frames = on_core(reader)
        if reader.name == "pyav-nvdec":
            for _ in range(good_frames):
                yield next(frames)
            raise VideoError("damaged", "out of memory")
        yield from frames

    monkeypatch.setattr(PyAVReader, "_decoded", failing)
    found = read(path, nvdec=True)
    assert found[1].choice == Choice("pyav", "decoding on the GPU failed (out of memory)")
    assert_same(found, expected)


def test_a_damaged_video_ends_at_the_same_frame_as_on_a_cpu(stand_in: None, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=8, container_options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path.write_bytes(content)
    expected = read(path, nvdec=False)
    assert expected[1].status == "partial"
    assert_same(read(path, nvdec=True), expected)


@pytest.mark.parametrize(
    ("codec", "fast", "decoder"),
    [
        ("h264", False, "pyav-nvdec"),
        ("hevc", False, "pyav-nvdec"),
        ("vp9", False, "pyav-nvdec"),
        ("mjpeg", False, "pyav"),
        # FFmpeg's decoder for it, dav1d, does not use GPUs.
        ("av1", False, "pyav"),
        ("h264", True, "pyav-fast"),
        ("vp9", True, "pyav-nvdec"),
    ],
)
def test_the_gpu_is_chosen_for_codecs_that_it_decodes_bit_exact(
    codec: str, fast: bool, decoder: str, tmp_path: Path
) -> None:
    facts = replace(probe(encode(tmp_path / "a.mp4")), codec=codec)
    assert choose_reader(facts, 0, fast=fast, nvdec=True).decoder == decoder


def test_the_gpu_is_used_only_on_request(tmp_path: Path) -> None:
    facts = probe(encode(tmp_path / "a.mp4"))
    for codec in NVDEC_CODECS:
        assert choose_reader(replace(facts, codec=codec), 0).decoder != "pyav-nvdec"


@pytest.mark.parametrize(("interleaved", "planar"), nvdec_reader.PLANAR_FORMATS.items())
@pytest.mark.parametrize(("width", "height"), [(854, 480), (426, 240), (322, 242), (72, 72)])
def test_interleaved_planes_are_separated_bit_exact(interleaved: str, planar: str, width: int, height: int) -> None:
    bits = 10 if interleaved == "p010le" else 8
    kind = np.dtype("<u2" if bits > 8 else "u1")
    random = np.random.default_rng(0)
    y, u, v = (random.integers(0, 2**bits, (height // half, width // half)).astype(kind) for half in (1, 2, 2))
    frame = av.VideoFrame(width, height, interleaved)
    # P010 has its values in the upper bits.
    for plane, values in zip(frame.planes, (y, np.stack([u, v], axis=-1)), strict=True):
        rows = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
        flat = values.reshape(len(values), -1)
        rows[:, : flat.shape[1]] = flat << (6 if bits > 8 else 0)
        plane.update(rows.tobytes())
    found = to_planar(VideoReformatter(), frame, planar)
    for plane, values in zip(found.planes, (y, u, v), strict=True):
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        np.testing.assert_array_equal(rows[:, : values.shape[1]], values)


def has_nvdec(path: Path) -> bool:
    with DecoderProcess() as decoder:
        return decoder.nvdec_reads(path)


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv420p"), ("libx264", "yuvj420p"), ("libx265", "yuv420p10le"), ("libvpx-vp9", "yuv420p")],
)
@pytest.mark.parametrize("resize", [240, 160])
def test_pictures_of_a_gpu_equal_those_of_a_cpu_bit_for_bit(
    codec: str, pixel_format: str, resize: int, tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mkv", codec=codec, pixel_format=pixel_format, seconds=2, width=320, height=240)
    if not has_nvdec(path):
        pytest.skip("there is no GPU here that decodes it")
    with DecoderProcess() as decoder:
        # PyAV is set because VP9 would be read with decord, which scales differently.
        expected = list(decoder.spans(path, SAMPLING, Preprocessing(160, resize), choice=Choice("pyav")))
        spans = list(decoder.spans(path, SAMPLING, Preprocessing(160, resize), nvdec=True))
    assert spans[-1].end is not None and expected[-1].end is not None
    assert spans[-1].end.choice == Choice("pyav-nvdec")
    assert_same((spans, spans[-1].end), (expected, expected[-1].end))
