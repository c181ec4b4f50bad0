"""The progress within an epoch of a stage, and the results of each epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Progress within an epoch of a stage: epoch ``epoch`` of ``of`` epochs, with its loss and accuracy so far.

    ``windows`` of ``total`` have been trained on in ``seconds``. The loss is the cross-entropy per window, without
    label smoothing. It is higher than that of the finished ``Epoch``, because of dropout and random views.
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
    """The results of an epoch of a stage: epoch ``number`` of ``of`` epochs.

    Losses are cross-entropies per window, without label smoothing and class weights. ``val_accuracy`` is by window,
    ``val_video_accuracy`` by video. ``train_loss`` and ``train_accuracy`` are measured in the same way at the end of
    the epoch, without dropout and random views, on some of the training windows (see ``measured`` in
    ``training.fitting.loop``). ``learning_rate`` is that of the last step.
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
