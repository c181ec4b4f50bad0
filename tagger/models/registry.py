"""The architectures that vtag can build, the preprocessing of each, and the built-in model."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.errors import ModelFileError
from tagger.models.kinetics import KINETICS, KINETICS_PREPROCESSING
from tagger.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

BUILTIN = "ucf20"
"""The trained model that ships with vtag and is the default of ``vtag run``."""

# EfficientNet-Lite uses (pixel - 127) / 128.
LITE_PREPROCESSING = Preprocessing(size=224, resize=240, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
CNN3D_PREPROCESSING = Preprocessing(size=112, resize=128, mean=(0.5,) * 3, std=(0.25,) * 3)


@dataclass(frozen=True)
class Architecture:
    """A network that vtag can build: its name, a summary of one line, and its preprocessing.

    ``gflop`` is the approximate number of floating-point operations for a window of 16 frames, in billions.
    """

    name: str
    summary: str
    preprocessing: Preprocessing
    gflop: float
    is_trainable: bool = True


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            KINETICS,
            "I3D ResNet-50 of pytorchvideo with its 400-class Kinetics head",
            KINETICS_PREPROCESSING,
            114,
            is_trainable=False,
        ),
        Architecture("i3d-lstm", "the same I3D backbone, then an LSTM", KINETICS_PREPROCESSING, 114),
        Architecture(
            "cnn3d-lstm",
            "three 3D-convolution blocks on differences of frames, then an LSTM; from scratch",
            CNN3D_PREPROCESSING,
            12,
        ),
        Architecture("i3d-lite-lstm", "EfficientNet-Lite0 inflated to 3D, then an LSTM", LITE_PREPROCESSING, 15),
    )
}


def build_network(architecture: str, classes: int, options: dict[str, Any] | None = None) -> "nn.Module":
    """Builds an untrained network with a ``backbone`` (``[n, 3, T, H, W]`` to features) and a ``head`` (to logits).

    ``options`` are the architecture's own constructor arguments. Raises ModelFileError for an unknown architecture or
    option.
    """
    options = options or {}
    try:
        match architecture:
            case "i3d-kinetics400":
                from tagger.models.i3d import I3DKinetics400

                return I3DKinetics400(classes, **options)
            case "i3d-lstm":
                from tagger.models.i3d import I3DLSTM

                return I3DLSTM(classes, **options)
            case "cnn3d-lstm":
                from tagger.models.cnn3d import CNN3DLSTM

                return CNN3DLSTM(classes, **options)
            case "i3d-lite-lstm":
                from tagger.models.i3d_lite import I3DLiteLSTM

                return I3DLiteLSTM(classes, **options)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{architecture} cannot be built with {options}: {error}") from error
    raise ModelFileError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")


def builtin_model_path() -> Path:
    """Returns the path of the built-in model inside the package."""
    return Path(str(files("tagger.models") / f"{BUILTIN}.safetensors"))
