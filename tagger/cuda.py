"""Keeps a GPU busy: copies clips while it computes, measures the best batch size, records steps as CUDA graphs."""

import time
from collections.abc import Callable

import numpy as np
import torch

from tagger.models.fast.operators import tuning
from tagger.models.fast.probe import is_out_of_memory

MAX_BATCH_CLIPS = 16
"""The largest automatic batch, in clips. It is half of what an actor gets in one call (jobs/tagging/pipeline.py), so
that one batch is copied to the GPU while another is computed."""

MIN_SPEEDUP = 1.05
"""Minimum gain in speed for which a larger batch, or a recorded step, is used."""

WARM_UP_STEPS = 3
"""Steps before a recording. During them, libraries choose their kernels and allocate their memory."""

Step = Callable[[torch.Tensor], torch.Tensor]
"""A function from ``[n, T, H, W, 3] uint8`` pixels on the device to ``[n, outputs] float32``: logits, which may be
followed by features."""


class ClipUploader:
    """Copies clips to a GPU while the GPU computes.

    A GPU copies from pinned memory without the CPU. There are two pinned buffers and a CUDA stream for copies: the CPU
    fills one buffer while the GPU may still copy from the other.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._buffers = [torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)]
        self._copied = [torch.cuda.Event(), torch.cuda.Event()]
        self._earlier_computed = [torch.cuda.Event(), torch.cuda.Event()]
        self._turn = 0

    def __call__(self, clips: np.ndarray) -> torch.Tensor:
        """Returns ``clips`` on the device, for use in the current stream."""
        turn, self._turn = self._turn, 1 - self._turn
        copied = self._copied[turn]
        current = torch.cuda.current_stream(self._device)
        # The last copy from this buffer must be done.
        copied.synchronize()
        # This event marks the end of all earlier batches. Waiting for it leaves at most three batches on the GPU.
        self._earlier_computed[turn].synchronize()
        self._earlier_computed[turn].record(current)
        if self._buffers[turn].numel() < clips.size:
            self._buffers[turn] = torch.empty(clips.size, dtype=torch.uint8, pin_memory=True)
        buffer = self._buffers[turn][: clips.size].view(clips.shape)
        buffer.copy_(torch.from_numpy(clips))
        with torch.cuda.stream(self._stream):
            pixels = buffer.to(self._device, non_blocking=True)
            copied.record(self._stream)
        current.wait_event(copied)
        # The memory belongs to the copy stream, which must not reuse it before the computation has finished.
        pixels.record_stream(current)
        return pixels


class RecordedStep:
    """A step for batches of one size, recorded as a CUDA graph and launched as a whole.

    In a network of many small layers, launching the layers one by one takes longer than computing them. Source: "CUDA
    Graphs" in PyTorch's notes on CUDA semantics. Raises RuntimeError when the step cannot be recorded.
    """

    def __init__(self, step: Step, pixels: torch.Tensor):
        self._pixels = pixels
        current, side_stream = torch.cuda.current_stream(pixels.device), torch.cuda.Stream(pixels.device)
        side_stream.wait_stream(current)
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UP_STEPS):
                step(pixels)
        current.wait_stream(side_stream)
        self._graph = torch.cuda.CUDAGraph()
        # ``thread_local`` lets other threads use the GPU. The stream is given because by default PyTorch records in a
        # stream of the GPU that was current at the first recording.
        with (
            torch.cuda.device(pixels.device),
            torch.cuda.graph(self._graph, stream=side_stream, capture_error_mode="thread_local"),
        ):
            self._outputs = step(pixels)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the outputs of the step for ``pixels``."""
        self._pixels.copy_(pixels)
        self._graph.replay()
        return self._outputs.clone()


def find_batch_size(seconds: Callable[[int], float], max_size: int = MAX_BATCH_CLIPS) -> int:
    """Returns the smallest power of two up to ``max_size`` whose rate is within MIN_SPEEDUP of the best rate.

    ``seconds`` measures the time of a batch of a given size. If memory runs out, the search stops. If it runs out for a
    single clip, the error is raised.
    """
    rates: dict[int, float] = {}
    size = 1
    while size <= max_size:
        try:
            rates[size] = size / seconds(size)
        except RuntimeError as error:
            if not rates or not is_out_of_memory(error):
                raise
            break
        size *= 2
    enough = max(rates.values()) / MIN_SPEEDUP
    return next(size for size, rate in rates.items() if rate >= enough)


def best_batch_size(
    step: Step, clip_shape: tuple[int, ...], device: torch.device, max_size: int = MAX_BATCH_CLIPS
) -> int:
    """Measures the best batch size, up to ``max_size``, for clips of ``[T, H, W, 3]`` on this GPU.

    Raises RuntimeError when not even one clip fits.
    """
    try:
        with tuning():
            return find_batch_size(lambda size: _seconds(step, _noise((size, *clip_shape), device)), max_size)
    finally:
        # Other processes may share the GPU.
        torch.cuda.empty_cache()


def record_if_faster(step: Step, shape: tuple[int, ...], device: torch.device) -> Step:
    """Returns ``step`` recorded for pixels of ``[n, T, H, W, 3]`` if that is faster here, else ``step`` itself."""
    try:
        with tuning():
            recorded = RecordedStep(step, _noise(shape, device))
        pixels = _noise(shape, device)
        is_right = torch.allclose(recorded(pixels), step(pixels), rtol=0.05, atol=0.05)
        is_faster = _seconds(recorded, pixels) * MIN_SPEEDUP < _seconds(step, pixels)
    except RuntimeError:  # Too little memory, or a layer that cannot be recorded. The step itself may work.
        return step
    finally:
        torch.cuda.empty_cache()
    return recorded if is_right and is_faster else step


def _noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    # Made on the CPU: after a failed recording the random generator of the GPU cannot be used (torch 2.11).
    return torch.randint(0, 256, shape, dtype=torch.uint8).to(device)


def _seconds(step: Step, pixels: torch.Tensor) -> float:
    """Returns the shortest of three measured times in seconds, after one warm-up step."""
    step(pixels)
    times_s = []
    for _ in range(3):
        torch.cuda.synchronize(pixels.device)
        begun_s = time.perf_counter()
        step(pixels)
        torch.cuda.synchronize(pixels.device)
        times_s.append(time.perf_counter() - begun_s)
    return min(times_s)
