"""Whether a job decodes on GPUs: tried with its first videos, for it depends on the GPU, the cores and the videos."""

import contextlib
import os
from collections.abc import Sequence
from typing import Literal

from jobs.ceilings import measure_decoding
from jobs.job import Video
from jobs.pipeline import DECODING_GPU
from jobs.staging import staged
from tagger.clips import rule
from tagger.errors import VideoError, VtagError
from tagger.preprocessing import Preprocessing
from tagger.video.isolation import DecoderProcess
from tagger.windows import Sampling

DecodeDevice = Literal["auto", "cpu", "cuda"]

TRIAL_VIDEOS = 8
TRIAL_S = 2.0
"""With how many of a job's videos it is tried, and for how many seconds on either side."""

LEAST_BYTES = 2**30
"""Of a job with less than that cores have decoded much by the time that a trial is over."""

WORTH = 1.2
"""From which gain on a GPU decodes: each decoder takes some of its memory, and of its time from the model."""


def use_nvdec(
    videos: Sequence[Video],
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    wanted: DecodeDevice,
    gpus: float,
    models_on_gpu: bool,
) -> bool:
    """Whether GPUs shall decode. With ``auto``: in a large job, where models use them, if they beat all of the cores.

    Needs a running Ray. Raises VtagError when there is none of the GPUs that are wanted.
    """
    if wanted == "cuda" and gpus < 1:
        raise VtagError("--decode-device cuda: no GPU is available to Ray here; use --decode-device cpu or auto")
    if wanted != "auto":
        return wanted == "cuda"
    if gpus < 1 or not models_on_gpu or sum(video.size for video in videos) < LEAST_BYTES:
        return False
    if not _every_machine_has_a_gpu():
        return False
    import ray

    names = [os.fsencode(video.path) for video in videos[:TRIAL_VIDEOS]]
    ask = ray.remote(num_cpus=0, num_gpus=DECODING_GPU, max_retries=1)(is_faster)
    faster: bool = ray.get(ask.remote(names, sampling, preprocessing))
    return faster


def is_faster(
    names: Sequence[bytes], sampling: Sampling, preprocessing: Preprocessing, seconds: float = TRIAL_S
) -> bool:
    """Whether the GPU of this machine decodes those of the videos that it can faster than its cores do."""
    readable = []
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
        on_cores, on_gpu = (
            measure_decoding(readable, sampling, preprocessing, reader, os.cpu_count() or 1, seconds).windows_per_s
            for reader in (usual, "pyav-nvdec")
        )
    return on_gpu >= WORTH * on_cores


def _every_machine_has_a_gpu() -> bool:
    """Whether none of the machines that would decode would be left out."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return all(resources.get("GPU") for resources in nodes if resources.get("CPU"))
