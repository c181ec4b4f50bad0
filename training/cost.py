"""What a model costs: parameters, arithmetic, bytes, and time on this machine."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tagger.model_file import ModelInfo
from tagger.models import build_network
from tagger.tagger import Tagger

WARM_UPS, TIMINGS = 2, 7


@dataclass(frozen=True)
class Cost:
    """What one model costs.

    ``gflop_per_window`` counts a multiplication with its addition as two operations. ``windows_per_s`` is what this
    machine does, without decoding, in the precision and the batches in which the tagger runs the model.
    """

    parameters: int
    gflop_per_window: float
    file_bytes: int
    windows_per_s: float
    device: str
    precision: str


def measure_costs(taggers: Sequence[Tagger]) -> list[Cost]:
    """Counts and times loaded models. A rate is the median of a few timings.

    The models take turns, so that whatever else this machine does meanwhile slows down all of them.
    """
    taken_s: list[list[float]] = [[] for _ in taggers]
    for _ in range(WARM_UPS + TIMINGS):
        for tagger, times in zip(taggers, taken_s, strict=True):
            times.append(_time_a_batch(tagger))
    costs: list[Cost] = []
    for tagger, times in zip(taggers, taken_s, strict=True):
        parameters, flop = count_operations(tagger.source.info)
        costs.append(
            Cost(
                parameters=parameters,
                gflop_per_window=flop / 1e9,
                file_bytes=tagger.source.file_here.stat().st_size,
                windows_per_s=_batch(tagger) / statistics.median(times[WARM_UPS:]),
                device=str(tagger.classifier.device),
                precision=str(tagger.classifier.precision).removeprefix("torch."),
            )
        )
    return costs


def count_operations(info: ModelInfo) -> tuple[int, int]:
    """Parameters of a network, and the floating-point operations that it takes for one window.

    Counted on shapes alone, without computing anything: on the CPU, LSTMs are one kernel that hides its products.
    """
    size = info.preprocessing.size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = build_network(info.architecture, len(info.labels), dict(info.options)).eval()
        window = torch.empty(1, 3, info.sampling.num_frames, size, size)
        network.get_submodule("head")(network.get_submodule("backbone")(window))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def _batch(tagger: Tagger) -> int:
    """As many windows as the classifier takes at a time."""
    return 1 if tagger.classifier.device.type == "cpu" else 16


def _time_a_batch(tagger: Tagger) -> float:
    """Seconds that the classifier takes for one batch."""
    size = tagger.source.info.preprocessing.size
    shape = (_batch(tagger), tagger.sampling.num_frames, size, size, 3)
    windows = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    started = time.perf_counter()
    tagger.classifier.probabilities(windows)
    return time.perf_counter() - started
