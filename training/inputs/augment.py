"""Random views of a clip for training: when, how fast, which part, mirrored, in which light.

A view is the same for all frames of a clip: whatever differs between two frames then still comes from motion.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Draw = Callable[[float, float], float]
"""A source of random numbers, uniform between two bounds."""


@dataclass(frozen=True)
class Augmentation:
    """How far random views may differ from what the tagger sees.

    ``min_area`` is the smallest share of the picture that a crop keeps; ``aspect`` how far its shape may be from a
    square; ``rate`` how many times faster or slower than real time a view may run; ``light`` how much brightness,
    contrast and saturation may change, as a share.
    """

    min_area: float = 0.35
    aspect: float = 4 / 3
    rate: float = 1.25
    light: float = 0.3


def random_times(frames: int, wanted: int, augmentation: Augmentation, draw: Draw) -> torch.Tensor:
    """``[wanted]`` indices into a clip of ``frames`` frames: a window at a random time, at a random rate.

    A clip that is too short for the window ends with its last frame repeated, as the tagger does it.
    """
    rate = math.exp(draw(-math.log(augmentation.rate), math.log(augmentation.rate)))
    start = draw(0, max(0.0, frames - 1 - (wanted - 1) * rate))
    return (start + torch.arange(wanted) * rate).round().long().clamp(max=frames - 1)


def random_view(frames: torch.Tensor, size: int, augmentation: Augmentation, draw: Draw) -> torch.Tensor:
    """``[T, H, W, 3] uint8`` frames as ``[T, size, size, 3] uint8``: a random crop, mirrored or not, in another light.

    The crop is the random resized crop of Szegedy et al. (2015, https://arxiv.org/abs/1409.4842).
    """
    # Imported here because it takes two seconds, and the processes that only bring clips in draw no views.
    from torchvision.transforms.v2 import functional

    top, left, height, width = _random_crop(frames.shape[1], frames.shape[2], augmentation, draw)
    view = frames.permute(0, 3, 1, 2)
    view = functional.resized_crop(view, top, left, height, width, [size, size], antialias=True)
    if draw(0, 1) < 0.5:
        view = functional.horizontal_flip(view)
    for adjust in (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation):
        view = adjust(view, draw(1 - augmentation.light, 1 + augmentation.light))
    return view.permute(0, 2, 3, 1)


def _random_crop(height: int, width: int, augmentation: Augmentation, draw: Draw) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop."""
    area = height * width * draw(augmentation.min_area, 1)
    aspect = math.exp(draw(-math.log(augmentation.aspect), math.log(augmentation.aspect)))
    crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
    crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
    top = round(draw(0, height - crop_height))
    left = round(draw(0, width - crop_width))
    return top, left, crop_height, crop_width
