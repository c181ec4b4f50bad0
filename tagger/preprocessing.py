"""Scaling and cropping of frames for a model's input."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Preprocessing:
    """How frames become a model's input: the shorter side is scaled to ``resize``, then the centre is cropped to
    ``size × size``.

    ``mean`` and ``std`` are per RGB channel for pixels scaled to 0..1; they are applied on the model's device.
    """

    size: int = 224
    resize: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def scaled(self, width: float, height: float) -> tuple[int, int]:
        """Returns the width and height to which a ``width × height`` picture is scaled before the crop."""
        scale = self.resize / min(width, height)
        return max(self.size, round(width * scale)), max(self.size, round(height * scale))

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Crops ``[H, W, 3]`` pixels to the centre ``size × size``."""
        top, left = (pixels.shape[0] - self.size) // 2, (pixels.shape[1] - self.size) // 2
        return pixels[top : top + self.size, left : left + self.size]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Restores the result of ``dataclasses.asdict`` after a round trip through JSON."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
