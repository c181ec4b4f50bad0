"""The inputs of a training loop: pixels of windows, random views, or features of frozen layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np
import torch

from tagger.classifier import model_input, normalise
from tagger.preprocessing import Preprocessing
from training.data.data_set import LabelledClip
from training.inputs.augment import Augmentation, Draw, random_frame_indices, random_view, scaled_to
from training.inputs.ingest import ClipStore


@dataclass(frozen=True)
class Targets:
    """The targets of all items: ``labels`` ``[n]`` has class indices, ``videos`` ``[n]`` has indices of clips."""

    labels: torch.Tensor
    videos: np.ndarray


class Source(Protocol):
    """Items (windows or views), which can be read in any order and any number of times."""

    targets: Targets

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """Returns the model inputs of the given items.

        With a ``seed`` they are random. The input of an item depends only on the seed and the item, not on the process
        or the other items. Without a seed they are not random.
        """
        ...


def _draws(seed: str, item: int) -> Random:
    return Random(f"{seed}/{item}")


def _label_indices(clips: Sequence[LabelledClip], labels: Sequence[str]) -> np.ndarray:
    index = {label: i for i, label in enumerate(labels)}
    return np.array([index[clip.label] for clip in clips])


class _ByWindow:
    """A source whose items are the windows of clips."""

    def __init__(self, store: ClipStore, labels: Sequence[str]):
        self._store = store
        videos = np.repeat(np.arange(len(store.rows)), store.rows)
        self._numbers = np.concatenate([np.arange(rows) for rows in store.rows])
        self.groups = np.array([clip.group for clip in store.clips])[videos]
        """The group of each window, ``[n]``."""
        self.targets = Targets(torch.from_numpy(_label_indices(store.clips, labels)[videos]), videos)

    def _window(self, item: int) -> np.ndarray:
        return self._store.array(int(self.targets.videos[item]))[self._numbers[item]]


class PixelSource(_ByWindow):
    """Windows as the tagger sees them, from a store of ``Windows``; nothing is random."""

    def __init__(self, store: ClipStore, labels: Sequence[str], preprocessing: Preprocessing):
        super().__init__(store, labels)
        self._preprocessing = preprocessing

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """Returns ``[n, 3, T, size, size]`` normalised float32 pixels; with several crops ``[n, crops, 3, ...]``."""
        pixels = torch.from_numpy(np.stack([self._window(item) for item in items.tolist()]))
        return model_input(pixels, self._preprocessing)


class FeatureSource(_ByWindow):
    """Features of windows, from a store of ``Features``; with a seed, of a random variant of each window."""

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """Returns ``[n, ...]`` float32 features; without a seed those of the window as the tagger sees it."""
        chosen = []
        for item in items.tolist():
            variants = self._window(item)
            chosen.append(variants[0 if seed is None else _draws(seed, item).randrange(len(variants))])
        return torch.from_numpy(np.stack(chosen)).float()

    def variants(self, items: torch.Tensor) -> torch.Tensor:
        """Returns ``[n, variants, ...]`` float32 features: those of all variants of each window."""
        return torch.from_numpy(np.stack([self._window(item) for item in items.tolist()])).float()


class ViewSource:
    """Random views of clips, from a store of ``Film``.

    A view is a window at a random time with a random crop, mirroring and light. An item is a clip, and an epoch has one
    view of each. Without a seed the view is the first window as the tagger sees it, scaled from the film. ``frames`` is
    the number of frames of a view. When the tagger sees several crops, a random view is of one of them.
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

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """Returns ``[n, 3, frames, size, size]`` normalised float32 pixels.

        When the tagger sees several crops, it returns ``[n, crops, 3, ...]``, with a seed ``[n, 1, 3, ...]``.
        """
        films = [self._store.array(int(self.targets.videos[item])) for item in items.tolist()]
        if seed is None:
            return model_input(torch.stack([self._first_window(film) for film in films]), self._preprocessing)
        views = [self._view(film, _draws(seed, item).uniform) for film, item in zip(films, items.tolist(), strict=True)]
        inputs = normalise(torch.stack(views), self._preprocessing)
        return inputs if self._preprocessing.crops == 1 else inputs[:, None]

    def _first_window(self, film: np.ndarray) -> torch.Tensor:
        frames = film[np.minimum(np.arange(self._frames), len(film) - 1)]
        if self._preprocessing.view == "centre":
            return torch.from_numpy(np.stack([self._preprocessing.crop(frame) for frame in frames]))
        return scaled_to(torch.from_numpy(frames), *self._preprocessing.shape[:2])

    def _view(self, film: np.ndarray, draw: Draw) -> torch.Tensor:
        indices = random_frame_indices(len(film), self._frames, self._augmentation, draw)
        frames = torch.from_numpy(film[indices.numpy()])
        crops = self._preprocessing.crops
        if crops > 1:
            frames = frames.chunk(crops, dim=2)[math.floor(draw(0, crops)) % crops]
        return random_view(frames, self._preprocessing.size, self._augmentation, draw)
