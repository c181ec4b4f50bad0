"""Promises about where a job decodes."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.archive.listing import find_videos
from jobs.archive.video import Video
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.tagging import decode_trial
from jobs.tagging.decode_trial import MIN_SPEEDUP, TRIAL_MIN_BYTES, DecodeRate, nvdec_is_faster, should_use_nvdec
from jobs.tagging.finished.collector import Collector
from jobs.tagging.pipeline import choose_workers, tag_videos
from tagger import Preprocessing, Sampling, find_model
from tagger.errors import VtagError
from tagger.isolation import DecoderProcess
from tagger.tagger import ModelSource
from tagger.video.readers.reader import DecoderName
from tests.clusters import cluster
from tests.videos import encode

PREPROCESSING = Preprocessing(32, 32)


@pytest.fixture(scope="module")
def ray_with_a_fake_gpu() -> Iterator[str]:
    """The address of a Ray with one logical GPU, also on a machine without a GPU."""
    with cluster(2, num_gpus=1) as nodes:
        yield nodes.address


def decide(wanted: decode_trial.DecodeDevice, gpus: int, videos: list[Video], device: str = "auto") -> bool:
    workers = choose_workers(2, gpus, device)
    return should_use_nvdec(videos, Sampling(), PREPROCESSING, workers, wanted=wanted, gpus=gpus)


def test_asking_for_a_missing_gpu_is_an_error_of_one_line() -> None:
    with pytest.raises(VtagError, match=r"^--decode-device cuda: no GPU .*; use --decode-device cpu or auto$"):
        decide("cuda", 0, [])


def test_an_explicit_device_is_used_without_a_trial() -> None:
    assert decide("cuda", 1, [])
    assert not decide("cpu", 1, [])


@pytest.mark.parametrize(("gpus", "device"), [(0, "auto"), (1, "cpu")])
def test_auto_does_not_decode_on_gpus_that_the_models_do_not_use(gpus: int, device: str) -> None:
    assert not decide("auto", gpus, [Video("a.mp4", TRIAL_MIN_BYTES, 0)], device)


def test_a_small_job_gets_no_trial() -> None:
    # No Ray is running here: a trial would fail.
    assert not decide("auto", 1, [Video("a.mp4", TRIAL_MIN_BYTES // 2, 0), Video("b.mp4", TRIAL_MIN_BYTES // 2 - 1, 0)])


def names(folder: Path) -> list[bytes]:
    encode(folder / "a.mp4", seconds=2)
    encode(folder / "b.mkv", codec="mjpeg", seconds=2)
    (folder / "c.mp4").write_text("no video")
    return [os.fsencode(folder / name) for name in ("c.mp4", "missing.mp4", "b.mkv", "a.mp4")]


@pytest.mark.parametrize(("gain", "expected"), [(MIN_SPEEDUP + 0.01, True), (MIN_SPEEDUP - 0.01, False)])
def test_the_gpu_decodes_when_that_is_clearly_faster(
    gain: float, expected: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried: list[tuple[DecoderName, int, list[str]]] = []

    def measure(videos: list[tuple[str, object]], *rest: object) -> DecodeRate:
        _, _, reader, cores, _ = rest
        tried.append((reader, cores, [Path(path).name for path, _ in videos]))  # type: ignore[arg-type]
        return DecodeRate(reader, cores, 0.0, 100 * gain if reader == "pyav-nvdec" else 100)  # type: ignore[arg-type]

    monkeypatch.setattr(decode_trial, "measure_decoding", measure)
    monkeypatch.setattr(DecoderProcess, "nvdec_reads", lambda decoder, path: True)
    assert nvdec_is_faster(names(tmp_path), Sampling(), PREPROCESSING, 64) is expected
    # Only the video that a GPU can decode is measured.
    assert tried == [("pyav", 64, ["a.mp4"]), ("pyav-nvdec", 16, ["a.mp4"])]


def test_without_a_decoder_on_the_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(DecoderProcess, "nvdec_reads", lambda decoder, path: False)
    monkeypatch.setattr(decode_trial, "measure_decoding", lambda *_: pytest.fail("measured"))
    assert not nvdec_is_faster(names(tmp_path), Sampling(), PREPROCESSING, 2)


def decode_on_the_fake_gpu(
    session: RaySession, send_event: SendEvent, videos: list[Video], source: ModelSource
) -> None:
    if not has_gpu():
        # The trial runs on the logical GPU.
        assert not decide("auto", 1, [replace(video, size=TRIAL_MIN_BYTES) for video in videos])
    # When the GPU has to decode, every video is still read.
    workers = choose_workers(2, 1, "cpu", nvdec=True)
    assert workers.decoder_gpus > 0
    for table in tag_videos(videos, source, source.info.sampling, workers, top_k=1):
        send_event(table)


@pytest.mark.slow
def test_the_cores_decode_when_the_gpu_cannot(ray_with_a_fake_gpu: str, model_file: Path, tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=5)
    videos = list(find_videos([str(tmp_path)]))
    tables: list[pa.Table] = []
    source = find_model(str(model_file))
    run_on_ray("tagging", decode_on_the_fake_gpu, videos, source, on_event=tables.append, address=ray_with_a_fake_gpu)
    collector = Collector(videos)
    (end,) = [done.end for table in tables for done in collector.add(table)]
    assert (end.status, end.windows) == ("ok", 3)
    if not has_gpu():
        assert end.choice is not None
        assert end.choice.decoder == "pyav"
        assert str(end.choice.reason).startswith("there is no GPU that decodes")


def fails(*_: object) -> bool:
    raise VtagError("a decoder process cannot be started")


def decide_with_a_trial_that_fails(session: RaySession, send_event: SendEvent) -> bool:
    decode_trial.nvdec_is_faster = fails
    return decide("auto", 1, [Video("a.mp4", TRIAL_MIN_BYTES, 0)])


@pytest.mark.slow
def test_the_cores_decode_when_the_trial_fails(ray_with_a_fake_gpu: str) -> None:
    assert not run_on_ray("tagging", decide_with_a_trial_that_fails, address=ray_with_a_fake_gpu)


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
