"""Leaves each quarter of the classes out of training in turn, and prints how well the model detects them as unknown.

    python -m tests.benchmarks.unknown DATA [--cache FOLDER]

DATA is the manifest of the built-in model's card (``tests.benchmarks.card_clips``). The footage is that of the test
groups, of classes that the model knows and of classes that it does not. The class background is never left out.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.special import softmax

from tagger.ood import OODCalibration
from tagger.segments import BACKGROUND
from tests.benchmarks.frozen import FrozenFeatures, known
from training.data.data_set import LabelledClip
from training.evaluation.calibration import fit_temperature
from training.evaluation.unknown import THRESHOLD, UnknownScores, WindowLogits, score_unknown
from training.inputs.clip_cache import ClipCache

SETS = 4

CONFIDENT = 0.9


def main() -> None:
    """Parses the command line and prints a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features of the frozen backbone are kept")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(FrozenFeatures(options.data, ClipCache(options.cache or Path(folder))))


def measure(frozen: FrozenFeatures) -> None:
    """Prints the scores of each set, and their means."""
    all_scores, all_confident = [], []
    for number in range(SETS):
        left_out = [label for label in frozen.labels if label != BACKGROUND][number::SETS]
        scores, confident = leave_out(frozen, left_out)
        all_scores.append(scores)
        all_confident.append(confident)
        print(
            f"{', '.join(left_out)}: AUROC {scores.windows.auroc:.3f} by window, {scores.videos.auroc:.3f} by video; "
            f"above {THRESHOLD} are {scores.caught:.3f} of their windows and {scores.lost:.3f} of the others; "
            f"{confident:.3f} of their windows get an action with a confidence above {CONFIDENT}",
            flush=True,
        )
    by_window, by_video = (
        statistics.fmean(getattr(scores, part).auroc for scores in all_scores) for part in ("windows", "videos")
    )
    print(
        f"mean AUROC {by_window:.3f} by window, {by_video:.3f} by video; {statistics.fmean(all_confident):.3f} above "
        f"{CONFIDENT}"
    )


def leave_out(frozen: FrozenFeatures, classes: Sequence[str]) -> tuple[UnknownScores, float]:
    """Scores how well a model that was trained without ``classes`` detects them as unknown.

    Also returns the share of their windows that get an action with a confidence above CONFIDENT.
    """
    labels = tuple(label for label in frozen.labels if label not in classes)
    fitted = frozen.fit(labels)
    temperature = fit_temperature(fitted.logits, fitted.labels)
    ood = OODCalibration.fit((fitted.logits / temperature).numpy())

    def footage(clips: Sequence[LabelledClip]) -> WindowLogits:
        logits, targets = frozen.logits(fitted.head, clips)
        return WindowLogits((logits / temperature).numpy(), targets.videos)

    others = footage(known(frozen.split.test, classes))
    probabilities = softmax(others.logits, axis=1)
    is_action = np.array([label != BACKGROUND for label in labels])[probabilities.argmax(1)]
    confident = float(((probabilities.max(1) > CONFIDENT) & is_action).mean())
    return score_unknown(tuple(classes), footage(known(frozen.split.test, labels)), others, ood), confident


if __name__ == "__main__":
    main()
