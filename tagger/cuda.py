"""What keeps a GPU busy: clips that cross while it computes, the right batch size, steps recorded as CUDA graphs."""

import time
from collections.abc import Callable

import numpy as np
import torch

MOST_CLIPS = 32
"""Most clips in a batch whose size is found automatically."""

WORTH = 1.05
"""Gain in speed for which a larger batch, or a recorded step, is taken."""

WARM_UPS = 3
"""Steps before a recording, in which libraries choose their kernels and take their memory."""

Step = Callable[[torch.Tensor], torch.Tensor]
"""``[n, T, H, W, 3] uint8`` pixels on the device to ``[n, classes] float32`` logits."""


class Crossing:
    """Takes clips to a GPU beside its computation.

    A GPU fetches from pinned memory by itself. There are two pieces of it, and a stream for copies: while a batch is
    computed, the next one is written to the one piece while the other may still be crossing.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pieces = [torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)]
        self._crossed = [torch.cuda.Event(), torch.cuda.Event()]
        self._turn = 0

    def __call__(self, clips: np.ndarray) -> torch.Tensor:
        """``clips`` on the device, for use in the current stream."""
        turn, self._turn = self._turn, 1 - self._turn
        crossed = self._crossed[turn]
        # What this piece held before must have left it.
        crossed.synchronize()
        if self._pieces[turn].numel() < clips.size:
            self._pieces[turn] = torch.empty(clips.size, dtype=torch.uint8, pin_memory=True)
        piece = self._pieces[turn][: clips.size].view(clips.shape)
        piece.copy_(torch.from_numpy(clips))
        with torch.cuda.stream(self._stream):
            pixels = piece.to(self._device, non_blocking=True)
            crossed.record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_event(crossed)
        # Its memory belongs to the stream for copies, which must not use it again before the computation is over.
        pixels.record_stream(current)
        return pixels


class Recorded:
    """A step for batches of one size, recorded as a CUDA graph and launched as a whole.

    Of a network of many small layers, launching them one by one takes longer than computing them. Source: "CUDA
    Graphs" in PyTorch's notes on CUDA semantics. Raises RuntimeError when the step cannot be recorded.
    """

    def __init__(self, step: Step, pixels: torch.Tensor):
        self._pixels = pixels
        current, beside = torch.cuda.current_stream(pixels.device), torch.cuda.Stream(pixels.device)
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                step(pixels)
        current.wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = step(pixels)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the step makes of ``pixels``."""
        self._pixels.copy_(pixels)
        self._graph.replay()
        return self._logits.clone()


def find_batch_size(seconds: Callable[[int], float], most: int = MOST_CLIPS) -> int:
    """The smallest power of two up to ``most`` with which nearly the most clips are computed per second.

    ``seconds`` tells what a batch of a size takes. Raises torch.OutOfMemoryError when it does so for a single clip;
    a larger batch that does not fit ends the search.
    """
    rates: dict[int, float] = {}
    size = 1
    while size <= most:
        try:
            rates[size] = size / seconds(size)
        except torch.OutOfMemoryError:
            if not rates:
                raise
            break
        size *= 2
    enough = max(rates.values()) / WORTH
    return next(size for size, rate in rates.items() if rate >= enough)


def best_batch_size(step: Step, clip_shape: tuple[int, ...], device: torch.device) -> int:
    """The batch size for clips of ``[T, H, W, 3]`` on this GPU, by trying; 1 when not even one clip fits."""
    try:
        return find_batch_size(lambda size: _seconds(step, _blank((size, *clip_shape), device)))
    except torch.OutOfMemoryError:
        return 1


def recorded_if_faster(step: Step, shape: tuple[int, ...], device: torch.device) -> Step:
    """``step`` recorded for pixels of ``[n, T, H, W, 3]`` where that is faster here, otherwise itself."""
    try:
        recorded = Recorded(step, _blank(shape, device))
        is_faster = _seconds(recorded, _blank(shape, device)) * WORTH < _seconds(step, _blank(shape, device))
    except RuntimeError:  # Too little memory, or a layer that cannot be recorded. The step itself may work.
        return step
    return recorded if is_faster else step


def _blank(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8, device=device)


def _seconds(step: Step, pixels: torch.Tensor) -> float:
    """The shortest of a few times, after a warm-up."""
    step(pixels)
    taken_s = []
    for _ in range(3):
        torch.cuda.synchronize(pixels.device)
        begun_s = time.perf_counter()
        step(pixels)
        torch.cuda.synchronize(pixels.device)
        taken_s.append(time.perf_counter() - begun_s)
    return min(taken_s)
