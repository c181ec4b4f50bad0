"""Measures sparse decoding: seconds of video per second of CPU time, of one core.

    python -m tests.benchmarks.sparse [--rounds N] [--seconds S] [--hop S] [--codec libx264|libx265|...] [--size WxH]
        [--pixel-format yuv420p|yuv420p10le]

Makes a video with a key frame every second and another one of half its length. Times of the shorter one are
subtracted, so the time to start is left out. These ways take turns within a round; figures are medians:

- ``dense``: windows back to back,
- ``whole``: windows every ``--hop`` seconds, and the whole video is decoded,
- ``sparse``: the same windows, and only the groups of pictures with needed frames are decoded,
- ``sparse, fast``: the same with ``--fast-decode``,
- ``frames only``: all frames are decoded by PyAV, and nothing else is done with them: the ceiling of ``dense``,
- ``ffmpeg``: the same by ``ffmpeg -threads 1 -f null``, if that program is installed,
- ``torchcodec, dense`` and ``torchcodec``: a loop of ``VideoDecoder.get_frames_played_at``, which does not scale the
  pictures, if torchcodec is installed (``pip install torchcodec``; it needs the libraries of FFmpeg, such as Debian's
  package ``ffmpeg``),
- ``torchcodec, dense, scaled`` and ``torchcodec, scaled``: the same, and PyTorch scales the pictures to the size of the
  model's.
"""

import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import click

from jobs.measure.sample_video import RATE, make_sample
from tagger import Preprocessing, Sampling
from tagger.clips import read_unstacked_spans
from tagger.video.choose import Choice
from tagger.video.readers.reader import DecoderName

Way = Callable[[Path, float], object]
"""Reads a video of which the length in seconds is given."""

OPTIONS = {
    "libx264": {"preset": "veryfast", "g": str(RATE), "bf": "2"},
    "libx265": {"preset": "ultrafast", "x265-params": f"log-level=none:keyint={RATE}"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "g": str(RATE), "b": "3M"},
    "libsvtav1": {"preset": "10", "g": str(RATE), "svtav1-params": "lp=1"},
}


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=120, show_default=True, help="Length of the longer video.")
@click.option("--hop", "hop_s", default=10.0, show_default=True, help="Seconds between two windows.")
@click.option("--codec", type=click.Choice(list(OPTIONS)), default="libx264", show_default=True)
@click.option("--size", default="1920x1080", show_default=True)
@click.option("--pixel-format", default="yuv420p", show_default=True)
def main(rounds: int, seconds: int, hop_s: float, codec: str, size: str, pixel_format: str) -> None:
    """Prints a line for each way."""
    ways: dict[str, Way] = {
        "dense": _reading(Sampling(), "pyav"),
        "whole": _reading(Sampling(hop_s=hop_s), "pyav"),
        "sparse": _reading(Sampling(hop_s=hop_s), "pyav-sparse"),
    }
    if codec in ("libx264", "libx265"):
        ways["sparse, fast"] = _reading(Sampling(hop_s=hop_s, fast_decode=True), "pyav-sparse-fast")
    ways["frames only"] = _frames_only
    if shutil.which("ffmpeg"):
        ways["ffmpeg"] = _ffmpeg
    try:
        ways |= _torchcodec(hop_s)
    except (ImportError, RuntimeError) as error:
        print(f"without torchcodec: {str(error).splitlines()[0]}")
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with TemporaryDirectory() as folder:
        settings = {"codec": codec, "size": size, "options": OPTIONS[codec], "pixel_format": pixel_format}
        videos = {
            length: make_sample(Path(folder) / f"{length}.mp4", seconds=length, **settings)  # type: ignore[arg-type]
            for length in (seconds // 2, seconds)
        }
        for _ in range(rounds):
            for name, way in ways.items():
                times_s = {}
                for length, path in videos.items():
                    begun_s = _cpu_s()
                    way(path, length)
                    times_s[length] = _cpu_s() - begun_s
                rates[name].append((seconds - seconds // 2) / (times_s[seconds] - times_s[seconds // 2]))
    dense = statistics.median(rates["dense"])
    print(f"{codec} {size} {pixel_format}, a window every {hop_s:g} s: seconds of video per second of CPU")
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:26} {rate:7.1f} ({min(found):.1f} to {max(found):.1f}), {rate / dense:.2f} times dense")


def _reading(sampling: Sampling, decoder: DecoderName) -> Way:
    def read(path: Path, length_s: float) -> None:
        end = None
        for span in read_unstacked_spans(path, sampling, Preprocessing(), choice=Choice(decoder)):
            end = span.end
        assert end is not None and end.choice == Choice(decoder) and end.status == "ok", end

    return read


def _cpu_s() -> float:
    """Returns the CPU time of this process and of those that it has ended, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _frames_only(path: Path, length_s: float) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass


def _ffmpeg(path: Path, length_s: float) -> None:
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(path), "-map", "0:v", "-f", "null", "-"]
    subprocess.run(command, check=True)


def _torchcodec(hop_s: float) -> dict[str, Way]:
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)

    def reading(sampling: Sampling, *, scaled: bool = False) -> Way:
        def read(path: Path, length_s: float) -> None:
            decoder = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NCHW" if scaled else "NHWC")
            size = Preprocessing().scaled(decoder.metadata.width, decoder.metadata.height)
            for window in range(sampling.window_count(length_s)):
                times_s = [sampling.sample_s(window, sample) for sample in range(sampling.num_frames)]
                if times_s[-1] < length_s:
                    frames = decoder.get_frames_played_at(times_s).data
                    if scaled:
                        torch.nn.functional.interpolate(frames, size[::-1], mode="bicubic", antialias=True)

        return read

    return {
        "torchcodec, dense": reading(Sampling()),
        "torchcodec": reading(Sampling(hop_s=hop_s)),
        "torchcodec, dense, scaled": reading(Sampling(), scaled=True),
        "torchcodec, scaled": reading(Sampling(hop_s=hop_s), scaled=True),
    }


if __name__ == "__main__":
    main()
