"""Scaling and cropping of frames for a model's input."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

View = Literal["whole", "centre", "three"]
"""The part of a frame that a model sees."""

VIEWS: tuple[View, ...] = get_args(View)


@dataclass(frozen=True)
class Preprocessing:
    """How frames become a model's input: pictures of ``size × size``, of the part of the frame that ``view`` names.

    ``whole``: the whole frame, squeezed to a square. ``centre``: the shorter side is scaled to ``resize``, then the
    centre is cropped. ``three``: the shorter side is scaled to ``size``, and three crops show both ends and the middle
    of the longer side. They lie side by side in one picture, and the logits of the model are the mean over the three.

    ``mean`` and ``std`` are per RGB channel for pixels scaled to 0..1; they are applied on the model's device. Raises
    ValueError for an unknown view.
    """

    size: int = 224
    resize: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    view: View = "centre"

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view is {self.view!r}; it must be one of {', '.join(VIEWS)}")

    @property
    def crops(self) -> int:
        """The number of ``size × size`` pictures that lie side by side in the picture of a frame."""
        return 3 if self.view == "three" else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """The height, width and channels of the picture of a frame."""
        return self.size, self.crops * self.size, 3

    def scaled(self, width: float, height: float) -> tuple[int, int]:
        """Returns the width and height to which a ``width × height`` frame is scaled before ``crop``."""
        if self.view == "whole":
            return self.size, self.size
        scale = (self.size if self.view == "three" else self.resize) / min(width, height)
        return max(self.size, round(width * scale)), max(self.size, round(height * scale))

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Makes the picture of a frame, of ``shape``, from its scaled pixels ``[H, W, 3]``."""
        rows, columns = pixels.shape[0] - self.size, pixels.shape[1] - self.size
        if self.view != "three":
            return self._square(pixels, rows // 2, columns // 2)
        # One of the two is 0, so the crops move along the longer side only.
        return np.concatenate([self._square(pixels, rows * i // 2, columns * i // 2) for i in range(3)], axis=1)

    def _square(self, pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        return pixels[top : top + self.size, left : left + self.size]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessing":
        """Restores the result of ``dataclasses.asdict`` after a round trip through JSON.

        Model files of format 1 and 2 have no view: it is the centre.
        """
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
