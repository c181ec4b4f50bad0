"""Checkpoints: the state from which an interrupted training loop resumes after its last epoch."""

import io
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tagger.errors import OutputError
from tagger.file_content import check_regular
from training.fitting.epochs import Epoch


@dataclass
class State:
    """The state of a loop beside network and optimizer: the epochs so far, and the best of them with its weights."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    best_loss: float = math.inf
    weights: dict[str, torch.Tensor] | None = None


def save_checkpoint(
    path: Path,
    state: State,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    averaged: nn.Module | None = None,
) -> None:
    """Writes a checkpoint atomically: a killed process leaves the old or the new file, whole. Raises OutputError.

    ``averaged`` is the moving average of the weights of ``network``, if there is one.
    """
    content: dict[str, Any] = {
        "epochs": [asdict(epoch) for epoch in state.epochs],
        "best": {"number": state.best, "loss": state.best_loss, "weights": state.weights},
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "averaged": None if averaged is None else averaged.state_dict(),
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # torch.save raises RuntimeError when the disk is full.
        reason = " ".join(str(error).split())[:200]
        raise OutputError(f"cannot write the checkpoint {path}: {reason}; the previous one is kept") from error


def read_checkpoint(path: Path) -> bytes | None:
    """Reads the checkpoint in the file ``path``; None when there is no such file. Raises OutputError."""
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"the checkpoint {path} cannot be read: {reason}; --restart begins anew") from error


def load_checkpoint(
    path: Path | None,
    checkpoint: bytes,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    averaged: nn.Module | None = None,
) -> State:
    """Loads a checkpoint into the other arguments, and returns the state of the loop.

    ``checkpoint`` is the content of the file ``path``. Raises OutputError when it is damaged.
    """
    try:
        content = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        scaler.load_state_dict(content["scaler"])
        if averaged is not None:
            averaged.load_state_dict(content["averaged"])
        best = content["best"]
        epochs = [Epoch(**values) for values in content["epochs"]]
        return State(epochs, best["number"], best["loss"], best["weights"])
    except Exception as error:  # torch.load may raise anything for a damaged file.
        raise OutputError(
            f"the checkpoint {path} is damaged, or of another version of vtag; --restart begins anew"
        ) from error
