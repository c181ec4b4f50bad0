"""What a training loop tells of itself: how far it is within an epoch, and what each epoch came to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """How far epoch ``epoch`` of ``of`` of the loop called ``stage`` has got, and what it has come to so far.

    ``windows`` of ``total`` have been trained on in ``seconds``.
    """

    stage: str
    epoch: int
    of: int
    windows: int
    total: int
    seconds: float
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """What epoch ``number`` of ``of`` of the loop called ``stage`` came to.

    Losses are cross-entropies per window; validation accuracy is by window and by video. ``learning_rate`` is that of
    the last step.
    """

    number: int
    of: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_video_accuracy: float
    learning_rate: float = 0.0
    stage: str = "training"
