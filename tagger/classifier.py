"""A network on a device: uint8 clips in; calibrated probabilities, out-of-distribution scores and embeddings out."""

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

from tagger.cuda import MAX_BATCH_CLIPS, ClipUploader, Step, best_batch_size, record_if_faster
from tagger.errors import VtagError
from tagger.models.embeddings.embedder import Embedder
from tagger.models.embeddings.embedding import EMBEDDING_SIZE, normalised, normalised_features, projection
from tagger.models.fast.fused import fuse
from tagger.models.fast.probe import is_out_of_memory
from tagger.models.heads import over_crops
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.system.limits import usable_cores

FEATURE_VERSION = 5
"""Version of the feature computation. It is part of the fingerprint: stored features of other versions are not
reused."""

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]

PRECISIONS: dict[PrecisionName, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: DeviceName = "auto") -> torch.device:
    """Returns the device to compute on. ``auto`` is the GPU if there is one. Raises VtagError when ``cuda`` has no GPU.

    With several GPUs it is the current one, given by its number, because the current GPU may differ between threads.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise VtagError("--device cuda: no CUDA GPU is available here; use --device cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def limit_threads() -> None:
    """Lowers the number of PyTorch's threads to the cores that this process may use, if that is less.

    By default PyTorch counts the cores of the machine. In a container with fewer they would wait for each other.
    """
    if torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def choose_precision(device: torch.device, precision: PrecisionName = "auto") -> torch.dtype:
    """Returns the precision to compute in. ``auto`` is bfloat16 if the hardware supports it natively, else float32.

    On a CPU with AVX-512 BF16 or AMX the 3D convolutions run 2 to 4 times faster in bfloat16 (measured on Zen 4 and on
    a Xeon with AMX). Without native support bfloat16 is emulated and slower.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cpu_flags() & {"avx512_bf16", "amx_bf16"} else torch.float32


@functools.cache
def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Returns the CPU flags that Linux lists; an empty set on other systems.

    Older versions of PyTorch have no public function for this.
    """
    try:
        with cpuinfo.open() as lines:
            return next((frozenset(line.split()[2:]) for line in lines if line.startswith("flags")), frozenset())
    except OSError:
        return frozenset()


def model_input(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turns ``[n, T, H, W, 3] uint8`` pixels into normalised model input, ``[n, 3, T, size, size] float32``.

    When several crops lie side by side in a picture, the result is ``[n, crops, 3, T, size, size]``.
    """
    crops = preprocessing.crops
    if crops == 1:
        return normalise(pixels, preprocessing)
    apart = pixels.unflatten(3, (crops, -1)).movedim(3, 1).flatten(0, 1)
    return normalise(apart, preprocessing).unflatten(0, (len(pixels), crops))


def normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turns ``[n, T, H, W, 3] uint8`` pixels into model input ``[n, 3, T, H, W] float32``: ``(x - mean) / std``."""
    mean, scale = _mean_and_scale(preprocessing, pixels.device)
    if pixels.is_cuda:
        # One pass over memory instead of three.
        normalised = torch.addcmul(-mean * scale, pixels, scale)
    else:
        # Whole rows, because three values at a time are too few for the vectors of a CPU.
        width = pixels.shape[3]
        rows = pixels.flatten(3).float().sub_(mean.repeat(width)).mul_(scale.repeat(width))
        normalised = rows.unflatten(3, (width, 3))
    # [n, T, H, W, 3] in memory is channels_last_3d already: a change of strides, not a copy.
    return normalised.permute(0, 4, 1, 2, 3)


@functools.lru_cache(maxsize=16)
def _mean_and_scale(preprocessing: Preprocessing, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    # Cached because a copy to the GPU cannot be recorded in a CUDA graph. Training needs tensors without inference
    # mode.
    with torch.inference_mode(mode=False):
        mean = torch.tensor(preprocessing.mean, device=device) * 255
        return mean, 1 / (torch.tensor(preprocessing.std, device=device) * 255)


class Classifier:
    """Computes class probabilities for clips.

    It changes the ``network`` that it is given. The caller must not use that network afterwards.

    The ``backbone`` runs in ``precision`` and ``channels_last_3d``; the ``head`` (LSTM, pooling, softmax) in float32,
    because it costs almost nothing and bfloat16 would make the confidences less exact.
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
        limit_threads()
        self.device = choose_device(device)
        self.precision = choose_precision(self.device, precision)
        self._temperature = temperature
        self._ood = ood
        network = network.eval().requires_grad_(False).to(self.device)
        # Batch norms are folded into the convolutions in full precision.
        self._backbone = fuse(network.get_submodule("backbone").float()).to(self.precision)
        self._backbone.to(memory_format=torch.channels_last_3d)
        self._head = over_crops(fuse(network.get_submodule("head").float()), preprocessing)
        self._preprocessing = preprocessing
        self._max_batch = sys.maxsize
        """The largest batch that fits into memory, in clips, as far as is known."""
        self._to_device: Callable[[np.ndarray], torch.Tensor] = torch.from_numpy
        if self.device.type == "cuda":
            self._to_device = ClipUploader(self.device)
        self._classes = 0
        """The number of logits, from the first embedding on."""
        embedder = getattr(network, "embedder", None)
        self._embedder: Embedder | None = None if embedder is None else embedder.float()
        self._projection: torch.Tensor | None = None
        """The matrix ``[channels, EMBEDDING_SIZE]`` of a model without an embedder, from its first use on."""
        self._auto_batch_sizes: dict[tuple[int, ...], int] = {}
        """Automatic batch sizes on a GPU, by the shape of a clip."""
        self._full_batch_step: tuple[tuple[int, ...], Step, Step] | None = None
        """The shape of a full batch on a GPU, a step, and its fastest form for this shape."""
        self._lock = threading.RLock() if self.device.type == "cuda" else contextlib.nullcontext()
        """Only one thread at a time may use a GPU's pinned memory and recorded step."""

    def fingerprint(self) -> str:
        """Returns a hash of the backbone's layers, weights and precision. Equal fingerprints mean equal features."""
        digest = hashlib.sha256(f"{FEATURE_VERSION} {self._backbone} {self.precision}".encode())
        for name, tensor in self._backbone.state_dict().items():
            digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def operations(self, num_frames: int) -> int:
        """Returns the floating-point operations for one window of ``num_frames``. A multiply-add counts as two.

        Counts on the ``meta`` device, which has shapes but no values. On the CPU an LSTM is a single kernel, and its
        products would not be counted.
        """
        # Imported here because the import takes longer than all of vtag's own imports, and no job needs it.
        from torch.utils.flop_counter import FlopCounterMode

        size, crops = self._preprocessing.size, self._preprocessing.crops
        backbone, head = (copy.deepcopy(part).to("meta") for part in (self._backbone, self._head))
        window = torch.empty(crops, 3, num_frames, size, size, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            features = backbone(window).float()
            head(features if crops == 1 else features[None])
        return int(counter.get_total_flops())

    @torch.inference_mode()
    def features(self, clips: np.ndarray) -> torch.Tensor:
        """Returns the backbone features of ``[n, T, H, W, 3] uint8`` clips as float32, the input of ``head``.

        With several crops the features of each are apart: ``[n, crops, ...]``.
        """
        with self._lock:
            return self._features(self._to_device(clips))

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        # Float32 input, because differences between frames are small. The first convolution casts to lower precision.
        inputs = model_input(pixels, self._preprocessing)
        if self._preprocessing.crops == 1:
            return self._backbone(inputs).float()
        return self._backbone(inputs.flatten(0, 1)).float().unflatten(0, inputs.shape[:2])

    @torch.inference_mode()
    def logits_of(self, features: np.ndarray) -> np.ndarray:
        """Turns features of windows, ``[n, ...] float32``, into ``[n, classes] float32`` logits, one window at a time.

        On a CPU these are the logits that ``logits`` returns for the same windows.
        """
        windows = torch.from_numpy(np.array(features)).to(self.device)
        return torch.cat([self._head(window[None]) for window in windows]).cpu().numpy()

    def _step(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._head(self._features(pixels))

    def _pooling_step(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._logits_and_pooled(self._features(pixels))

    def _logits_and_pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Turns features of the backbone into ``[n, classes + channels] float32``: logits, then normalised features.

        It is one tensor, so that a GPU records this step like that of the logits alone.
        """
        logits = self._head(features)
        self._classes = logits.shape[1]
        return torch.cat([logits, normalised_features(features, self._preprocessing.crops)], dim=1)

    def _embed(self, vectors: torch.Tensor) -> torch.Tensor:
        """Turns normalised features ``[n, channels]`` into embeddings ``[n, embedding_size] float32``."""
        if self._embedder is not None:
            return normalised(self._embedder(vectors))
        if self._projection is None:
            self._projection = projection(vectors.shape[1]).to(self.device)
        return normalised(vectors @ self._projection)

    @torch.inference_mode()
    def logits(self, clips: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Turns ``[n, T, H, W, 3] uint8`` clips into ``[n, classes] float32`` logits, ``batch_size`` clips at a time.

        The automatic batch size is 1 on a CPU: that is the fastest per clip, and the result of a window does not depend
        on the rest of the batch. On a GPU the size is measured. When GPU memory runs out, the batch size is halved and
        stays halved, down to single clips. Raises VtagError when a single clip does not fit.
        """
        with self._lock:
            return torch.cat(self._batches(clips, batch_size)).cpu().numpy()

    def _batches(self, clips: np.ndarray, batch_size: int | None, *, pool: bool = False) -> list[torch.Tensor]:
        """Returns the logits of each batch. With ``pool`` the normalised features are beside them."""
        if len(clips) == 0:
            raise ValueError("there are no clips to classify")
        outputs: list[torch.Tensor] = []
        done = 0
        while done < len(clips):
            batch = clips[done : done + 1]
            try:
                size = min(batch_size or self._auto_batch_size(clips.shape[1:]), self._max_batch)
                batch = clips[done : done + size]
                # On a GPU this only starts the batch, so the next one is copied while it is computed.
                outputs.append(self._start_batch(batch, pool, is_full=len(batch) == size))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise VtagError(
                        f"a single window does not fit into the memory of {self.device}; free some of it, "
                        "or use --actors 1, or --device cpu"
                    ) from error
                self._max_batch = len(batch) // 2
                self._full_batch_step = None
                continue
            done += len(batch)
        return outputs

    def _auto_batch_size(self, clip_shape: tuple[int, ...]) -> int:
        if self.device.type == "cpu":
            return 1
        if clip_shape not in self._auto_batch_sizes:
            # An actor gets fewer windows in one call if each has several crops, so full batches must be smaller, too.
            most = max(1, MAX_BATCH_CLIPS // self._preprocessing.crops)
            self._auto_batch_sizes[clip_shape] = best_batch_size(self._step, clip_shape, self.device, most)
        return self._auto_batch_sizes[clip_shape]

    def _start_batch(self, batch: np.ndarray, pool: bool, is_full: bool) -> torch.Tensor:
        """Starts a batch and returns its outputs. On a GPU they may not be computed yet."""
        if self.device.type == "cpu" or not is_full:
            features = self.features(batch)
            return self._logits_and_pooled(features) if pool else self._head(features)
        step = self._pooling_step if pool else self._step
        if self._full_batch_step is None or self._full_batch_step[:2] != (batch.shape, step):
            self._full_batch_step = batch.shape, step, record_if_faster(step, batch.shape, self.device)
        return self._full_batch_step[2](self._to_device(batch))

    def probabilities(self, clips: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Turns ``[n, T, H, W, 3] uint8`` clips into ``[n, classes] float32`` probabilities. See ``logits``."""
        return self.classify(clips, batch_size)[0]

    def classify(self, clips: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns probabilities and out-of-distribution scores ``[n] float32`` from one pass over the clips.

        The scores are None when the model has no out-of-distribution calibration.
        """
        return self._judge(self.logits(clips, batch_size))

    @property
    def embedding_size(self) -> int:
        """The number of values of an embedding."""
        return EMBEDDING_SIZE if self._embedder is None else self._embedder.size

    @torch.inference_mode()
    def classify_and_embed(
        self, clips: np.ndarray, batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Returns what ``classify`` returns, and embeddings ``[n, embedding_size] float16``, from the same pass.

        Embeddings have the length 1. See ``tagger.models.embeddings.embedding``.
        """
        with self._lock:
            outputs = torch.cat(self._batches(clips, batch_size, pool=True))
            # All windows of the call at once, because reading the projection from memory takes longer than using it.
            embeddings = self._embed(outputs[:, self._classes :]).half().cpu().numpy()
            logits = outputs[:, : self._classes].cpu().numpy()
        return *self._judge(logits), embeddings

    def _judge(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Turns ``[n, classes]`` logits into probabilities and out-of-distribution scores."""
        calibrated = logits / self._temperature
        probabilities = torch.softmax(torch.from_numpy(calibrated), dim=1).numpy()
        return probabilities, None if self._ood is None else self._ood.score(calibrated)
