"""Measures the model, the peak of arithmetic, and the transport from decoding to the model, each alone on this machine.

The measurements use the code of a job, after a warm-up. ``jobs.tagging.decode_trial`` measures decoding.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.cluster.memory import keep_freed_memory
from jobs.measure.rates import ModelRate
from jobs.tagging.pipeline import Workers
from jobs.tagging.transport import clips_of, span_to_table
from tagger.clips import Span
from tagger.tagger import ModelSource
from tagger.windows import Window

if TYPE_CHECKING:
    import torch

    from tagger.classifier import DeviceName, PrecisionName

BATCH_SIZES = {"cpu": (1, 4), "cuda": (1, 4, 16)}
"""Batch sizes in windows with which the model is measured."""

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices whose product measures the peak of arithmetic. Smaller matrices do not fill a GPU: on an
H200 in bfloat16, a side of 2048 reaches two thirds of the rate of 8192."""

TRANSPORT_TABLES = 10
"""Number of tables that are sent to measure the transport."""


class _ModelActor:
    """A model in a process of its own, as in the pipeline."""

    def __init__(self, source: ModelSource, device: "DeviceName", precision: "PrecisionName", threads: int):
        import torch

        keep_freed_memory()
        torch.set_num_threads(threads)
        self._classifier = source.load(device, precision)
        self._shape = (source.info.sampling.num_frames, *source.info.preprocessing.shape)

    def about(self) -> tuple[str, int]:
        """Returns the precision in use and the floating-point operations per window."""
        from tagger.classifier import PRECISIONS

        (name,) = (name for name, precision in PRECISIONS.items() if precision == self._classifier.precision)
        return name, self._classifier.operations(self._shape[0])

    def rate(self, batch_size: int, seconds: float) -> float:
        """Returns windows per second, after a warm-up. Slow steps count, too, as they do in a pipeline."""
        clips = np.random.default_rng(0).integers(0, 256, (batch_size, *self._shape), dtype=np.uint8)
        return batch_size / statistics.mean(times_s(lambda: self._classifier.classify(clips, batch_size), seconds))

    def peak(self, seconds: float) -> float:
        """Returns the FLOP/s of the product of two large matrices, in the precision and on the device in use."""
        return peak_flop_per_s(self._classifier.device, self._classifier.precision, seconds)


def peak_flop_per_s(device: "torch.device", precision: "torch.dtype", seconds: float) -> float:
    """Returns the FLOP/s of the product of two large matrices."""
    import torch

    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(precision) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize()

    before = torch.backends.cuda.matmul.allow_tf32
    # The matrix product uses TF32 when the model's float32 convolutions do, which is PyTorch's default on a GPU.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        return 2 * side**3 / statistics.median(times_s(multiply, seconds))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def times_s(step: Callable[[], object], seconds: float) -> list[float]:
    """Returns the times of ``step``, repeated for ``seconds`` and at least three times, after a warm-up."""
    step()
    taken_s: list[float] = []
    while len(taken_s) < 3 or sum(taken_s) < seconds:
        started_s = time.perf_counter()
        step()
        taken_s.append(time.perf_counter() - started_s)
    return taken_s


@dataclass(frozen=True)
class ModelMeasure:
    """The measurements of the model in one precision.

    ``flop`` is the number of floating-point operations per window, ``flop_per_s`` the peak of all actors together.
    """

    precision: str
    flop: int
    flop_per_s: float
    rates: tuple[ModelRate, ...]


def measure_model(
    source: ModelSource, workers: Workers, precision: "PrecisionName", seconds: float, alone: bool = True
) -> ModelMeasure:
    """Measures one actor by itself (with ``alone``), then all of them at the same time."""
    import ray

    actor: Any = ray.remote(num_cpus=0, num_gpus=workers.actor_gpus)(_ModelActor)
    actors = [actor.remote(source, workers.device, precision, workers.threads) for _ in range(workers.actors)]
    try:
        name, flop = ray.get(actors[0].about.remote())
        rates: list[ModelRate] = []
        for count in sorted({1, workers.actors} if alone else {workers.actors}):
            some = actors[:count]
            peak = sum(ray.get([actor.peak.remote(seconds / 4) for actor in some]))
            for batch_size in BATCH_SIZES[workers.device]:
                try:
                    rate = sum(ray.get([actor.rate.remote(batch_size, seconds) for actor in some]))
                except ray.exceptions.RayTaskError as error:
                    if rates and "out of memory" in str(error).lower():
                        break
                    raise
                rates.append(ModelRate(name, count, batch_size, rate, rate * flop / peak))
    finally:
        for one in actors:
            ray.kill(one)
    return ModelMeasure(name, flop, peak, tuple(rates))


def measure_transport(source: ModelSource, rows: int) -> float:
    """Returns bytes per second from one process to another through the object store, each written and read once."""
    import ray

    shape = (source.info.sampling.num_frames, *source.info.preprocessing.shape)

    class Sender:
        def __init__(self) -> None:
            windows = tuple(Window(row, float(row), row + 1.0) for row in range(rows))
            self._span = Span(windows, np.zeros((rows, *shape), np.uint8))

        def send(self) -> Any:
            return span_to_table(0, self._span, 0.0)

    class Receiver:
        def receive(self, table: Any) -> int:
            # Every cache line is read.
            return int(clips_of(table, shape).reshape(-1)[::64].sum())

    actors: list[Any] = [ray.remote(num_cpus=0)(each) for each in (Sender, Receiver)]
    sender, receiver = (actor.remote() for actor in actors)
    taken_s = []
    for _ in range(1 + TRANSPORT_TABLES):
        started_s = time.perf_counter()
        ray.get(receiver.receive.remote(sender.send.remote()))
        taken_s.append(time.perf_counter() - started_s)
    for one in (sender, receiver):
        ray.kill(one)
    return rows * math.prod(shape) / statistics.median(taken_s[1:])
