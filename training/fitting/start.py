"""A training that starts from a model file (``vtag train --from``)."""

from collections.abc import Sequence

from torch import nn

from tagger.errors import ModelFileError
from tagger.model_file import read_weights
from tagger.tagger import ModelSource
from training.data.data_set import DataSet, LabelledClip
from training.data.splits import select_groups


def keeps_head(start: ModelSource, labels: Sequence[str]) -> bool:
    """Whether a training for ``labels`` starts with the head of ``start``: it does when ``start`` has the same labels.

    Otherwise it starts with the backbone only, and the head is new.
    """
    return tuple(start.info.labels) == tuple(labels)


def load_start(network: nn.Module, start: ModelSource, labels: Sequence[str]) -> None:
    """Loads the weights of ``start`` into ``network``, which has the same backbone and is for ``labels``.

    Raises ModelFileError when the file does not have the weights that it describes.
    """
    # The embeddings of the new model are fitted to it at its end.
    weights = {name: value for name, value in read_weights(start.file_here).items() if not name.startswith("embedder.")}
    part = network
    if not keeps_head(start, labels):
        part = network.get_submodule("backbone")
        prefix = "backbone."
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{start.file} does not hold the weights it describes ({detail})") from error


def clips_seen_before(start: ModelSource, data: DataSet, clips: Sequence[LabelledClip]) -> tuple[LabelledClip, ...]:
    """Returns those of ``clips`` that ``start`` was trained on, as far as its file tells.

    These are the clips of its classes in groups that it did not hold out. A model that was trained on data with another
    name tells nothing.
    """
    training = start.info.training
    if training.get("data") != data.root.name or "groups" not in training:
        return ()
    held_out = {clip for groups in training["groups"].values() for clip in select_groups(data, groups)}
    return tuple(clip for clip in clips if clip.label in start.info.labels and clip not in held_out)
