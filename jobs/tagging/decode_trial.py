"""Whether a job decodes on GPUs: tried with its first videos, for it depends on the GPU, the cores and the videos."""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from jobs.archive.video import Video
from jobs.cluster.nodes import check_nodes
from jobs.storage.address import is_address
from jobs.storage.staging import staged
from jobs.tagging.pipeline import DECODERS_PER_GPU, DECODING_GPU, Workers
from tagger.clips import rule
from tagger.errors import VideoError, VtagError
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import DecoderName
from tagger.windows import Sampling

DecodeDevice = Literal["auto", "cpu", "cuda"]

TRIAL_VIDEOS = 4
TRIAL_S = 2.0
"""With how many of a job's videos it is tried (with one if they have to be copied), and for how long on either side."""

PATIENCE_S = 60.0
"""After so long without an answer the cores decode."""

LEAST_BYTES = 2**30
"""Of a job with less than that cores have decoded much by the time that a trial is over."""

WORTH = 1.2
"""From which gain on a GPU decodes: each decoder takes some of its memory, and of its time from the model."""


def use_nvdec(
    videos: Sequence[Video],
    sampling: Sampling,
    preprocessing: Preprocessing,
    workers: Workers,
    *,
    wanted: DecodeDevice,
    gpus: float,
) -> bool:
    """Whether GPUs shall decode. With ``auto``: in a large job, where models use them, if they beat the cores.

    Needs a running Ray. Raises VtagError when there is none of the GPUs that are wanted, and JobError when a machine of
    the cluster cannot do its part. Whatever goes wrong with a trial, the cores decode.
    """
    if wanted == "cuda" and gpus < 1:
        raise VtagError("--decode-device cuda: no GPU is available to Ray here; use --decode-device cpu or auto")
    if wanted != "auto":
        return wanted == "cuda"
    if gpus < 1 or workers.device == "cpu" or sum(video.size for video in videos) < LEAST_BYTES:
        return False
    if not _every_machine_has_a_gpu():
        return False
    import ray

    check_nodes(videos)
    names = [os.fsencode(video.path) for video in videos[: 1 if is_address(videos[0].path) else TRIAL_VIDEOS]]
    # One GPU against its share of the cores.
    cores = math.ceil(workers.cores / int(gpus))
    trial = ray.remote(num_cpus=0, num_gpus=DECODING_GPU, max_retries=0)(is_faster)
    asked = trial.remote(names, sampling, preprocessing, cores)
    try:
        faster: bool = ray.get(asked, timeout=PATIENCE_S)
    except (ray.exceptions.RayError, OSError, VtagError):
        ray.cancel(asked, force=True)
        return False
    return faster


def is_faster(
    names: Sequence[bytes], sampling: Sampling, preprocessing: Preprocessing, cores: int, seconds: float = TRIAL_S
) -> bool:
    """Whether the GPU of this machine decodes those of the videos that it can faster than ``cores`` do."""
    readable: list[tuple[str, VideoFacts]] = []
    with contextlib.ExitStack() as stack, DecoderProcess() as decoder:
        for name in names:
            with contextlib.suppress(VideoError):
                path = stack.enter_context(staged(os.fsdecode(name))).path
                facts = decoder.probe(path)
                is_for_gpu = rule(facts, sampling, preprocessing, nvdec=True).decoder == "pyav-nvdec"
                if is_for_gpu and decoder.nvdec_reads(path):
                    readable.append((path, facts))
        if not readable:
            return False
        usual = rule(readable[0][1], sampling, preprocessing).decoder
        on_cores = measure_decoding(readable, sampling, preprocessing, usual, cores, seconds)
        decoders = min(cores, DECODERS_PER_GPU)
        on_gpu = measure_decoding(readable, sampling, preprocessing, "pyav-nvdec", decoders, seconds)
    return on_gpu.windows_per_s >= WORTH * on_cores.windows_per_s


def _every_machine_has_a_gpu() -> bool:
    """Whether none of the machines that would decode would be left out."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return all(resources.get("GPU") for resources in nodes if resources.get("CPU"))


@dataclass(frozen=True)
class DecodeRate:
    """What ``cores`` decoder processes do together, with one reader."""

    reader: DecoderName
    cores: int
    frames_per_s: float
    windows_per_s: float


def measure_decoding(
    videos: Sequence[tuple[str, VideoFacts]],
    sampling: Sampling,
    preprocessing: Preprocessing,
    reader: DecoderName,
    cores: int,
    seconds: float,
) -> DecodeRate:
    """Reads the videos, each with its path and facts, over and over in ``cores`` processes."""
    with ThreadPoolExecutor(cores) as threads:
        rates = list(threads.map(lambda _: _decode(videos, sampling, preprocessing, reader, seconds), range(cores)))
    return DecodeRate(reader, cores, sum(frames for frames, _ in rates), sum(windows for _, windows in rates))


def _decode(
    videos: Sequence[tuple[str, VideoFacts]],
    sampling: Sampling,
    preprocessing: Preprocessing,
    reader: DecoderName,
    seconds: float,
) -> tuple[float, float]:
    """Source frames and windows per second of one process."""
    frames, windows = 0.0, 0
    with DecoderProcess() as decoder:
        # The first one starts the process.
        decoder.probe(videos[0][0])
        if reader == "pyav-nvdec":
            # And its context on the GPU.
            decoder.nvdec_reads(videos[0][0])
        started_s = time.perf_counter()
        for path, facts in itertools.cycle(videos):
            for span in decoder.spans(path, sampling, preprocessing, choice=Choice(reader)):
                windows += len(span.windows)
                frames += sum(window.end_s - window.start_s for window in span.windows) * (facts.fps or 0.0)
                # decord reads a video to its end before its first windows come.
                if time.perf_counter() - started_s >= seconds and (reader != "decord" or span.end is not None):
                    passed_s = time.perf_counter() - started_s
                    return frames / passed_s, windows / passed_s
    raise AssertionError("the cycle has no end")
