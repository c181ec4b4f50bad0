"""How a model is made and judged: labelled data sets, splits, the training loop, metrics."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.data_set import DataSet, LabelledClip
    from training.duplicates import find_identical
    from training.epochs import Epoch, Step
    from training.evaluate import Evaluation, clips_of_split, evaluate_clips
    from training.folds import Fold, leave_one_group_out
    from training.inventory import Inventory, take_inventory
    from training.loop import LoopSettings, fit
    from training.metrics import Scores, score
    from training.reading import read_data_set
    from training.recipe import TrainResult, train
    from training.splits import Split, split_as_given, split_at_random, split_by_group
    from training.trial import FoldResult, train_fold
    from training.ucf import read_split_lists
    from training.watch import Reading, Watch

__all__ = [
    "DataSet",
    "Epoch",
    "Evaluation",
    "Fold",
    "FoldResult",
    "Inventory",
    "LabelledClip",
    "LoopSettings",
    "Reading",
    "Scores",
    "Split",
    "Step",
    "TrainConfig",
    "TrainResult",
    "Watch",
    "clips_of_split",
    "evaluate_clips",
    "find_identical",
    "fit",
    "leave_one_group_out",
    "read_data_set",
    "read_split_lists",
    "score",
    "split_as_given",
    "split_at_random",
    "split_by_group",
    "take_inventory",
    "train",
    "train_fold",
]

_LAZY = {
    "DataSet": "data_set",
    "LabelledClip": "data_set",
    "find_identical": "duplicates",
    "Evaluation": "evaluate",
    "clips_of_split": "evaluate",
    "evaluate_clips": "evaluate",
    "Fold": "folds",
    "leave_one_group_out": "folds",
    "Inventory": "inventory",
    "take_inventory": "inventory",
    "Epoch": "epochs",
    "Step": "epochs",
    "LoopSettings": "loop",
    "fit": "loop",
    "Scores": "metrics",
    "score": "metrics",
    "read_data_set": "reading",
    "Split": "splits",
    "split_as_given": "splits",
    "split_at_random": "splits",
    "split_by_group": "splits",
    "FoldResult": "trial",
    "train_fold": "trial",
    "read_split_lists": "ucf",
    "TrainConfig": "config",
    "Reading": "watch",
    "Watch": "watch",
    "TrainResult": "recipe",
    "train": "recipe",
}


def __getattr__(name: str) -> Any:
    """Imports torch and scikit-learn only when something that needs them is used."""
    if name in _LAZY:
        return getattr(import_module(f"training.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'training' has no attribute {name!r}")
