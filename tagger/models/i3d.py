"""``i3d-kinetics400`` and ``i3d-lstm``: the I3D ResNet-50 of pytorchvideo, and the weights it comes with.

I3D is https://arxiv.org/abs/1705.07750. The ResNet-50 version is ``pytorchvideo.models.hub.i3d_r50``; its layers are
used unchanged.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from tagger.errors import WeightsError
from tagger.file_content import check_regular, why_unreadable
from tagger.models.heads import HeadName, SpatialMean, build_head

FEATURES = 2048
KINETICS_CLASSES = 400


def _i3d_blocks(classes: int) -> nn.ModuleList:
    """Builds the seven untrained blocks of pytorchvideo's I3D ResNet-50: stem, stages and pools, and the head last."""
    with warnings.catch_warnings():
        # The import uses torch.jit.script, which is deprecated. A user of vtag cannot do anything about the warning.
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub.resnet import i3d_r50
    return i3d_r50(model_num_class=classes).blocks


class I3DKinetics400(nn.Module):
    """pytorchvideo's I3D ResNet-50: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    ``backbone`` gives ``[n, 2048, T / 2, H / 32, W / 32]``. The head averages over blocks of 4×7×7 of that, so T
    must be at least 8, and H and W at least 224. The head does not apply softmax.
    """

    def __init__(self, classes: int = KINETICS_CLASSES):
        super().__init__()
        blocks = _i3d_blocks(classes)
        self.backbone = nn.Sequential(*blocks[:-1])
        self.head = blocks[-1]

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))


class I3DLSTM(nn.Module):
    """The same backbone with vtag's own head: ``[n, 3, T, H, W]`` to logits ``[n, classes]``.

    ``backbone`` gives ``[n, T / 2, 2048]``: 8 steps for a 16-frame clip.
    """

    def __init__(self, classes: int, head: HeadName = "lstm", hidden: int = 512, dropout: float = 0.5):
        super().__init__()
        self.backbone = nn.Sequential(*_i3d_blocks(classes)[:-1], SpatialMean())
        self.head = build_head(head, FEATURES, classes, hidden, dropout)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``[n, 3, T, H, W]`` to ``[n, classes]``."""
        return self.head(self.backbone(clips))


def load_kinetics_checkpoint(network: nn.Module, file: str | Path) -> None:
    """Loads a pytorchvideo checkpoint into an ``I3DKinetics400``. Raises WeightsError when it is something else."""
    weights = read_checkpoint(file, checkpoint_shapes(len(network.get_parameter("head.proj.weight"))))
    network.load_state_dict({_our_name(name): tensor for name, tensor in weights.items()}, strict=False)


def load_kinetics_backbone(network: nn.Module, file: str | Path) -> None:
    """Loads only the backbone of a pytorchvideo checkpoint into an ``I3DLSTM``. The head of the network is not changed.

    Raises WeightsError when the file is something else.
    """
    shapes = {name: shape for name, shape in checkpoint_shapes().items() if _our_name(name).startswith("backbone.")}
    weights = read_checkpoint(file, shapes)
    network.load_state_dict({_our_name(name): weights[name] for name in shapes}, strict=False)


def checkpoint_shapes(classes: int = KINETICS_CLASSES) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of the tensors that a pytorchvideo I3D ResNet-50 checkpoint must have.

    ``num_batches_tracked`` is left out. It counts training steps and is not needed for prediction.
    """
    with torch.device("meta"):
        blocks = _i3d_blocks(classes)
    return {
        f"blocks.{name}": tuple(tensor.shape)
        for name, tensor in blocks.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def read_checkpoint(file: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Reads the tensors named in ``shapes`` from a checkpoint.

    The file is a pytorchvideo ``.pyth`` (a dict with ``model_state``, or the state dict itself), which is loaded
    without running any code in it, or a ``.safetensors`` with the same names. Raises WeightsError when a tensor is
    missing or has another shape.
    """
    file = Path(file)
    try:
        check_regular(file)
        weights = load_file(file) if file.suffix == ".safetensors" else _load_tensors(file)
    except Exception as error:  # torch.load may raise anything for a damaged file or another format.
        raise _not_i3d(file, why_unreadable(error)[:120]) from error
    missing = [name for name in shapes if not isinstance(weights.get(name), torch.Tensor)]
    if missing:
        raise _not_i3d(file, f"{len(missing)} of {len(shapes)} tensors are missing, first {missing[0]}")
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise _not_i3d(file, f"{name} is {list(weights[name].shape)}, not {list(shape)}")
    return {name: weights[name] for name in shapes}


def _load_tensors(file: Path) -> Mapping[str, torch.Tensor]:
    # pytorchvideo's file also has the state of its training, where a learning rate may be a NumPy number. These three
    # globals can only build such numbers. In files from before NumPy 2 the first one has its old name.
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, type(np.dtype(np.float64))]
    with torch.serialization.safe_globals(numbers):
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    weights = loaded.get("model_state", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(weights, Mapping):
        raise ValueError(f"it holds a {type(loaded).__name__}")
    return weights


def _not_i3d(file: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{file} is not a checkpoint of pytorchvideo's I3D ResNet-50 ({reason}); "
        "name its I3D_8x8_R50.pyth with --weights FILE"
    )


def _our_name(name: str) -> str:
    """Translates a pytorchvideo name: ``blocks.3.x`` to ``backbone.3.x``, and the last block to ``head``."""
    _, block, rest = name.split(".", 2)
    return f"head.{rest}" if int(block) == 6 else f"backbone.{block}.{rest}"
