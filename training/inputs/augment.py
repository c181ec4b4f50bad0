"""Random views of a clip for training: random start, speed, crop, mirroring and light.

All frames of a view get the same changes, so that a difference between two frames still means motion.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tagger.preprocessing import View

Draw = Callable[[float, float], float]
"""A function that returns a uniform random number between two bounds."""


@dataclass(frozen=True)
class Augmentation:
    """The limits of random changes to the frames that the tagger sees.

    ``min_area`` is the smallest share of the picture that a crop keeps. ``aspect`` is the largest ratio of its sides.
    ``rate`` is the largest factor by which a view is faster or slower than real time. ``light`` is the largest change
    of brightness, contrast and saturation, as a share.
    """

    min_area: float = 0.35
    aspect: float = 4 / 3
    rate: float = 1.25
    light: float = 0.3


AUGMENTATIONS: dict[View, Augmentation] = {
    "whole": Augmentation(min_area=0.7, aspect=1.15),
    "centre": Augmentation(),
    "three": Augmentation(),
}
"""The random changes for each view. The tagger sees the whole frame at once or a crop of it, and so does the network in
training."""


def random_frame_indices(frames: int, wanted: int, augmentation: Augmentation, draw: Draw) -> torch.Tensor:
    """Draws ``[wanted]`` indices into a clip of ``frames`` frames: a window at a random time, at a random rate.

    When the clip is shorter than the window, its last frame is repeated.
    """
    rate = math.exp(draw(-math.log(augmentation.rate), math.log(augmentation.rate)))
    start = draw(0, max(0.0, frames - 1 - (wanted - 1) * rate))
    return (start + torch.arange(wanted) * rate).round().long().clamp(max=frames - 1)


def random_view(frames: torch.Tensor, size: int, augmentation: Augmentation, draw: Draw) -> torch.Tensor:
    """Makes ``[T, size, size, 3] uint8`` of ``[T, H, W, 3] uint8`` frames by a random crop, mirroring and light.

    The crop is the random resized crop of Szegedy et al. (2015, https://arxiv.org/abs/1409.4842).
    """
    # Imported here because it takes two seconds, and processes that only ingest clips make no views.
    from torchvision.transforms.v2 import functional

    top, left, height, width = _random_crop(frames.shape[1], frames.shape[2], augmentation, draw)
    view = frames.permute(0, 3, 1, 2)
    view = functional.resized_crop(view, top, left, height, width, [size, size], antialias=True)
    if draw(0, 1) < 0.5:
        view = functional.horizontal_flip(view)
    for adjust in (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation):
        view = adjust(view, draw(1 - augmentation.light, 1 + augmentation.light))
    return view.permute(0, 2, 3, 1)


def scaled_to(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scales ``[T, H, W, 3] uint8`` frames to ``[T, height, width, 3] uint8``."""
    from torchvision.transforms.v2 import functional

    return functional.resize(frames.permute(0, 3, 1, 2), [height, width], antialias=True).permute(0, 2, 3, 1)


def _random_crop(height: int, width: int, augmentation: Augmentation, draw: Draw) -> tuple[int, int, int, int]:
    """Draws the top, left, height and width of a crop."""
    area = height * width * draw(augmentation.min_area, 1)
    aspect = math.exp(draw(-math.log(augmentation.aspect), math.log(augmentation.aspect)))
    crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
    crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
    top = round(draw(0, height - crop_height))
    left = round(draw(0, width - crop_width))
    return top, left, crop_height, crop_width
