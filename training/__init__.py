"""How a model is made and judged: labelled data sets, splits, the training loop, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data_set import DataSet, LabelledClip, read_data_set
    from training.evaluate import Evaluation, clips_of_split, evaluate_clips
    from training.loop import Epoch, LoopSettings, fit
    from training.metrics import Scores, score
    from training.recipe import TrainConfig, TrainResult, train
    from training.splits import Split, split_by_group

__all__ = [
    "DataSet",
    "Epoch",
    "Evaluation",
    "LabelledClip",
    "LoopSettings",
    "Scores",
    "Split",
    "TrainConfig",
    "TrainResult",
    "clips_of_split",
    "evaluate_clips",
    "fit",
    "read_data_set",
    "score",
    "split_by_group",
    "train",
]

_LAZY = {
    "DataSet": "data_set",
    "LabelledClip": "data_set",
    "read_data_set": "data_set",
    "Evaluation": "evaluate",
    "clips_of_split": "evaluate",
    "evaluate_clips": "evaluate",
    "Epoch": "loop",
    "LoopSettings": "loop",
    "fit": "loop",
    "Scores": "metrics",
    "score": "metrics",
    "Split": "splits",
    "split_by_group": "splits",
    "TrainConfig": "recipe",
    "TrainResult": "recipe",
    "train": "recipe",
}


def __getattr__(name: str) -> Any:
    """Imports torch and scikit-learn only when something that needs them is used."""
    if name in _LAZY:
        return getattr(import_module(f"training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
