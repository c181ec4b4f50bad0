"""Where a training loop takes its inputs from: pixels, random views, or features of layers that are not trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np
import torch

from tagger.classifier import normalise
from tagger.preprocessing import Preprocessing
from training.data.data_set import LabelledClip
from training.inputs.augment import Augmentation, random_times, random_view
from training.inputs.ingest import ClipStore


@dataclass(frozen=True)
class Targets:
    """What each item should be: ``labels`` ``[n]`` class indices, ``videos`` ``[n]`` index of each item's clip."""

    labels: torch.Tensor
    videos: np.ndarray


class Source(Protocol):
    """Items, which are windows or views, that can be asked for in any order and any number of times."""

    targets: Targets

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        """Model inputs for the given items.

        They are drawn at random when a ``moment`` is named: the same at the same moment, whatever else is asked for,
        in whichever process; another at any other.
        """
        ...


def _draws(moment: str, item: int) -> Random:
    return Random(f"{moment}/{item}")


def _label_indices(clips: Sequence[LabelledClip], labels: Sequence[str]) -> np.ndarray:
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index[clip.label] for clip in clips])


class _ByWindow:
    """Items that are the windows of clips."""

    def __init__(self, store: ClipStore, labels: Sequence[str]):
        self._store = store
        videos = np.repeat(np.arange(len(store.rows)), store.rows)
        self._numbers = np.concatenate([np.arange(rows) for rows in store.rows])
        self.targets = Targets(torch.from_numpy(_label_indices(store.clips, labels)[videos]), videos)

    def _window(self, item: int) -> np.ndarray:
        return self._store.array(int(self.targets.videos[item]))[self._numbers[item]]


class PixelSource(_ByWindow):
    """Windows as the tagger sees them, out of a store of ``Windows``: nothing in them is random."""

    def __init__(self, store: ClipStore, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(store, labels)
        self._preprocessing = preprocessing

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        """``[n, 3, T, H, W]`` normalised float32 pixels."""
        pixels = torch.from_numpy(np.stack([self._window(item) for item in items.tolist()]))
        return normalise(pixels, self._preprocessing)


class FeatureSource(_ByWindow):
    """Features of windows, out of a store of ``Features``; one of the variants of a window at random."""

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        """``[n, ...]`` float32 features; without a moment those of the window as the tagger sees it."""
        chosen = []
        for item in items.tolist():
            window = self._window(item)
            chosen.append(window[0 if moment is None else _draws(moment, item).randrange(len(window))])
        return torch.from_numpy(np.stack(chosen)).float()


class ViewSource:
    """A random view of each clip at each look: a window at a random time, randomly cropped, mirrored and lit.

    Out of a store of ``Film``. Looking once at every clip is an epoch. Without a moment a clip gives its first window,
    as the tagger sees it. ``frames`` is how many frames a view has.
    """

    def __init__(
        self,
        store: ClipStore,
        labels: Sequence[str],
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        *,
        frames: int,
    ):
        self._store = store
        readable = np.flatnonzero(store.rows)
        self.targets = Targets(torch.from_numpy(_label_indices(store.clips, labels)[readable]), readable)
        self._augmentation, self._frames, self._preprocessing = augmentation, frames, preprocessing

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        """``[n, 3, frames, size, size]`` normalised float32 pixels."""
        views = [self._view(item, moment) for item in items.tolist()]
        return normalise(torch.stack(views), self._preprocessing)

    def _view(self, item: int, moment: str | None) -> torch.Tensor:
        film = self._store.array(int(self.targets.videos[item]))
        if moment is None:
            first_frames = film[np.minimum(np.arange(self._frames), len(film) - 1)]
            return torch.from_numpy(np.stack([self._preprocessing.crop(frame) for frame in first_frames]))
        draw = _draws(moment, item).uniform
        times = random_times(len(film), self._frames, self._augmentation, draw)
        frames = torch.from_numpy(film[times.numpy()])
        return random_view(frames, self._preprocessing.size, self._augmentation, draw)
