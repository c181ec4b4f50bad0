"""The answers of a model, computed from embeddings. No frame is read again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.errors import ModelFileError
from tagger.model_file import ModelInfo, read_weights
from tagger.models.embeddings.embedder import CONSTANT, Embedder
from tagger.models.embeddings.half import to_float32


def no_answers(name: str) -> ModelFileError:
    """Returns the error about a model whose embeddings are not fitted to it."""
    return ModelFileError(
        f"the answers of {name} cannot be computed from embeddings; train a model with this version of vtag train and "
        "--head mean"
    )


@dataclass(frozen=True)
class EmbeddingAnswers:
    """A model that classifies embeddings.

    ``weight`` ``[classes, size - 1]`` and ``bias`` ``[classes]``, both float32, turn the projected values of embeddings
    (``values_of``) into logits, not yet divided by the temperature.
    """

    info: ModelInfo
    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def load(cls, name: str, file: Path, info: ModelInfo) -> "EmbeddingAnswers":
        """Reads the head of the model ``name`` from ``file``.

        Raises ModelFileError when its answers cannot be computed from embeddings.
        """
        space = info.embedding
        if space is None:
            raise no_answers(name)
        if info.options.get("head") != "mean":
            raise ModelFileError(
                f"{name} looks at the order of the frames, which embeddings do not keep; train a model with --head mean"
            )
        weights = read_weights(file)
        try:
            embedder = Embedder(space.channels, space.size)
            embedder.load_state_dict({name: weights[f"embedder.{name}"] for name in ("mean", "projection")})
            head = embedder.linear_head(weights["head.dense.weight"], weights["head.dense.bias"])
        except (KeyError, RuntimeError) as error:
            detail = " ".join(str(error).split())[:200]
            raise ModelFileError(f"{file} does not hold the weights it describes ({detail})") from error
        if head is None:
            raise ModelFileError(
                f"{name} has {len(info.labels)} classes, and its embeddings do not keep all that these "
                "need; train a model with fewer classes"
            )
        return cls(info, head[0].numpy(), head[1].numpy())

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Turns embeddings ``[n, size] float16`` into logits ``[n, classes] float32``, as ``Classifier.logits``."""
        numbers = to_float32(embeddings)
        # As a dense layer on ``values_of``, but the scale is applied to the few logits.
        return numbers[:, :-1] @ self.weight.T * (CONSTANT / numbers[:, -1:]) + self.bias

    def classify(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Turns embeddings ``[n, size] float16`` into what ``Classifier.classify`` returns for the windows.

        They are probabilities ``[n, classes] float32``, and out-of-distribution scores ``[n] float32`` or None.
        """
        calibrated = self.logits(embeddings) / np.float32(self.info.temperature)
        powers = np.exp(calibrated - calibrated.max(axis=1, keepdims=True))
        ood = self.info.ood
        return powers / powers.sum(axis=1, keepdims=True), None if ood is None else ood.score(calibrated)
