"""Leaves a quarter of the classes out of training, four times over, and prints how well the model tells them apart.

DATA is UCF-101, or those of its classes that are there; the groups are those of the built-in model's card.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from training import read_data_set

SETS = 4

TRAINING = (
    *(
        "--model",
        "i3d-lite-lstm",
        "--head",
        "mean",
        "--freeze-backbone",
        "--val-groups",
        "10",
        "--test-groups",
        "17-20",
    ),
    *("--epochs", "20", "--batch-size", "16", "--learning-rate", "0.001", "--weight-decay", "3"),
)


def main() -> None:
    """Parses the command line and trains a model for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="where features of the frozen backbone are kept")
    parser.add_argument("--sets", type=int, default=SETS, help="how many of the four sets are left out, each in turn")
    options = parser.parse_args()
    labels = read_data_set(options.data).labels
    by_window, by_video = [], []
    for number in range(options.sets):
        left_out = labels[number::SETS]
        scores = leave_out(options.data, left_out, options.cache)
        by_window.append(scores["windows"]["auroc"])
        by_video.append(scores["videos"]["auroc"])
        print(
            f"{', '.join(left_out)}: AUROC {by_window[-1]:.3f} by window, {by_video[-1]:.3f} by video; above "
            f"{scores['threshold']} are {scores['caught']:.3f} of their windows and {scores['lost']:.3f} of the others",
            flush=True,
        )
    print(f"mean AUROC {statistics.mean(by_window):.3f} by window, {statistics.mean(by_video):.3f} by video")


def leave_out(data: Path, labels: Sequence[str], cache: Path | None) -> dict:
    """What ``vtag evaluate`` says of unknown footage, of a model that was trained without ``labels``."""
    kept = () if cache is None else ("--cache", str(cache))
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model.safetensors"
        vtag("train", str(data), *TRAINING, *kept, "--leave-out", ",".join(labels), "--out", model)
        return json.loads(vtag("evaluate", model, str(data), "--json", "-"))["unknown"]


def vtag(*arguments: str) -> str:
    """Runs a command and returns what it prints."""
    command = [sys.executable, "-c", "from jobs.cli import main; main()", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
