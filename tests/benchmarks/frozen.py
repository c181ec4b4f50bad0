"""The clips of the built-in model's card as features of its frozen backbone, for benchmarks that train many heads."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from tagger.models.heads import HeadName, build_head
from tagger.models.i3d_lite import CHANNELS, STRIPS
from tagger.windows import Sampling
from training import LoopSettings, TrainConfig, fit, read_data_set, split_by_group
from training.data.data_set import LabelledClip
from training.fitting.recipe import starting_network
from training.fitting.stages import head_forms
from training.inputs.clip_cache import ClipCache
from training.inputs.ingest import ClipStore
from training.inputs.sources import FeatureSource, Targets

SETTINGS = LoopSettings(epochs=20, batch_size=16, learning_rate=1e-3, weight_decay=3)
"""The settings of the built-in model's card."""


class FrozenFeatures:
    """UCF-101, or a part of its classes, in ``data``, split as for the card; features are stored in ``cache``."""

    def __init__(self, data: Path, cache: ClipCache):
        clips = read_data_set(data)
        self.labels = clips.labels
        self.split = split_by_group(clips, val_groups=["10"], test_groups=["17", "18", "19", "20"])
        config = TrainConfig("i3d-lite-lstm", Path("unused"), head="mean", view="centre")
        network = starting_network(config, clips.labels)
        # The built-in model does not see the order of changes, whose features are the last ones.
        self.width = (1 + 2 * STRIPS) * CHANNELS
        self._forms = head_forms(network, Sampling(), config.preprocessing, "cpu")
        self._cache = cache

    def source(
        self,
        clips: Sequence[LabelledClip],
        labels: Sequence[str],
        *,
        mirrored: bool = False,
        width: int | None = None,
    ) -> "NarrowFeatures":
        """Returns the first ``width`` features (None: those of the built-in model) of each window of ``clips``.

        With ``mirrored`` there are also those of its mirror image.
        """
        form = self._forms["train" if mirrored else "val"]
        return NarrowFeatures(FeatureSource(ClipStore(clips, form, self._cache), labels), width or self.width)

    def fit_head(
        self,
        train: Sequence[LabelledClip],
        labels: Sequence[str],
        *,
        head: HeadName = "mean",
        width: int | None = None,
    ) -> nn.Module:
        """Trains a head with the settings of the card, on the clips ``train``, validated on the validation groups."""
        torch.manual_seed(SETTINGS.seed)
        network = build_head(head, width or self.width, len(labels), 128, 0.5)
        val = [clip for clip in self.split.val if clip.label in labels]
        fit(
            network,
            self.source(train, labels, mirrored=True, width=width),
            self.source(val, labels, width=width),
            SETTINGS,
        )
        return network


class NarrowFeatures:
    """The first ``width`` features of ``source``."""

    def __init__(self, source: FeatureSource, width: int):
        self._source, self._width = source, width
        self.targets: Targets = source.targets

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """``[n, T, width]`` float32."""
        return self._source.inputs(items, seed)[..., : self._width]
