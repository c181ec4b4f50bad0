"""What the precision that is chosen here changes, against float32: labels and confidences of every window.

    python -m tests.benchmarks.agreement VIDEOS [--model MODEL] [--precision bf16] [--every N]

VIDEOS is a folder. Prints the share of windows with the same label and the mean absolute difference of the confidence.
"""

from pathlib import Path
from typing import Literal

import click
import numpy as np

from jobs.listing import find_videos
from tagger import load_model
from tagger.models import BUILTIN
from tagger.video.isolation import decoder_of_this_thread


@click.command()
@click.argument("videos", type=click.Path(exists=True, path_type=Path))
@click.option("--model", default=BUILTIN, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--every", default=1, show_default=True, help="Take every N-th video only.")
def main(videos: Path, model: str, precision: Literal["auto", "bf16", "fp16"], every: int) -> None:
    """Classifies all windows twice."""
    exact, other = load_model(model, precision="fp32"), load_model(model, precision=precision)
    same: list[np.ndarray] = []
    moved: list[np.ndarray] = []
    for video in list(find_videos([str(videos)]))[::every]:
        for span in decoder_of_this_thread().spans(video.path, exact.sampling, exact.source.info.preprocessing):
            if span.windows:
                full, half = (tagger.classifier.probabilities(span.clips) for tagger in (exact, other))
                same.append(full.argmax(axis=1) == half.argmax(axis=1))
                moved.append(np.abs(full.max(axis=1) - half.max(axis=1)))
    agreement, difference = np.concatenate(same), np.concatenate(moved)
    print(
        f"{model}, {len(agreement)} windows: {other.classifier.precision} gives the label of float32 for "
        f"{100 * agreement.mean():.2f} % of them ({(~agreement).sum()} others); the confidence differs by "
        f"{difference.mean():.4f} on average, {difference.max():.3f} at most"
    )


if __name__ == "__main__":
    main()
