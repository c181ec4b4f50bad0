"""The cost of a model: parameters, operations, size of the file, and speed on this machine."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tagger.model_file import ModelInfo
from tagger.models.registry import build_network
from tagger.tagger import Tagger

WARM_UPS, TIMINGS = 2, 7
"""Number of batches that are run first and not counted, and of batches that are timed."""


@dataclass(frozen=True)
class Cost:
    """The cost of one model.

    ``gflop_per_window`` is that of the network as the tagger runs it; a multiplication and an addition are two
    operations. ``windows_per_s`` is measured on this machine without decoding, in the precision of the tagger, with
    batches of 1 window on a CPU and 16 windows on a GPU.
    """

    parameters: int
    gflop_per_window: float
    file_bytes: int
    windows_per_s: float
    device: str
    precision: str


def measure_costs(taggers: Sequence[Tagger]) -> list[Cost]:
    """Measures the costs of loaded models. A rate is calculated from the median of a few timings.

    The models take turns, so that other programs on this machine slow down all of them alike.
    """
    taken_s: list[list[float]] = [[] for _ in taggers]
    for _ in range(WARM_UPS + TIMINGS):
        for tagger, times in zip(taggers, taken_s, strict=True):
            times.append(_time_a_batch(tagger))
    costs: list[Cost] = []
    for tagger, times in zip(taggers, taken_s, strict=True):
        costs.append(
            Cost(
                parameters=count_parameters(tagger.source.info),
                gflop_per_window=tagger.classifier.operations(tagger.sampling.num_frames) / 1e9,
                file_bytes=tagger.source.file_here.stat().st_size,
                windows_per_s=_batch(tagger) / statistics.median(times[WARM_UPS:]),
                device=str(tagger.classifier.device),
                precision=str(tagger.classifier.precision).removeprefix("torch."),
            )
        )
    return costs


def count_parameters(info: ModelInfo) -> int:
    """Counts the parameters of a network as it is trained."""
    with torch.device("meta"):
        network = build_network(info.architecture, len(info.labels), dict(info.options))
    return sum(parameter.numel() for parameter in network.parameters())


def _batch(tagger: Tagger) -> int:
    """Returns the number of windows in a timed batch: 1 on a CPU, 16 on a GPU."""
    return 1 if tagger.classifier.device.type == "cpu" else 16


def _time_a_batch(tagger: Tagger) -> float:
    """Returns the seconds that the classifier takes for one batch."""
    shape = (_batch(tagger), tagger.sampling.num_frames, *tagger.source.info.preprocessing.shape)
    windows = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    started = time.perf_counter()
    tagger.classifier.probabilities(windows)
    return time.perf_counter() - started
