"""Where a training loop takes its inputs from: cached backbone features, or cached pixels."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from tagger.classifier import Classifier
from tagger.errors import DataSetError
from tagger.preprocessing import Preprocessing
from training.data_set import LabelledClip
from training.decoding import DecodedClip

OnClip = Callable[[DecodedClip], None]
"""Told of each clip that has been read: for progress, and for those that could not be read."""


@dataclass(frozen=True)
class Targets:
    """What each window should be: ``labels`` ``[n]`` class indices, ``videos`` ``[n]`` index of each window's clip."""

    labels: torch.Tensor
    videos: np.ndarray


class Source(Protocol):
    """Windows that can be asked for in any order and any number of times."""

    targets: Targets

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """Model inputs for the given window indices; randomly augmented when a generator is given."""
        ...


class _TargetList:
    """Collects the targets of clips as they are decoded."""

    def __init__(self, labels: Sequence[str]):
        self._index = {label: i for i, label in enumerate(labels)}
        self._labels: list[int] = []
        self._videos: list[int] = []
        self._clips = 0

    def add(self, clip: LabelledClip, windows: int) -> None:
        self._labels += [self._index[clip.label]] * windows
        self._videos += [self._clips] * windows
        self._clips += 1

    def targets(self) -> Targets:
        if not self._labels:
            raise DataSetError("none of the clips could be read")
        return Targets(torch.tensor(self._labels), np.array(self._videos))


class FeatureSource:
    """Backbone features of all windows, held in memory: ``[n, variants, T, C]``.

    Variant 0 is the window as the tagger sees it; variant 1, when asked for, is mirrored left to right. Training picks
    a variant at random.
    """

    def __init__(
        self,
        decoded: Iterable[DecodedClip],
        labels: Sequence[str],
        classifier: Classifier,
        *,
        mirrored: bool,
        on_clip: OnClip,
    ):
        collected, features = _TargetList(labels), []
        for clip in decoded:
            for window in clip.windows:
                variants = np.stack([window, window[:, :, ::-1]] if mirrored else [window])
                # One at a time, as the tagger does on a CPU.
                features.append(torch.cat([classifier.features(variants[i : i + 1]) for i in range(len(variants))]))
            collected.add(clip.clip, len(clip.windows))
            on_clip(clip)
        self.targets = collected.targets()
        # Copied out of inference mode, so that autograd may see them.
        self._features = torch.stack(features).cpu().clone()

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """``[n, T, C]`` features."""
        if augment is None:
            return self._features[windows, 0]
        variants = torch.randint(self._features.shape[1], (len(windows),), generator=augment)
        return self._features[windows, variants]


class PixelSource:
    """Decoded windows, kept as uint8 in a temporary file that is mapped into memory: decoded once for all epochs."""

    def __init__(
        self, decoded: Iterable[DecodedClip], labels: Sequence[str], preprocessing: Preprocessing, *, on_clip: OnClip
    ):
        collected = _TargetList(labels)
        # The file has no name after this: it is gone when the process ends, however it ends.
        self._file = tempfile.TemporaryFile(prefix="vtag-clips-", dir=_cache_folder())  # noqa: SIM115 - kept open
        shape: tuple[int, ...] = ()
        for clip in decoded:
            if len(clip.windows):
                shape = clip.windows.shape[1:]
                self._file.write(clip.windows.tobytes())
            collected.add(clip.clip, len(clip.windows))
            on_clip(clip)
        self.targets = collected.targets()
        self._file.flush()
        self._clips = np.memmap(self._file, np.uint8, "r", shape=(len(self.targets.labels), *shape))
        self._mean = torch.tensor(preprocessing.mean) * 255
        self._scale = 1 / (torch.tensor(preprocessing.std) * 255)

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """``[n, 3, T, H, W]`` normalised float32 pixels; in training, half of them mirrored left to right."""
        pixels = torch.from_numpy(self._clips[windows.numpy()])
        if augment is not None:
            flip = torch.rand(len(windows), generator=augment) < 0.5
            pixels[flip] = pixels[flip].flip(3)
        return ((pixels - self._mean) * self._scale).permute(0, 4, 1, 2, 3)


def _cache_folder() -> Path:
    """Where decoded pixels go: a disk, not /tmp when that may be in memory."""
    folder = Path("/var/tmp")
    return folder if folder.is_dir() else Path(tempfile.gettempdir())
