"""The clips of the built-in model's card as features of its frozen backbone, for benchmarks that train many heads."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tagger.models.heads import MeanHead
from tagger.models.i3d_lite import CHANNELS, STRIPS
from training import LoopSettings, TrainConfig
from training.data.data_set import LabelledClip
from training.data.training_plan import plan_training, read_labelled
from training.fitting.convex import fit_convex
from training.fitting.recipe import starting_network
from training.fitting.stages import head_forms
from training.inputs.clip_cache import ClipCache
from training.inputs.ingest import ClipStore
from training.inputs.sources import FeatureSource, Targets

SETTINGS = LoopSettings(epochs=60, optimizer="lbfgs", weight_decay=1e-3)
"""The settings of the built-in model's card."""

WIDTH = (1 + 3 * STRIPS) * CHANNELS
"""The number of features of the built-in model."""


@dataclass(frozen=True)
class Fitted:
    """A head, and logits ``[n, classes]`` of windows that it, or a head like it, was not trained on.

    ``labels`` ``[n]`` are the classes of these windows.
    """

    head: MeanHead
    logits: torch.Tensor
    labels: torch.Tensor


class FrozenFeatures:
    """The clips of the manifest ``data``, split as it says; features are stored in ``cache``."""

    def __init__(self, data: Path, cache: ClipCache):
        clips = read_labelled(data)
        self.labels = clips.labels
        self.split = plan_training(clips).split
        config = TrainConfig("i3d-lite-lstm", Path("unused"), head="mean", view="centre")
        self._forms = head_forms(starting_network(config, clips.labels), config.sampling, config.preprocessing, "cpu")
        self._cache = cache

    def source(
        self, clips: Sequence[LabelledClip], labels: Sequence[str], *, mirrored: bool = False, width: int = WIDTH
    ) -> "NarrowFeatures":
        """Returns the first ``width`` features of each window of ``clips``. With ``mirrored``, its mirror image too."""
        form = self._forms["train" if mirrored else "val"]
        return NarrowFeatures(ClipStore(clips, form, self._cache), labels, width)

    def fit(self, labels: Sequence[str], *, width: int = WIDTH) -> Fitted:
        """Trains a head for ``labels`` with the settings of the card.

        The logits are those of its calibration: of the training windows, by cross-validation over their groups, and
        then of the validation windows.
        """
        head = MeanHead(width, len(labels))
        train = self.source(known(self.split.train, labels), labels, mirrored=True, width=width)
        val = self.source(known(self.split.val, labels), labels, width=width)
        _, logits, targets = fit_convex(head, train, val, SETTINGS, crops=1, stage="head", on_epoch=lambda _: None)
        return Fitted(head.eval(), logits, targets)

    def logits(self, head: MeanHead, clips: Sequence[LabelledClip]) -> tuple[torch.Tensor, Targets]:
        """Returns the logits ``[n, classes]`` of all windows of ``clips``, and the targets of these windows."""
        source = self.source(clips, self.labels)
        items = torch.arange(len(source.targets.labels))
        with torch.no_grad():
            return torch.cat([head(source.inputs(some, None)) for some in items.split(256)]), source.targets


class NarrowFeatures(FeatureSource):
    """The first ``width`` features of each window."""

    def __init__(self, store: ClipStore, labels: Sequence[str], width: int):
        super().__init__(store, labels)
        self._width = width

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """``[n, T, width]`` float32."""
        return super().inputs(items, seed)[..., : self._width]

    def variants(self, items: torch.Tensor) -> torch.Tensor:
        """``[n, variants, T, width]`` float32."""
        return super().variants(items)[..., : self._width]


def known(clips: Sequence[LabelledClip], labels: Collection[str]) -> list[LabelledClip]:
    """The clips of ``labels``."""
    return [clip for clip in clips if clip.label in labels]
