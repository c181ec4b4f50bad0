"""Leaves each quarter of the classes out of training in turn, and prints how well the model detects them as unknown.

DATA is UCF-101 or a part of its classes; groups and settings are those of the built-in model's card. The footage is
that of the test groups, of classes that the model knows and of classes that it does not.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tagger.ood import OODCalibration
from tests.benchmarks.frozen import SETTINGS, FrozenFeatures
from training.data.data_set import LabelledClip
from training.evaluation.calibration import fit_temperature
from training.evaluation.unknown import THRESHOLD, UnknownScores, WindowLogits, score_unknown
from training.fitting.passes import predict
from training.inputs.clip_cache import ClipCache

SETS = 4


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
    all_scores = []
    for number in range(SETS):
        left_out = frozen.labels[number::SETS]
        scores = leave_out(frozen, left_out)
        all_scores.append(scores)
        print(
            f"{', '.join(left_out)}: AUROC {scores.windows.auroc:.3f} by window, {scores.videos.auroc:.3f} by video; "
            f"above {THRESHOLD} are {scores.caught:.3f} of their windows and {scores.lost:.3f} of the others",
            flush=True,
        )
    by_window, by_video = (
        statistics.fmean(getattr(scores, part).auroc for scores in all_scores) for part in ("windows", "videos")
    )
    print(f"mean AUROC {by_window:.3f} by window, {by_video:.3f} by video")


def leave_out(frozen: FrozenFeatures, classes: Sequence[str]) -> UnknownScores:
    """Scores how well a model that was trained without ``classes`` detects them as unknown.

    The model is calibrated on the validation groups, as every model.
    """
    labels = tuple(label for label in frozen.labels if label not in classes)
    network = frozen.fit_head(known(frozen.split.train, labels), labels)
    val = frozen.source(known(frozen.split.val, labels), labels)
    logits = predict(network, val, SETTINGS.batch_size)
    temperature = fit_temperature(logits, val.targets.labels)
    ood = OODCalibration.fit((logits / temperature).numpy())

    def footage(clips: Sequence[LabelledClip]) -> WindowLogits:
        source = frozen.source(clips, frozen.labels)
        return WindowLogits(
            (predict(network, source, SETTINGS.batch_size) / temperature).numpy(), source.targets.videos
        )

    test = frozen.split.test
    others = [clip for clip in test if clip.label in classes]
    return score_unknown(tuple(classes), footage(known(test, labels)), footage(others), ood)


def known(clips: Sequence[LabelledClip], labels: Sequence[str]) -> list[LabelledClip]:
    """The clips of ``labels``."""
    return [clip for clip in clips if clip.label in labels]


if __name__ == "__main__":
    main()
