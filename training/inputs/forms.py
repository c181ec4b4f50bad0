"""The forms in which clips are cached: windows of pixels, films for random views, and features."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from tagger.classifier import Classifier
from tagger.preprocessing import Preprocessing
from tagger.video.readers.reader import PIXEL_VERSION
from tagger.windows import Sampling
from training.inputs.clip_decoding import DecodedClip


class Form(Protocol):
    """Makes one array for each clip.

    The clip is decoded with ``sampling`` and ``preprocessing``. ``identity`` is a JSON text of all that the array
    depends on, apart from the clip.
    """

    @property
    def sampling(self) -> Sampling: ...  # noqa: D102 - described above

    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102

    @property
    def identity(self) -> str: ...  # noqa: D102

    def make(self, decoded: DecodedClip) -> np.ndarray:
        """Returns the array of a clip; it has no rows when the clip has no windows."""
        ...


@dataclass(frozen=True)
class Windows:
    """All windows of a clip as the tagger sees them: ``[n, T, *preprocessing.shape] uint8``."""

    sampling: Sampling
    preprocessing: Preprocessing

    @property
    def identity(self) -> str:
        """Sampling and preprocessing."""
        return json.dumps(["windows", PIXEL_VERSION, self.sampling.to_json(), asdict(self.preprocessing)])

    def make(self, decoded: DecodedClip) -> np.ndarray:
        """Returns the windows."""
        return decoded.windows


class Film:
    """A clip as a film, one frame at every sample step: ``[frames, resize, resize, 3] uint8``.

    The frames are those that the tagger sees, but ``resize`` high. This leaves room for random crops. When the tagger
    sees several crops of a frame, those of a film lie side by side as well: ``[frames, resize, crops * resize, 3]``.
    """

    def __init__(self, sampling: Sampling, preprocessing: Preprocessing):
        # Windows of one frame each.
        self.sampling = replace(sampling, num_frames=1, hop_s=None)
        self.preprocessing = replace(preprocessing, size=preprocessing.resize)

    @property
    def identity(self) -> str:
        """Sampling and preprocessing."""
        return json.dumps(["film", PIXEL_VERSION, self.sampling.to_json(), asdict(self.preprocessing)])

    def make(self, decoded: DecodedClip) -> np.ndarray:
        """Returns the frames."""
        return decoded.windows[:, 0]


class Features:
    """Outputs of the frozen backbone: ``[n, variants, ...] float16`` for the windows of a clip.

    With several crops of a frame they are ``[n, variants, crops, ...]``.

    Variant 0 is the window as the tagger sees it. With ``mirrored``, variant 1 is the window mirrored left to right.
    """

    def __init__(self, sampling: Sampling, preprocessing: Preprocessing, backbone: Classifier, *, mirrored: bool):
        self.sampling, self.preprocessing, self.mirrored = sampling, preprocessing, mirrored
        self._backbone = backbone

    @cached_property
    def identity(self) -> str:
        """Pixels, sampling, preprocessing, the variants, and the backbone with its weights."""
        pixels = [PIXEL_VERSION, self.sampling.to_json(), asdict(self.preprocessing)]
        return json.dumps(["features", *pixels, self.mirrored, self._backbone.fingerprint()])

    def make(self, decoded: DecodedClip) -> np.ndarray:
        """Computes the features, one window and variant at a time, as the tagger does on a CPU."""
        features = [self._features(window) for window in decoded.windows]
        return np.stack(features) if features else np.empty((0, 1), np.float16)

    def _features(self, window: np.ndarray) -> np.ndarray:
        variants = [window, window[:, :, ::-1]] if self.mirrored else [window]
        made = [self._backbone.features(np.ascontiguousarray(variant[None])) for variant in variants]
        return np.concatenate([features.half().cpu().numpy() for features in made])


class TaggerFeatures:
    """The features from which the tagger classifies windows on a CPU: ``[n, ...] float32`` for the windows of a clip.

    They are not rounded as those of ``Features``, so that the tagger's head gives exactly the tagger's logits.
    """

    def __init__(self, sampling: Sampling, preprocessing: Preprocessing, classifier: Classifier):
        self.sampling, self.preprocessing = sampling, preprocessing
        self._classifier = classifier

    @cached_property
    def identity(self) -> str:
        """Pixels, sampling, preprocessing, and the backbone with its weights."""
        pixels = [PIXEL_VERSION, self.sampling.to_json(), asdict(self.preprocessing)]
        return json.dumps(["tagger features", *pixels, self._classifier.fingerprint()])

    def make(self, decoded: DecodedClip) -> np.ndarray:
        """Computes the features, one window at a time."""
        features = [self._classifier.features(np.array(window[None])).cpu().numpy() for window in decoded.windows]
        return np.concatenate(features) if features else np.empty((0, 1), np.float32)
