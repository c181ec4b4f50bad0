"""What a model costs: parameters, arithmetic, bytes, and time on this machine."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tagger.model_file import ModelInfo
from tagger.models import build_network
from tagger.tagger import Tagger

TIMINGS = 5


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


def measure_cost(tagger: Tagger) -> Cost:
    """Counts and times a loaded model. The rate is the median of five timings."""
    classifier = tagger.classifier
    parameters, flop = count_operations(tagger.source.info)
    return Cost(
        parameters=parameters,
        gflop_per_window=flop / 1e9,
        file_bytes=tagger.source.file_here.stat().st_size,
        windows_per_s=_windows_per_s(tagger),
        device=str(classifier.device),
        precision=str(classifier.precision).removeprefix("torch."),
    )


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


def _windows_per_s(tagger: Tagger) -> float:
    classifier, size = tagger.classifier, tagger.source.info.preprocessing.size
    count = 1 if classifier.device.type == "cpu" else 16  # As many as the classifier takes at a time.
    shape = (count, tagger.sampling.num_frames, size, size, 3)
    windows = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    classifier.probabilities(windows)  # The first run also prepares kernels.
    taken_s: list[float] = []
    for _ in range(TIMINGS):
        started = time.perf_counter()
        classifier.probabilities(windows)
        taken_s.append(time.perf_counter() - started)
    return count / statistics.median(taken_s)
