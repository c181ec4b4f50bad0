"""Measures what each part of ``i3d-lite-lstm`` adds, by cross-validation over the built-in model's training groups.

DATA is UCF-101 or a part of its classes; groups and settings are those of the built-in model's card. Four folds of
groups are left out of training in turn. The test groups of the card are not used.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from tagger.models.heads import HeadName
from tagger.models.i3d_lite import CHANNELS, STRIPS
from tests.benchmarks.frozen import SETTINGS, FrozenFeatures, NarrowFeatures
from training.data.data_set import LabelledClip
from training.evaluation.metrics import average_by_video
from training.fitting.passes import predict
from training.inputs.clip_cache import ClipCache

FOLDS = (("01", "02", "03", "04"), ("05", "06", "07", "08"), ("09", "11", "12"), ("13", "14", "15", "16"))
MOTION = ("HandstandWalking", "JumpingJack", "PullUps", "PushUps")

PARTS: dict[str, tuple[int, HeadName]] = {
    "2D features, averaged": (CHANNELS, "mean"),
    "and how they change": ((1 + STRIPS) * CHANNELS, "mean"),
    "and difference images": ((1 + 2 * STRIPS) * CHANNELS, "mean"),
    "and their order": ((1 + 3 * STRIPS) * CHANNELS, "mean"),
    "all of it, LSTM": ((1 + 3 * STRIPS) * CHANNELS, "lstm"),
}
"""The number of features used, counted from the first, and the head."""


def main() -> None:
    """Parses the command line and prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features of the frozen backbone are kept")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(FrozenFeatures(options.data, ClipCache(options.cache or Path(folder))))


def measure(frozen: FrozenFeatures) -> None:
    """Prints the accuracies, which are means over the folds."""
    for name, (width, head) in PARTS.items():
        folds = []
        for groups in FOLDS:
            train = [clip for clip in frozen.split.train if clip.group not in groups]
            left_out = [clip for clip in frozen.split.train if clip.group in groups]
            network = frozen.fit_head(train, frozen.labels, head=head, width=width)
            # Mirrored, because that form is in the cache. Without a seed the mirror images are not used.
            source = frozen.source(left_out, frozen.labels, mirrored=True, width=width)
            folds.append(score(network, source, left_out, frozen.labels))
        video, window, motion = (statistics.fmean(values) for values in zip(*folds, strict=True))
        print(f"{name:24} video {video:.3f}  window {window:.3f}  motion classes {motion:.3f}", flush=True)


def score(
    network: torch.nn.Module, source: NarrowFeatures, clips: list[LabelledClip], labels: tuple[str, ...]
) -> tuple[float, float, float]:
    """Returns accuracy by video, by window, and by video of the classes that differ by motion."""
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
