"""A network on a device: uint8 clips in, calibrated probabilities and out-of-distribution scores out."""

import contextlib
import copy
import functools
import hashlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from tagger.cuda import Crossing, Step, best_batch_size, recorded_if_faster
from tagger.errors import VtagError
from tagger.models.fast.fused import fuse
from tagger.models.fast.probe import is_out_of_memory
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing

COMPUTATION = 4
"""Counts the ways in which features have been computed, for those that were kept from an earlier one."""

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]

PRECISIONS: dict[PrecisionName, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: DeviceName = "auto") -> torch.device:
    """The device to compute on; ``auto`` is the GPU when there is one. Raises VtagError when there is no such GPU.

    Of several GPUs it is the current one, by its number: in another thread another one may be current.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise VtagError("--device cuda: no CUDA GPU is available here; use --device cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_precision(device: torch.device, precision: PrecisionName = "auto") -> torch.dtype:
    """The precision to compute in; ``auto`` is bfloat16 where the hardware multiplies it natively, else float32.

    On a CPU with AVX-512 BF16 or AMX the 3D convolutions run 2 to 4 times faster in bfloat16 (measured on Zen 4 and on
    a Xeon with AMX); without native support it is emulated and slower.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_flags() & {"avx512_bf16", "amx_bf16"} else torch.float32


