"""What keeps a GPU busy: clips that cross while it computes, the right batch size, steps recorded as CUDA graphs."""

import time
from collections.abc import Callable

import numpy as np
import torch

from tagger.models.fast.operators import tuning
from tagger.models.fast.probe import is_out_of_memory

MOST_CLIPS = 16
"""Most clips in a batch whose size is found automatically: half of what an actor takes at a time
(jobs/tagging/pipeline.py), so that one batch crosses to the GPU while another is computed."""

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
        self._computed = [torch.cuda.Event(), torch.cuda.Event()]
        self._turn = 0

    def __call__(self, clips: np.ndarray) -> torch.Tensor:
        """``clips`` on the device, for use in the current stream."""
        turn, self._turn = self._turn, 1 - self._turn
        crossed = self._crossed[turn]
        current = torch.cuda.current_stream(self._device)
        # What this piece held before must have left it; and no more than three batches lie on the GPU.
        crossed.synchronize()
        self._computed[turn].synchronize()
        self._computed[turn].record(current)
        if self._pieces[turn].numel() < clips.size:
            self._pieces[turn] = torch.empty(clips.size, dtype=torch.uint8, pin_memory=True)
        piece = self._pieces[turn][: clips.size].view(clips.shape)
        piece.copy_(torch.from_numpy(clips))
        with torch.cuda.stream(self._stream):
            pixels = piece.to(self._device, non_blocking=True)
            crossed.record(self._stream)
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
        # Other threads may go on using the GPU. By itself PyTorch records in a stream of the GPU that was current at
        # the first recording.
        with (
            torch.cuda.device(pixels.device),
            torch.cuda.graph(self._graph, stream=beside, capture_error_mode="thread_local"),
        ):
            self._logits = step(pixels)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the step makes of ``pixels``."""
        self._pixels.copy_(pixels)
        self._graph.replay()
        return self._logits.clone()


def find_batch_size(seconds: Callable[[int], float], most: int = MOST_CLIPS) -> int:
    """The smallest power of two up to ``most`` with which nearly the most clips are computed per second.

    ``seconds`` tells what a batch of a size takes. An error of memory is raised for a single clip, and ends the search
    for a larger batch.
    """
    rates: dict[int, float] = {}
    size = 1
    while size <= most:
        try:
            rates[size] = size / seconds(size)
        except RuntimeError as error:
            if not rates or not is_out_of_memory(error):
                raise
            break
        size *= 2
    enough = max(rates.values()) / WORTH
    return next(size for size, rate in rates.items() if rate >= enough)


def best_batch_size(step: Step, clip_shape: tuple[int, ...], device: torch.device) -> int:
    """The batch size for clips of ``[T, H, W, 3]`` on this GPU, by trying.

    Raises RuntimeError when not even one clip fits.
    """
    try:
        with tuning():
            return find_batch_size(lambda size: _seconds(step, _noise((size, *clip_shape), device)))
    finally:
        # Others may share the GPU.
        torch.cuda.empty_cache()


def recorded_if_faster(step: Step, shape: tuple[int, ...], device: torch.device) -> Step:
    """``step`` recorded for pixels of ``[n, T, H, W, 3]`` where that is faster here, otherwise itself."""
    try:
        with tuning():
            recorded = Recorded(step, _noise(shape, device))
        pixels = _noise(shape, device)
        is_right = torch.allclose(recorded(pixels), step(pixels), rtol=0.05, atol=0.05)
        is_faster = _seconds(recorded, pixels) * WORTH < _seconds(step, pixels)
    except RuntimeError:  # Too little memory, or a layer that cannot be recorded. The step itself may work.
        return step
    finally:
        torch.cuda.empty_cache()
    return recorded if is_right and is_faster else step


def _noise(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    # Not made on the GPU: a recording that failed leaves its random numbers unusable (torch 2.11).
    return torch.randint(0, 256, shape, dtype=torch.uint8).to(device)


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
