"""What ``--fast-decode`` saves: source frames per second of CPU time, by reader, on H.264 with B-frames.

    python -m tests.benchmarks.fast_decode [--rounds N] [--seconds S] [VIDEO...]

Without videos of yours it makes one each of 320×240, 720p and 1080p. Readers take turns within a round; medians. The
ratio is that of the fast reader to the better of the others, for --fast-decode takes the place of whichever is used.
"""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from jobs.sample_video import make_sample
from tagger import Preprocessing, Sampling
from tagger.clips import read_loose_spans
from tagger.video import probe
from tagger.video.choose import Choice
from tagger.video.reader import DecoderName

READERS: tuple[DecoderName, ...] = ("decord", "pyav", "pyav-fast")


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=20, show_default=True, help="Length of the videos that are made.")
def main(videos: tuple[Path, ...], rounds: int, seconds: int) -> None:
    """Reads each video with each reader, in this process."""
    with TemporaryDirectory() as folder:
        made = (
            make_sample(Path(folder, f"{size}.mp4"), size=size, seconds=seconds, preset="medium")
            for size in ("320x240", "1280x720", "1920x1080")
        )
        for video in videos or made:
            measure(video, rounds)


def measure(video: Path, rounds: int) -> None:
    """Prints a line for a video."""
    facts = probe(video)
    frames = round((facts.duration_s or 0) * (facts.fps or 0))
    rates: dict[DecoderName, list[float]] = {reader: [] for reader in READERS}
    for _ in range(rounds):
        for reader in READERS:
            end = None
            # CPU time, not wall time: decord has a thread of its own, which takes a second core.
            begun_s = time.process_time()
            for span in read_loose_spans(video, Sampling(), Preprocessing(), choice=Choice(reader)):
                end = span.end
            assert end is not None
            if end.choice != Choice(reader):
                raise click.ClickException(f"{video} cannot be read with {reader}: {end.choice}")
            rates[reader].append(frames / (time.process_time() - begun_s))
    median = {reader: statistics.median(found) for reader, found in rates.items()}
    ratio = median["pyav-fast"] / max(median["decord"], median["pyav"])
    each = ", ".join(f"{reader} {rate:,.0f}" for reader, rate in median.items())
    print(f"{facts.width}×{facts.height}, {frames} frames: frames/s of a core: {each}; fast {ratio:.2f}×", flush=True)


if __name__ == "__main__":
    main()
