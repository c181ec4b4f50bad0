"""Measures decoding, on CPU cores and on a GPU, and decides by such a trial whether a job decodes on GPUs.

The faster way depends on the GPU, the CPU cores and the videos. So a trial decodes the first videos of the job.
"""

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
from jobs.storage.address import is_address
from jobs.storage.staging import staged
from jobs.tagging.pipeline import DECODERS_PER_GPU, DECODING_GPU_SHARE, Workers
from tagger.errors import VideoError, VtagError
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.cutting import choose_first_reader
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import DecoderName
from tagger.windows import Sampling

DecodeDevice = Literal["auto", "cpu", "cuda"]

TRIAL_VIDEOS = 4
"""Number of videos in a trial; one when the videos are in a bucket and have to be copied."""

TRIAL_S = 2.0
"""Seconds of decoding in a trial, on the cores and on the GPU each."""

TRIAL_TIMEOUT_S = 60.0
"""Seconds to wait for a trial. After a timeout the cores decode."""

TRIAL_MIN_BYTES = 2**30
"""Minimum size of a job with a trial, in bytes. The cores decode much of a smaller job in the time of a trial."""

MIN_SPEEDUP = 1.2
"""Minimum speed-up for which a GPU decodes: each decoder takes GPU memory, and GPU time from the model."""


def should_use_nvdec(
    videos: Sequence[Video],
    sampling: Sampling,
    preprocessing: Preprocessing,
    workers: Workers,
    *,
    wanted: DecodeDevice,
    gpus: float,
) -> bool:
    """Returns whether GPUs decode the videos.

    With ``auto`` they do when the job is large, its models run on GPUs, and a trial shows that GPUs are faster. When a
    trial fails, the cores decode. Needs a running Ray. Raises VtagError when ``wanted`` is ``cuda`` and there is no
    GPU.
    """
    if wanted == "cuda" and gpus < 1:
        raise VtagError("--decode-device cuda: no GPU is available to Ray here; use --decode-device cpu or auto")
    if wanted != "auto":
        return wanted == "cuda"
    if gpus < 1 or workers.device == "cpu" or sum(video.size for video in videos) < TRIAL_MIN_BYTES:
        return False
    if not _every_machine_has_a_gpu():
        return False
    import ray

    names = [os.fsencode(video.path) for video in videos[: 1 if is_address(videos[0].path) else TRIAL_VIDEOS]]
    # The trial compares one GPU with its share of the cores.
    cores = math.ceil(workers.cores / int(gpus))
    trial = ray.remote(num_cpus=0, num_gpus=DECODING_GPU_SHARE, max_retries=0)(nvdec_is_faster)
    running = trial.remote(names, sampling, preprocessing, cores)
    try:
        is_faster: bool = ray.get(running, timeout=TRIAL_TIMEOUT_S)
    except (ray.exceptions.RayError, OSError, VtagError):
        ray.cancel(running, force=True)
        return False
    return is_faster


def nvdec_is_faster(
    names: Sequence[bytes], sampling: Sampling, preprocessing: Preprocessing, cores: int, seconds: float = TRIAL_S
) -> bool:
    """Returns whether the GPU of this machine decodes faster than ``cores`` cores.

    Both decode the videos that the GPU can read; without any the result is False.
    """
    readable: list[tuple[str, VideoFacts]] = []
    with contextlib.ExitStack() as stack, DecoderProcess() as decoder:
        for name in names:
            with contextlib.suppress(VideoError):
                path = stack.enter_context(staged(os.fsdecode(name))).path
                facts = decoder.probe(path)
                is_for_gpu = choose_first_reader(facts, sampling, preprocessing, nvdec=True).decoder == "pyav-nvdec"
                if is_for_gpu and decoder.nvdec_reads(path):
                    readable.append((path, facts))
        if not readable:
            return False
        cpu_reader = choose_first_reader(readable[0][1], sampling, preprocessing).decoder
        on_cores = measure_decoding(readable, sampling, preprocessing, cpu_reader, cores, seconds)
        decoders = min(cores, DECODERS_PER_GPU)
        on_gpu = measure_decoding(readable, sampling, preprocessing, "pyav-nvdec", decoders, seconds)
    return on_gpu.windows_per_s >= MIN_SPEEDUP * on_cores.windows_per_s


def _every_machine_has_a_gpu() -> bool:
    """Returns whether each machine with CPUs has a GPU: a machine without one would not decode."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return all(resources.get("GPU") for resources in nodes if resources.get("CPU"))


@dataclass(frozen=True)
class DecodeRate:
    """The total rate of several decoder processes with one reader. ``cores`` is the number of these processes."""

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
    """Measures ``cores`` processes that decode ``videos``, pairs of path and facts, repeatedly for ``seconds``."""
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
    """Returns source frames per second and windows per second of one process."""
    frames, windows = 0.0, 0
    with DecoderProcess() as decoder:
        # The first call starts the process.
        decoder.probe(videos[0][0])
        if reader == "pyav-nvdec":
            # This call creates its context on the GPU.
            decoder.nvdec_reads(videos[0][0])
        started_s = time.perf_counter()
        for path, facts in itertools.cycle(videos):
            reached_s = 0.0
            for span in decoder.spans(path, sampling, preprocessing, choice=Choice(reader)):
                windows += len(span.windows)
                until_s = max([reached_s, *(window.end_s for window in span.windows)])
                frames += (until_s - reached_s) * (facts.fps or 0.0)
                reached_s = until_s
                # decord decodes a whole video before it returns the first windows.
                if time.perf_counter() - started_s >= seconds and (reader != "decord" or span.end is not None):
                    passed_s = time.perf_counter() - started_s
                    return frames / passed_s, windows / passed_s
    raise AssertionError("the cycle has no end")
