"""Measures FFmpeg's own threads: frames per second of one decoder with one thread and with several, by wall time.

    python -m tests.benchmarks.threads [--threads N] [--rounds N] [--seconds S] [--codec libx264|libx265|...]
        [--size WxH] [--mutants N] [VIDEO...]

Without VIDEO it makes one, with a key frame every second. Threads take turns within a round; figures are medians over
the rounds, and ratios to one thread of the same round:

- ``decoding``: all frames are decoded, and nothing else is done with them,
- ``dense``: every third frame is scaled as well, which the reading thread does,
- ``sparse``: two of ten seconds are decoded, from a key frame on, and the decoder is flushed behind them.

Then compares what ``tagger.video.frames`` gives with one thread and with several: the pixels and times of all frames,
and the places and reasons of damage. First in the video itself, then in ``--mutants`` damaged ones (those of
``tests.benchmarks.fuzz``, of a small video of the same codec), each in a process of its own: when a decoder is closed
while one of its threads logs an error, both may wait for each other for ever.
"""

import multiprocessing
import multiprocessing.connection
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import click
import numpy as np

from jobs.measure.sample_video import RATE, make_sample
from tagger import Preprocessing
from tagger.errors import VideoError
from tagger.video.container import open_container
from tagger.video.damage import Damage
from tagger.video.frames import decoded_frames
from tagger.video.readers.upright_pixels import UprightPixels
from tests.benchmarks.fuzz import MUTATIONS
from tests.benchmarks.sparse import OPTIONS
from tests.videos import encode

HUNG_S = 20.0
"""Seconds after which a process that reads a small video is taken to wait for ever."""

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
            is_same = read(video, 1) == read(video, threads)
            print(f"the frames are {'the same' if is_same else 'DIFFERENT'}", flush=True)
        if mutants:
            print(f"{codec}, damaged: {compare(folder, codec, threads, mutants)}", flush=True)


def measure(video: Path, threads: int, rounds: int) -> None:
    """Prints the rate of each way with one thread and with several."""
    for name, way in (("decoding", _decoding), ("dense", _dense), ("sparse", _sparse)):
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


def _dense(video: Path, threads: int) -> int:
    container, stream = _opened(video, threads)
    width, height = Preprocessing().scaled(stream.width, stream.height)
    upright = UprightPixels(width, height, 0, is_mirrored=False)
    with container:
        number = 0
        for number, frame in enumerate(container.decode(stream), 1):
            if number % 3 == 0:
                upright(frame, "gbrp")
        return number


def _sparse(video: Path, threads: int) -> int:
    container, stream = _opened(video, threads)
    decoder = stream.codec_context
    with container:
        number = 0
        for number, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            at = number % (10 * RATE)
            if at < 2 * RATE:
                decoder.decode(packet)
            if at == 2 * RATE - 1:
                decoder.decode(None)
                decoder.flush_buffers()
        return number + 1


def read(video: Path, threads: int) -> list[tuple[object, ...]]:
    """Returns the time and the checksum of each frame of a video, and the reason of each damage, in order."""
    found: list[tuple[object, ...]] = []
    try:
        container, stream = _opened(video, threads)
        with container:
            for frame in decoded_frames(container, stream, video):
                if isinstance(frame, Damage):
                    found.append((frame.reason,))
                else:
                    found.append((frame.pts, frame.dts, frame.key_frame, zlib.crc32(frame.to_ndarray().tobytes())))
    except VideoError as error:
        found.append((error.kind, str(error)))
    return found


def compare(folder: Path, codec: str, threads: int, mutants: int) -> dict[str, int]:
    """Returns how many damaged videos are read in the same way with one thread and with several."""
    suffix = ".webm" if codec == "libvpx-vp9" else ".mp4"
    data = encode(folder / f"small{suffix}", codec=codec, seconds=3, width=192, height=128).read_bytes()
    counts: Counter[str] = Counter()
    for number in range(mutants):
        random = np.random.default_rng([0, number])
        mutant = bytearray(data)
        MUTATIONS[int(random.integers(len(MUTATIONS)))](mutant, random)
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutant)
        one, several = _in_process(path, 1), _in_process(path, threads)
        if one is None or several is None:
            counts["one thread hangs" if one is None else "several threads hang"] += 1
        elif one == several:
            counts["same"] += 1
        elif len(one) != len(several) or [each[-1] for each in one] != [each[-1] for each in several]:
            counts["other frames or damage"] += 1
        else:
            counts["other times"] += 1
    return dict(counts)


def _in_process(path: Path, threads: int) -> list[tuple[object, ...]] | None:
    """Returns ``read`` of a video, in a process of its own; None if that gives no answer."""
    mine, other = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=_answer, args=(other, path, threads))
    process.start()
    other.close()
    try:
        return mine.recv() if mine.poll(HUNG_S) else None
    except EOFError:
        return None  # It crashed.
    finally:
        process.kill()
        process.join()


def _answer(channel: "multiprocessing.connection.Connection", path: Path, threads: int) -> None:
    channel.send(read(path, threads))


if __name__ == "__main__":
    main()