@functools.cache
def cpu_flags(facts: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, in the words of Linux; nothing where they are not known.

    PyTorch knows as well, but tells it under a public name only since its newer versions.
    """
    try:
        with facts.open() as lines:
            return next((frozenset(line.split()[2:]) for line in lines if line.startswith("flags")), frozenset())
    except OSError:
        return frozenset()


def normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """``[n, T, H, W, 3] uint8`` pixels to a model's input: ``[n, 3, T, H, W] float32``, minus mean, over deviation."""
    mean, scale = _mean_and_scale(preprocessing, pixels.device)
    if pixels.is_cuda:
        # Once over memory instead of three times.
        normalised = torch.addcmul(-mean * scale, pixels, scale)
    else:
        normalised = pixels.float().sub_(mean).mul_(scale)
    # [n, T, H, W, 3] in memory is channels_last_3d already: a change of strides, not a copy.
    return normalised.permute(0, 4, 1, 2, 3)


@functools.lru_cache(maxsize=16)
def _mean_and_scale(preprocessing: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    # Once: the way to a GPU cannot be recorded in a CUDA graph. They serve training, too.
    with torch.inference_mode(mode=False):
        mean = torch.tensor(preprocessing.mean, device=device) * 255
        return mean, 1 / (torch.tensor(preprocessing.std, device=device) * 255)


class Classifier:
    """Computes class probabilities for clips, with a network that it changes: the caller must not use it afterwards.

    The ``backbone`` runs in ``precision`` and ``channels_last_3d``; the ``head`` (LSTM, pooling, softmax) in float32,
    because it costs next to nothing and bfloat16 would blur the confidences.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        temperature: float = 1.0,
        ood: OODCalibration | None = None,
        *,
        device: DeviceName = "auto",
        precision: PrecisionName = "auto",
    ):
        self.device = choose_device(device)
        self.precision = choose_precision(self.device, precision)
        self._temperature = temperature
        self._ood = ood
        network = network.eval().requires_grad_(False).to(self.device)
        # Norms are folded in full precision.
        self._backbone = fuse(network.get_submodule("backbone").float()).to(self.precision)
        self._backbone.to(memory_format=torch.channels_last_3d)
        self._head = fuse(network.get_submodule("head").float())
        self._preprocessing = preprocessing
        self._most = sys.maxsize
        """Clips in a batch for which there was memory."""
        self._to_device: Callable[[np.ndarray], torch.Tensor] = torch.from_numpy
        if self.device.type == "cuda":
            self._to_device = Crossing(self.device)
        self._best: dict[tuple[int, ...], int] = {}
        """The automatic batch size on a GPU, by the shape of the clips."""
        self._fast: tuple[tuple[int, ...], Step] | None = None
        """The shape of a full batch on a GPU, and the fastest way to compute it."""
        self._lock = threading.RLock() if self.device.type == "cuda" else contextlib.nullcontext()
        """A GPU's pinned memory and recorded step serve one thread at a time."""

    def fingerprint(self) -> str:
        """A hash of the backbone's layers, weights and precision: the same features come from the same one."""
        digest = hashlib.sha256(f"{COMPUTATION} {self._backbone} {self.precision}".encode())
        for name, tensor in self._backbone.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def operations(self, num_frames: int) -> int:
        """Floating-point operations for one window of ``num_frames``, a multiplication with its addition being two.

        Counted on shapes alone, without computing anything: on the CPU, LSTMs are one kernel that hides its products.
        """
        # Its import takes longer than all of vtag's own, and no job needs it.
        from torch.utils.flop_counter import FlopCounterMode

        size = self._preprocessing.size
        backbone, head = (copy.deepcopy(part).to("meta") for part in (self._backbone, self._head))
        window = torch.empty(1, 3, num_frames, size, size, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            head(backbone(window).float())
        return int(counter.get_total_flops())

    @torch.inference_mode()
    def features(self, clips: np.ndarray) -> torch.Tensor:
        """Backbone features, float32, of ``[n, T, H, W, 3] uint8`` clips: what ``head`` takes."""
        with self._lock:
            return self._features(self._to_device(clips))

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        # Differences between frames are small, and are taken before the first convolution turns to lower precision.
        return self._backbone(normalise(pixels, self._preprocessing)).float()

    def _step(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._head(self._features(pixels))

    @torch.inference_mode()
    def logits(self, clips: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """``[n, T, H, W, 3] uint8`` clips to ``[n, classes] float32`` logits, ``batch_size`` clips at a time.

        The automatic batch size is 1 on a CPU, where it is the fastest per clip and makes a window's result the same
        in any company; on a GPU it is found by trying. When the memory of a GPU runs out, batches are halved, from then
        on, down to single clips. Raises VtagError when one clip is too much.
        """
        if len(clips) == 0:
            raise ValueError("there are no clips to classify")
        with self._lock:
            return torch.cat(self._batches(clips, batch_size)).cpu().numpy()

    def _batches(self, clips: np.ndarray, batch_size: int | None) -> list[torch.Tensor]:
        logits: list[torch.Tensor] = []
        done = 0
        while done < len(clips):
            batch = clips[done : done + 1]
            try:
                size = min(batch_size or self._automatic(clips.shape[1:]), self._most)
                batch = clips[done : done + size]
                # On a GPU only begun: while it computes, the next batch crosses.
                logits.append(self._begin(batch, is_full=len(batch) == size))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise VtagError(
                        f"a single window does not fit into the memory of {self.device}; free some of it, "
                        "or use --actors 1, or --device cpu"
                    ) from error
                self._most = len(batch) // 2
                self._fast = None
                continue
            done += len(batch)
        return logits

    def _automatic(self, clip_shape: tuple[int, ...]) -> int:
        if self.device.type == "cpu":
            return 1
        if clip_shape not in self._best:
            self._best[clip_shape] = best_batch_size(self._step, clip_shape, self.device)
        return self._best[clip_shape]

    def _begin(self, batch: np.ndarray, is_full: bool) -> torch.Tensor:
        """The logits of a batch; those of a GPU may be still to come."""
        if self.device.type == "cpu" or not is_full:
            return self._head(self.features(batch))
        if self._fast is None or self._fast[0] != batch.shape:
            self._fast = batch.shape, recorded_if_faster(self._step, batch.shape, self.device)
        return self._fast[1](self._to_device(batch))

    def probabilities(self, clips: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """``[n, T, H, W, 3] uint8`` clips to ``[n, classes] float32`` probabilities; see ``logits``."""
        return self.classify(clips, batch_size)[0]

    def classify(self, clips: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities, and beside them the out-of-distribution scores ``[n] float32``, from one look at the clips.

        The scores are None when the model has no calibration for them.
        """
        logits = self.logits(clips, batch_size) / self._temperature
        probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        return probabilities, None if self._ood is None else self._ood.score(logits)
