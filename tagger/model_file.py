"""Model files: one ``.safetensors`` file with everything that is needed to use a model.

The weights are plain safetensors (https://github.com/huggingface/safetensors); the rest is one JSON text in the
metadata entry ``vtag``. Its ``format`` is the version of the metadata. Nothing is ever unpickled.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from tagger.errors import ModelFileError, doing
from tagger.file_content import check_regular
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling

if TYPE_CHECKING:
    import torch

FORMAT = 4
"""Version of the metadata that this vtag writes. A file with a higher version comes from a newer vtag.

Format 1 had no ``ood``, format 2 no ``view`` of the preprocessing, format 3 no ``embedding``. All can still be read.
"""


@dataclass(frozen=True)
class EmbeddingSpace:
    """The embeddings of a model: ``size`` values, made from ``channels`` features.

    Embeddings of two models can be compared when they have the same ``space``: a hash of the backbone, the projection,
    the sampling and the preprocessing.
    """

    size: int
    channels: int
    space: str


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model file.

    ``architecture`` and ``options`` build the network; ``temperature`` divides its logits, so that confidences are
    calibrated; ``training`` describes how the model was trained, and ``scores`` are its scores on groups that were not
    used in training. ``ood`` scores out-of-distribution windows; None when there were no validation windows.
    ``embedding`` describes the embeddings that are fitted to the model; None in files of earlier versions.
    """

    architecture: str
    labels: tuple[str, ...]
    sampling: Sampling
    preprocessing: Preprocessing
    temperature: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    ood: OODCalibration | None = None
    embedding: EmbeddingSpace | None = None


def save_model_file(path: str | Path, info: ModelInfo, weights: "Mapping[str, torch.Tensor]") -> None:
    """Writes a model file under a temporary name and then renames it, so that ``path`` is never a partial file."""
    from safetensors.torch import save_file

    path = Path(path)
    metadata = {"format": FORMAT, **asdict(info)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Gives the file the permissions of any new file. The safetensors library would make it readable by its owner
        # only.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
            temporary,
            metadata={"vtag": json.dumps(metadata, sort_keys=True)},
        )
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_model_info(path: str | Path) -> ModelInfo:
    """Reads the metadata of a model file, without its weights. Raises ModelFileError."""
    try:
        check_regular(path)
        # NumPy, because the driver of a job reads only the metadata and must not import torch.
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist; `vtag models` lists the models that need no file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if "vtag" not in metadata:
        raise ModelFileError(f"{path} is a .safetensors file, but not one that vtag wrote; train one with `vtag train`")
    with doing("reading the model file", path):
        return _parse(path, metadata["vtag"])


def _parse(path: str | Path, text: str) -> ModelInfo:
    try:
        values = json.loads(text)
        version = values.pop("format")
        if version > FORMAT:
            raise ModelFileError(f"{path} was written by a newer vtag (format {version}); upgrade vtag")
        ood, embedding = values.get("ood"), values.get("embedding")
        return ModelInfo(
            **{
                **values,
                "labels": tuple(values["labels"]),
                "sampling": Sampling(**values["sampling"]),
                "preprocessing": Preprocessing.from_json(values["preprocessing"]),
                "ood": None if ood is None else OODCalibration.from_json(ood),
                "embedding": None if embedding is None else EmbeddingSpace(**embedding),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} has damaged vtag metadata; copy or train it again ({error})") from error


def read_weights(path: str | Path) -> "dict[str, torch.Tensor]":
    """Reads the weights of a model file, as float32 where they are floating point. Raises ModelFileError."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def _unreadable(path: str | Path, error: Exception) -> ModelFileError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ModelFileError(f"{path} is not a readable .safetensors file; copy or train it again ({reason})")
