"""Measures what each part of ``i3d-lite-lstm`` adds, by cross-validation over the built-in model's training groups.

    python -m tests.benchmarks.ablation DATA [--cache FOLDER]

DATA is the manifest of the built-in model's card (``tests.benchmarks.card_clips``). Four folds of groups are left out
of training in turn. The test groups of the card are not used.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tagger.models.i3d_lite import CHANNELS, STRIPS
from tests.benchmarks.frozen import WIDTH, FrozenFeatures
from training.evaluation.calibration import fit_temperature, reliability
from training.evaluation.metrics import average_by_video
from training.inputs.clip_cache import ClipCache

MOTION = ("BodyWeightSquats", "HandstandWalking", "JumpingJack", "Lunges", "PullUps", "PushUps")
CAMERAS = ("Fight", "background")

PARTS = {
    "2D features, averaged": CHANNELS,
    "and how they change": (1 + STRIPS) * CHANNELS,
    "and difference images": (1 + 2 * STRIPS) * CHANNELS,
    "and their order": WIDTH,
}
"""The number of features used, counted from the first."""


def main() -> None:
    """Parses the command line and prints a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features of the frozen backbone are kept")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        frozen = FrozenFeatures(options.data, ClipCache(options.cache or Path(folder)))
        for name, width in PARTS.items():
            print(f"{name:22} {measure(frozen, width)}", flush=True)


def measure(frozen: FrozenFeatures, width: int) -> str:
    """Returns accuracies, and the calibration errors, of the training windows in the folds that leave them out."""
    fitted = frozen.fit(frozen.labels, width=width)
    targets = frozen.source(frozen.split.train, frozen.labels, mirrored=True).targets
    logits, truth = fitted.logits[: len(targets.labels)], targets.labels.numpy()
    probabilities = (logits / fit_temperature(logits, targets.labels)).softmax(1).numpy()
    videos, averaged = average_by_video(probabilities, targets.videos)
    video_truth = truth[np.searchsorted(targets.videos, videos)]
    right = averaged.argmax(1) == video_truth
    names = np.array(frozen.labels)[video_truth]
    motion, cameras = (right[np.isin(names, labels)].mean() for labels in (MOTION, CAMERAS))
    return (
        f"videos {right.mean():.3f}  windows {(probabilities.argmax(1) == truth).mean():.3f}  "
        f"motion classes {motion:.3f}  cameras {cameras:.3f}  calibration error "
        f"{reliability(video_truth, averaged).error:.3f} by video, "
        f"{reliability(truth, probabilities).error:.3f} by window"
    )


if __name__ == "__main__":
    main()
