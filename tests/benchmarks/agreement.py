"""Compares labels and confidences of faster, less exact computing or decoding with those of the exact way.

    python -m tests.benchmarks.agreement VIDEOS [--model MODEL] [--precision bf16] [--every N]
    python -m tests.benchmarks.agreement VIDEOS [--model MODEL] --fast-decode [--every N]

VIDEOS is a folder. The exact way is float32 and exact decoding. With --fast-decode both sides use the precision that
vtag chooses on this machine. Prints the share of windows with the same label and the mean absolute difference of the
confidence.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click
import numpy as np

from jobs.archive.listing import find_videos
from tagger import Sampling, Tagger, load_model
from tagger.isolation import decoder_of_this_thread
from tagger.models.registry import BUILTIN


@click.command()
@click.argument("videos", type=click.Path(exists=True, path_type=Path))
@click.option("--model", default=BUILTIN, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "bf16", "fp16"]), default="auto", show_default=True)
@click.option("--fast-decode", is_flag=True)
@click.option("--every", default=1, show_default=True, help="Take every N-th video only.")
def main(videos: Path, model: str, precision: Literal["auto", "bf16", "fp16"], fast_decode: bool, every: int) -> None:
    """Classifies all windows twice."""
    other = load_model(model, precision=precision)
    exact = other if fast_decode else load_model(model, precision="fp32")
    paths = [video.path for video in list(find_videos([str(videos)]))[::every]]
    pairs = list(_fast(other, paths) if fast_decode else _precise(exact, other, paths))
    full, less = (np.concatenate(sides) for sides in zip(*pairs, strict=True))
    same = full.argmax(axis=1) == less.argmax(axis=1)
    moved = np.abs(full.max(axis=1) - less.max(axis=1))
    what = "fast decoding" if fast_decode else str(other.classifier.precision)
    print(
        f"{model}, {len(same)} windows of {len(paths)} videos: {what} gives the same label for "
        f"{100 * same.mean():.2f} % of them ({(~same).sum()} others); the confidence differs by "
        f"{moved.mean():.4f} on average, {moved.max():.3f} at most"
    )


def _precise(exact: Tagger, other: Tagger, paths: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities ``[windows, labels]`` of the same clips by two models."""
    for path in paths:
        for clips in _clips(exact, path, exact.sampling):
            yield exact.classifier.probabilities(clips), other.classifier.probabilities(clips)


def _fast(tagger: Tagger, paths: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities ``[windows, labels]`` of clips that were decoded exactly and fast."""
    for path in paths:
        sides = []
        for fast_decode in (False, True):
            found = [
                tagger.classifier.probabilities(clips)
                for clips in _clips(tagger, path, replace(tagger.sampling, fast_decode=fast_decode))
            ]
            sides.append(np.concatenate(found) if found else np.empty((0, len(tagger.labels)), np.float32))
        exact, fast = sides
        if len(exact) != len(fast):
            raise click.ClickException(f"{path}: {len(exact)} windows, but {len(fast)} with fast decoding")
        yield exact, fast


def _clips(tagger: Tagger, path: str, sampling: Sampling) -> Iterator[np.ndarray]:
    for span in decoder_of_this_thread().spans(path, sampling, tagger.source.info.preprocessing):
        if span.windows:
            yield span.clips


if __name__ == "__main__":
    main()
