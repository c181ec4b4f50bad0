"""Measures decoding with several threads of FFmpeg: frames per second of wall time, and whether frames are the same.

    python -m tests.benchmarks.threads [--threads N] [--rounds N] [--seconds S] [--codec libx264|libx265|...]
        [--size WxH] [--mutants N] [VIDEO...]

Without VIDEO it makes one, with a key frame every second. One thread and several take turns within a round; figures are
medians over the rounds, and so are the ratios within a round:

- ``decoding``: all frames are decoded by FFmpeg, and nothing else is done with them,
- ``windows``: windows back to back, as ``vtag run`` reads a video that is not cut into parts,
- ``sparse``: FFmpeg decodes two of ten seconds, and is flushed behind them. vtag uses one thread for this.

Then compares what several threads give with what one gives, in ``--mutants`` damaged videos (those of
``tests.benchmarks.fuzz``, of a small video of the same codec): ``FFmpeg`` is what ``decoded_frames`` would give if its
decoder had threads, ``vtag`` is the windows of a video. Each is read in a process of its own: when a decoder is
closed while a thread of it logs an error, both may wait for each other for ever, and count as ``hangs``.
"""

import multiprocessing
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import click
import numpy as np

from jobs.measure.sample_video import RATE, make_sample
from tagger import Preprocessing, Sampling
from tagger.clips import VideoEnd, read_unstacked_spans
from tagger.errors import VideoError
from tagger.video.choose import Choice
from tagger.video.container import open_container
from tagger.video.damage import Damage
from tagger.video.frames import decoded_frames
from tests.benchmarks.fuzz import MUTATIONS
from tests.benchmarks.sparse import OPTIONS
from tests.videos import encode

HUNG_S = 10.0
"""Seconds after which a process that reads a small video is taken to wait for ever."""

Answer = list[object]
"""What a way of reading gives, for comparison."""

Way = Callable[[Path, int], int]
"""Reads a video with so many threads. Returns the number of frames that it went over."""


@click.command()
@click.argument("videos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=10, show_default=True, help="Length of the video.")
@click.option("--codec", type=click.Choice(list(OPTIONS)), default="libx264", show_default=True)
@click.option("--size", default="1920x1080", show_default=True)
@click.option("--mutants", default=0, show_default=True, help="Damaged videos to compare.")
def main(
    videos: tuple[Path, ...], threads: int, rounds: int, seconds: int, codec: str, size: str, mutants: int
) -> None:
    """Prints a line for each way, and one for the comparison."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if rounds and not videos:
            path = folder / f"{codec} {size}.mp4"
            videos = (make_sample(path, size=size, seconds=seconds, codec=codec, options=OPTIONS[codec]),)
        for video in videos:
            print(f"{video.stem}, 1 and {threads} threads: frames per second of wall time", flush=True)
            measure(video, threads, rounds)
            is_same = _read_windows(video, 1) == _read_windows(video, threads)
            print(f"the windows are {'the same' if is_same else 'DIFFERENT'}", flush=True)
        if mutants:
            for way, counts in compare(folder, codec, threads, mutants).items():
                print(f"{codec}, damaged, {way}: {dict(counts)}", flush=True)


def measure(video: Path, threads: int, rounds: int) -> None:
    """Prints the rate of each way with one thread and with several."""
    for name, way in (("decoding", _decoding), ("windows", _windows), ("sparse", _sparse)):
        rates: dict[int, list[float]] = {1: [], threads: []}
        for _ in range(rounds):
            for count, found in rates.items():
                begun_s = time.perf_counter()
                frames = way(video, count)
                found.append(frames / (time.perf_counter() - begun_s))
        ratios = [several / one for one, several in zip(rates[1], rates[threads], strict=True)]
        one, several = (statistics.median(found) for found in rates.values())
        print(
            f"{name:9} {one:7.1f} {several:7.1f}: {statistics.median(ratios):.2f} times as many "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def _opened(video: Path, threads: int) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream]":
    container, stream, _ = open_container(video)
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = "FRAME"
    return container, stream


def _decoding(video: Path, threads: int) -> int:
    container, stream = _opened(video, threads)
    with container:
        return sum(1 for _ in container.decode(stream))


def _windows(video: Path, threads: int) -> int:
    end = _read_windows(video, threads)[-1]
    assert isinstance(end, VideoEnd) and end.status == "ok" and end.facts is not None, end
    return round((end.facts.duration_s or 0) * RATE)


def _read_windows(video: Path, threads: int) -> Answer:
    """Returns the number, times and checksum of each window, and how reading ended."""
    found: Answer = []
    choice = Choice("pyav")
    for span in read_unstacked_spans(video, Sampling(), Preprocessing(), choice=choice, threads=threads):
        for window, frames in zip(span.windows, span.frames, strict=True):
            found.append((window, [zlib.adler32(frame) for frame in frames]))
        if span.end is not None:
            found.append(replace(span.end, decode_s=0.0))
    return found


def _sparse(video: Path, threads: int) -> int:
    container, stream = _opened(video, threads)
    decoder = stream.codec_context
    begun: int | None = None
    with container:
        number = 0
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            if begun is None and packet.is_keyframe and number % (10 * RATE) < RATE:
                begun = number
            if begun is not None:
                decoder.decode(packet)
                if number - begun == 2 * RATE:
                    decoder.decode(None)
                    decoder.flush_buffers()
                    begun = None
        return number + 1


def _read_frames(video: Path, threads: int) -> Answer:
    """Returns the times and the checksum of each frame of a video, and the reason of each damage, in order."""
    found: Answer = []
    try:
        container, stream = _opened(video, threads)
        with container:
            for frame in decoded_frames(container, stream, video):
                if isinstance(frame, Damage):
                    found.append(frame.reason)
                else:
                    found.append((frame.pts, frame.dts, frame.key_frame, zlib.adler32(frame.to_ndarray())))
    except VideoError as error:
        found.append((error.kind, str(error)))
    return found


def compare(folder: Path, codec: str, threads: int, mutants: int) -> dict[str, Counter[str]]:
    """Returns how many damaged videos are read as by one thread, otherwise, and not to their end, in each way."""
    suffix = ".webm" if codec == "libvpx-vp9" else ".mp4"
    data = encode(folder / f"small{suffix}", codec=codec, seconds=6, width=192, height=128).read_bytes()
    counts: dict[str, Counter[str]] = {}
    for number in range(mutants):
        random = np.random.default_rng([0, number])
        mutant = bytearray(data)
        MUTATIONS[int(random.integers(len(MUTATIONS)))](mutant, random)
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutant)
        for name, way in (("FFmpeg", _read_frames), ("vtag", _read_windows)):
            one, several = _in_process(way, path, 1), _in_process(way, path, threads)
            result = "hangs" if several is None else "same" if one == several else "other"
            counts.setdefault(name, Counter())[result] += 1
    return counts


def _in_process(way: Callable[[Path, int], Answer], path: Path, threads: int) -> Answer | None:
    """Returns what a way gives for a video, read in a process of its own; None if that gives no answer."""
    with multiprocessing.Pool(1) as pool:
        try:
            return pool.apply_async(way, (path, threads)).get(HUNG_S)
        except multiprocessing.TimeoutError:
            return None


if __name__ == "__main__":
    main()
