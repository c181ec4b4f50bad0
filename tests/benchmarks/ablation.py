"""What each part of ``i3d-lite-lstm`` adds, by cross-validation over the groups that train the built-in model.

DATA is UCF-101, or those of its classes that are there; groups and settings are those of the built-in model's card.
Four folds of groups are left out of training in turn. The test groups of the card are not looked at.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tagger.models import ARCHITECTURES
from tagger.models.heads import HeadName, build_head
from tagger.models.i3d_lite import CHANNELS, STRIPS
from tagger.windows import Sampling
from training import LoopSettings, TrainConfig, fit, read_data_set, split_by_group
from training.clip_cache import ClipCache
from training.data_set import LabelledClip
from training.fitting import head_forms
from training.ingest import ClipStore
from training.loop import predict
from training.metrics import average_by_video
from training.recipe import starting_network
from training.sources import FeatureSource, Targets

FOLDS = (("01", "02", "03", "04"), ("05", "06", "07", "08"), ("09", "11", "12"), ("13", "14", "15", "16"))
MOTION = ("HandstandWalking", "JumpingJack", "PullUps", "PushUps")
SETTINGS = LoopSettings(epochs=20, batch_size=16, learning_rate=1e-3, weight_decay=3)

PARTS: dict[str, tuple[int, HeadName]] = {
    "2D features, averaged": (CHANNELS, "mean"),
    "and how they change": ((1 + STRIPS) * CHANNELS, "mean"),
    "and pictures of changes": ((1 + 2 * STRIPS) * CHANNELS, "mean"),
    "all of it, LSTM": ((1 + 2 * STRIPS) * CHANNELS, "lstm"),
}
"""How many of the features are used, the first ones, and by which head."""


class Narrow:
    """The first ``features`` features of ``source``."""

    def __init__(self, source: FeatureSource, features: int):
        self._source, self._features = source, features
        self.targets: Targets = source.targets

    def inputs(self, items: torch.Tensor, moment: str | None) -> torch.Tensor:
        """``[n, T, features]`` float32."""
        return self._source.inputs(items, moment)[..., : self._features]


def main() -> None:
    """Parses the command line and prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features of the frozen backbone are kept")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(options.data, ClipCache(options.cache or Path(folder)))


def measure(data: Path, cache: ClipCache) -> None:
    """Prints the accuracies, which are means over the folds."""
    clips = read_data_set(data)
    split = split_by_group(clips, val_groups=["10"], test_groups=["17", "18", "19", "20"])
    config = TrainConfig("i3d-lite-lstm", Path("unused"), head="mean")
    network = starting_network(config, len(clips.labels))
    forms = head_forms(network, Sampling(), ARCHITECTURES[config.model].preprocessing, "cpu")

    def source(chosen: list[LabelledClip], part: str, features: int) -> Narrow:
        return Narrow(FeatureSource(ClipStore(chosen, forms[part], cache), clips.labels), features)

    for name, (features, head) in PARTS.items():
        folds = []
        for groups in FOLDS:
            left_out = [clip for clip in split.train if clip.group in groups]
            train = source([clip for clip in split.train if clip.group not in groups], "train", features)
            torch.manual_seed(SETTINGS.seed)
            network = build_head(head, features, len(clips.labels), 128, 0.5)
            fit(network, train, source(list(split.val), "val", features), SETTINGS)
            folds.append(score(network, source(left_out, "train", features), left_out, clips.labels))
        video, window, motion = (statistics.fmean(values) for values in zip(*folds, strict=True))
        print(f"{name:24} video {video:.3f}  window {window:.3f}  motion classes {motion:.3f}", flush=True)


def score(
    network: torch.nn.Module, source: Narrow, clips: list[LabelledClip], labels: tuple[str, ...]
) -> tuple[float, float, float]:
    """Accuracy by video, by window, and by video of the classes that have to be told by motion."""
    logits = predict(network, source, SETTINGS.batch_size)
    truth = source.targets.labels.numpy()
    by_window = float((logits.argmax(1).numpy() == truth).mean())
    videos, averaged = average_by_video(logits.softmax(1).numpy(), source.targets.videos)
    right = np.array(
        [labels[best] == clips[video].label for video, best in zip(videos, averaged.argmax(1), strict=True)]
    )
    is_motion = np.array([clips[video].label in MOTION for video in videos])
    return float(right.mean()), by_window, float(right[is_motion].mean())


if __name__ == "__main__":
    main()
