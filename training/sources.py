"""Where a training loop takes its inputs from: pixels, or the features of the layers that are not trained."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from tagger.classifier import Classifier, normalise
from tagger.errors import DataSetError
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from training.augment import Augmentation, random_times, random_view
from training.data_set import LabelledClip
from training.decoding import DecodedClip, decode_clips

OnClip = Callable[[LabelledClip, str | None], None]
"""Told of each clip that is done, and why it could not be read when it could not."""


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


class _WindowFile:
    """Arrays of windows, collected clip by clip in a temporary file, which is then mapped into memory."""

    def __init__(self, labels: Sequence[str]):
        self._index = {label: i for i, label in enumerate(labels)}
        self._labels: list[int] = []
        self._videos: list[int] = []
        self._clips = 0
        # The file has no name: it is gone when the process ends, however it ends.
        self._file = tempfile.TemporaryFile(prefix="vtag-", dir=_large_folder())  # noqa: SIM115 - stays open
        self._dtype, self._shape = np.dtype(np.uint8), (0,)

    def add(self, clip: LabelledClip, windows: np.ndarray) -> None:
        if len(windows):
            self._dtype, self._shape = windows.dtype, windows.shape[1:]
            self._file.write(windows.tobytes())
        self._labels += [self._index[clip.label]] * len(windows)
        self._videos += [self._clips] * len(windows)
        self._clips += 1

    def finish(self) -> tuple[np.ndarray, Targets]:
        if not self._labels:
            raise DataSetError("none of the clips could be read")
        self._file.flush()
        windows = np.memmap(self._file, self._dtype, "r", shape=(len(self._labels), *self._shape))
        return windows, Targets(torch.tensor(self._labels), np.array(self._videos))


class PixelSource:
    """Decoded windows as uint8: decoded once for all epochs."""

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        labels: Sequence[str],
        sampling: Sampling,
        preprocessing: Preprocessing,
        *,
        on_clip: OnClip,
    ):
        file = _WindowFile(labels)
        for decoded in decode_clips(clips, sampling, preprocessing):
            file.add(decoded.clip, decoded.windows)
            on_clip(decoded.clip, decoded.problem)
        self._windows, self.targets = file.finish()
        self._preprocessing = preprocessing

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """``[n, 3, T, H, W]`` normalised float32 pixels; in training, half of them mirrored left to right."""
        pixels = torch.from_numpy(self._windows[windows.numpy()])
        if augment is not None:
            flip = torch.rand(len(windows), generator=augment) < 0.5
            pixels[flip] = pixels[flip].flip(3)
        return normalise(pixels, self._preprocessing)


class RandomViewSource:
    """A random view of each clip at each look: a window at a random time, randomly cropped, mirrored and lit.

    Looking once at every clip is an epoch. Without a generator a clip gives the first window, as the tagger sees it.
    ``frames`` is how many frames a view has.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        labels: Sequence[str],
        sampling: Sampling,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        *,
        frames: int,
        on_clip: OnClip,
    ):
        # Kept as large as the tagger scales them, before its crop: room for random crops. Windows lie end to end, so
        # those of one clip are a film with a frame every step.
        whole = replace(preprocessing, size=preprocessing.resize)
        file = _WindowFile(labels)
        lengths: list[int] = []
        for decoded in decode_clips(clips, replace(sampling, hop_s=None), whole):
            file.add(decoded.clip, decoded.windows)
            lengths.append(_film_frames(decoded, sampling))
            on_clip(decoded.clip, decoded.problem)
        self._windows, by_window = file.finish()
        videos, first, counts = np.unique(by_window.videos, return_index=True, return_counts=True)
        self._spans = list(zip(first.tolist(), (first + counts).tolist(), strict=True))
        self._lengths = [lengths[video] for video in videos]
        self.targets = Targets(by_window.labels[first], videos)
        self._augmentation, self._frames, self._preprocessing = augmentation, frames, preprocessing

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """``[n, 3, frames, size, size]`` normalised float32 pixels."""
        views = [self._view(clip, augment) for clip in windows.tolist()]
        return normalise(torch.stack(views), self._preprocessing)

    def _view(self, clip: int, augment: torch.Generator | None) -> torch.Tensor:
        first, end = self._spans[clip]
        film = self._windows[first:end].reshape(-1, *self._windows.shape[2:])[: self._lengths[clip]]
        if augment is None:
            first_frames = film[np.minimum(np.arange(self._frames), len(film) - 1)]
            return torch.from_numpy(np.stack([self._preprocessing.crop(frame) for frame in first_frames]))

        def draw(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=augment).item()

        times = random_times(len(film), self._frames, self._augmentation, draw)
        return random_view(torch.from_numpy(film[times.numpy()]), self._preprocessing.size, self._augmentation, draw)


