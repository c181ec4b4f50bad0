"""A model that costs nothing: its labels tell how bright the middle of a window is."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling

LABELS = ("dark", "light")

SAMPLING = Sampling(4, 4)
"""Windows of 0.53 s."""


class FakeClassifier:
    """Gives the brightness as the probability of ``light``."""

    def classify(self, clips: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, None]:
        """See Classifier.classify."""
        light = clips.mean(axis=(1, 2, 3, 4)) / 255
        return np.stack([1 - light, light], axis=1).astype(np.float32), None


def fake_tagger(sampling: Sampling = SAMPLING, size: int = 32) -> Any:
    """Returns what ``tagger.watch`` needs of a Tagger."""
    preprocessing = Preprocessing(size, size, view="whole")
    return SimpleNamespace(
        classifier=FakeClassifier(),
        labels=LABELS,
        sampling=sampling,
        source=SimpleNamespace(info=SimpleNamespace(preprocessing=preprocessing, labels=LABELS, sampling=sampling)),
    )
