"""Networks of pytorchvideo's model zoo, and the files of weights that it publishes for them."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from tagger.errors import WeightsError
from tagger.file_content import check_regular, why_unreadable

KINETICS_CLASSES = 400


def i3d_blocks(classes: int) -> nn.ModuleList:
    """Builds the seven untrained blocks of pytorchvideo's I3D ResNet-50: stem, stages and pools, and the head last."""
    with _quiet_import():
        from pytorchvideo.models.hub.resnet import i3d_r50
    return i3d_r50(model_num_class=classes).blocks


def x3d_m_blocks(classes: int) -> nn.ModuleList:
    """Builds the six untrained blocks of pytorchvideo's X3D-M: stem, four stages, the head last, without softmax."""
    with _quiet_import():
        from pytorchvideo.models.hub.x3d import x3d_m
    return x3d_m(model_num_class=classes, head_activation=None).blocks


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    with warnings.catch_warnings():
        # The import uses torch.jit.script, which is deprecated. A user of vtag cannot do anything about the warning.
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights in the model zoo: its name there, the name of its network, and the builder of its blocks.

    A network of vtag has the blocks of a checkpoint in its ``backbone``, and the last block as its ``head``.
    """

    file_name: str
    network: str
    blocks: Callable[[int], nn.ModuleList]

    def shapes(self, classes: int = KINETICS_CLASSES) -> dict[str, tuple[int, ...]]:
        """Returns names and shapes of the tensors that the file must have.

        ``num_batches_tracked`` is left out. It counts training steps and is not needed for prediction.
        """
        with torch.device("meta"):
            blocks = self.blocks(classes)
        return {
            f"blocks.{name}": tuple(tensor.shape)
            for name, tensor in blocks.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }

    def load(self, network: nn.Module, file: str | Path) -> None:
        """Loads ``file`` into a network with the same blocks. Raises WeightsError when it is something else."""
        self._load(network, file, self.shapes(len(network.get_parameter("head.proj.weight"))))

    def load_backbone(self, network: nn.Module, file: str | Path) -> None:
        """Loads only the backbone. The head of the network is not changed. Raises WeightsError as ``load``."""
        shapes = self.shapes()
        head = max(map(_block, shapes))
        self._load(network, file, {name: shape for name, shape in shapes.items() if _block(name) != head})

    def read(self, file: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, torch.Tensor]:
        """Reads the tensors named in ``shapes`` from ``file``; by default all that it must have.

        The file is a pytorchvideo ``.pyth`` (a dict with ``model_state``, or the state dict itself), which is loaded
        without running any code in it, or a ``.safetensors`` with the same names. Raises WeightsError when a tensor is
        missing or has another shape.
        """
        file, shapes = Path(file), self.shapes() if shapes is None else shapes
        try:
            check_regular(file)
            weights = load_file(file) if file.suffix == ".safetensors" else _load_tensors(file)
        except Exception as error:  # torch.load may raise anything for a damaged file or another format.
            raise self._wrong(file, why_unreadable(error)[:120]) from error
        missing = [name for name in shapes if not isinstance(weights.get(name), torch.Tensor)]
        if missing:
            raise self._wrong(file, f"{len(missing)} of {len(shapes)} tensors are missing, first {missing[0]}")
        for name, shape in shapes.items():
            if tuple(weights[name].shape) != shape:
                raise self._wrong(file, f"{name} is {list(weights[name].shape)}, not {list(shape)}")
        return {name: weights[name] for name in shapes}

    def _load(self, network: nn.Module, file: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        head = max(map(_block, self.shapes()))
        weights = {_our_name(name, head): tensor for name, tensor in self.read(file, shapes).items()}
        network.load_state_dict(weights, strict=False)

    def _wrong(self, file: Path, reason: str) -> WeightsError:
        return WeightsError(
            f"{file} is not a checkpoint of pytorchvideo's {self.network} ({reason}); "
            f"name its {self.file_name} with --weights FILE"
        )


I3D_CHECKPOINT = Checkpoint("I3D_8x8_R50.pyth", "I3D ResNet-50", i3d_blocks)
X3D_M_CHECKPOINT = Checkpoint("X3D_M.pyth", "X3D-M", x3d_m_blocks)

CHECKPOINTS = {checkpoint.file_name: checkpoint for checkpoint in (I3D_CHECKPOINT, X3D_M_CHECKPOINT)}


def _block(name: str) -> int:
    return int(name.split(".")[1])


def _our_name(name: str, head: int) -> str:
    """Translates a pytorchvideo name: ``blocks.3.x`` to ``backbone.3.x``, and the block ``head`` to ``head``."""
    _, block, rest = name.split(".", 2)
    return f"head.{rest}" if int(block) == head else f"backbone.{block}.{rest}"


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