def _film_frames(decoded: DecodedClip, sampling: Sampling) -> int:
    """How many frames a clip's windows have, lying end to end, until the last of the clip begins to be repeated."""
    whole = len(decoded.windows) * sampling.num_frames
    if not decoded.duration_s:
        return whole
    return min(whole, math.ceil(decoded.duration_s / sampling.step_s - 1e-3) + 1)


class FeatureSource:
    """Features of the layers that are not trained, computed once: ``[n, variants, ...]`` float16.

    Variant 0 is the window as the tagger sees it; variant 1, when asked for, is mirrored left to right. Training picks
    a variant at random. With a ``cache`` folder the features of each clip are kept there for the next training.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        labels: Sequence[str],
        sampling: Sampling,
        preprocessing: Preprocessing,
        layers: Classifier,
        *,
        mirrored: bool,
        cache: Path | None,
        on_clip: OnClip,
    ):
        file = _WindowFile(labels)
        kept = FeatureCache(cache, [sampling.to_json(), asdict(preprocessing), mirrored, layers.fingerprint()])
        # Decided once: another training may fill the same cache meanwhile.
        here = [kept.has(clip) for clip in clips]
        missing = [clip for clip, is_here in zip(clips, here, strict=True) if not is_here]
        decoded = decode_clips(missing, sampling, preprocessing)
        for clip, is_here in zip(clips, here, strict=True):
            if is_here:
                file.add(clip, kept.load(clip))
                on_clip(clip, None)
                continue
            read = next(decoded)
            features = np.concatenate([_features(layers, window, mirrored) for window in read.windows] or [_NONE])
            if read.problem is None:
                kept.save(clip, features)
            file.add(clip, features)
            on_clip(clip, read.problem)
        self._windows, self.targets = file.finish()

    def inputs(self, windows: torch.Tensor, augment: torch.Generator | None) -> torch.Tensor:
        """``[n, ...]`` float32 features."""
        chosen = windows.numpy()
        variants = np.zeros(len(chosen), np.intp)
        if augment is not None:
            variants = torch.randint(self._windows.shape[1], (len(chosen),), generator=augment).numpy()
        return torch.from_numpy(self._windows[chosen, variants]).float()


_NONE = np.empty((0, 1), np.float16)


def _features(layers: Classifier, window: np.ndarray, mirrored: bool) -> np.ndarray:
    """``[1, variants, ...]`` of one ``[T, H, W, 3]`` window; each variant alone, as the tagger does on a CPU."""
    variants = [window, window[:, :, ::-1]] if mirrored else [window]
    return np.stack([layers.features(np.ascontiguousarray(v[None])).half().cpu().numpy() for v in variants], axis=1)


class FeatureCache:
    """Features kept in ``folder``, one file for each clip; a clip or a layer that changes gets another file.

    Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, identity: object):
        self._folder = folder
        self._identity = identity
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def has(self, clip: LabelledClip) -> bool:
        """Whether the features of ``clip`` are here."""
        path = self._path(clip)
        return path is not None and path.exists()

    def load(self, clip: LabelledClip) -> np.ndarray:
        """The features of ``clip``, which must be here."""
        path = self._path(clip)
        assert path is not None
        return np.load(path)

    def save(self, clip: LabelledClip, features: np.ndarray) -> None:
        """Keeps the features of ``clip``; never half of them."""
        path = self._path(clip)
        if path is not None:
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                np.save(file, features)
            temporary.replace(path)

    def _path(self, clip: LabelledClip) -> Path | None:
        if self._folder is None or not clip.path.exists():
            return None
        stat = clip.path.stat()
        file = [str(clip.path.resolve()), stat.st_size, stat.st_mtime_ns]
        key = json.dumps([*file, clip.start_s, clip.end_s, self._identity])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"


def _large_folder() -> str:
    """A folder for large temporary files: TMPDIR if it is set, else on disk, where /tmp may be in memory."""
    is_on_disk = "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK)
    return "/var/tmp" if is_on_disk else tempfile.gettempdir()
