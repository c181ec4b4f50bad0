"""Measures the cost of each reader: source frames per second of CPU time, by codec and picture size.

    python -m tests.benchmarks.readers [--rounds N] [--seconds S] [VIDEO...]

Without VIDEO it generates some. Readers take turns within a round; figures are medians. They use CPU time, not wall
time, because decord has its own thread on a second core. ``decord`` is compared with ``pyav``, of which
``tagger.video.choose`` takes the cheaper one, and ``pyav-fast``, which ``--fast-decode`` uses, with ``pyav``.
"""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from jobs.measure.sample_video import make_sample
from tagger import Preprocessing, Sampling
from tagger.clips import read_unstacked_spans
from tagger.video import probe
from tagger.video.choose import FAST_CODECS, Choice
from tagger.video.readers.reader import DecoderName

X264 = {"preset": "medium", "crf": "23"}
BITS = {"b": "3M"}
QUICK = {"deadline": "realtime", "cpu-used": "8", **BITS}
SAMPLES: dict[str, dict[str, Any]] = {
    "h264-240.mp4": {"options": X264},
    "h264-720.mp4": {"options": X264, "size": "1280x720"},
    "h264-1080.mp4": {"options": X264, "size": "1920x1080"},
    "hevc.mp4": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2", **BITS}},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {"b": "10M"}},
    "vp8.webm": {"codec": "libvpx", "options": QUICK},
    "vp9.webm": {"codec": "libvpx-vp9", "options": QUICK},
}
"""Files and how they are made; by default 640×480."""


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=20, show_default=True, help="Length of the videos that are made.")
def main(videos: tuple[Path, ...], rounds: int, seconds: int) -> None:
    """Reads each video with each reader, in this process."""
    with TemporaryDirectory() as folder:
        for video in videos or _samples(Path(folder), seconds):
            measure(video, rounds)


def _samples(folder: Path, seconds: int) -> Iterator[Path]:
    for name, settings in SAMPLES.items():
        size = "320x240" if "240" in name else "640x480"
        yield make_sample(folder / name, **{"size": size, "seconds": seconds, **settings})


def measure(video: Path, rounds: int) -> None:
    """Prints a line for a video."""
    facts = probe(video)
    frames = round((facts.duration_s or 0) * (facts.fps or 0))
    readers: list[DecoderName] = ["decord", "pyav"]
    if facts.codec in FAST_CODECS:
        readers.append("pyav-fast")
    rates: dict[DecoderName, list[float]] = {reader: [] for reader in readers}
    for _ in range(rounds):
        for reader in list(rates):
            end = None
            begun_s = time.process_time()
            for span in read_unstacked_spans(video, Sampling(), Preprocessing(), choice=Choice(reader)):
                end = span.end
            assert end is not None
            if end.choice != Choice(reader) or end.status != "ok":
                print(f"{video} is not read with {reader}: {end.choice}, {end.status}")
                del rates[reader]
                continue
            rates[reader].append(frames / (time.process_time() - begun_s))
    median = {reader: statistics.median(found) for reader, found in rates.items()}
    each = ", ".join(f"{reader} {rate:,.0f}" for reader, rate in median.items())
    ratios = [
        f"{reader} {median[reader] / median[other]:.2f}× {other}"
        for reader, other in (("pyav", "decord"), ("pyav-fast", "pyav"))
        if reader in median and other in median
    ]
    print(
        f"{facts.codec:10} {facts.width}×{facts.height}: frames per second of CPU: {each}; {', '.join(ratios)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
