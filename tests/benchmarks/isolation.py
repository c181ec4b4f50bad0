"""Measures the cost of a decoder process: time against decoding in this process, and memory on long and many videos.

The time is that of both processes together, on clips of 7 seconds, in alternating rounds. The memory is the peak of the
decoder process while it reads a video of hours, made by joining one encoded minute many times, and its growth over many
videos of 1 to 3 seconds. The last figure is the time to read the facts of a video and its first frame.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import psutil

from tagger.clips import Span, read_spans
from tagger.isolation import DecoderProcess
from tagger.preprocessing import Preprocessing
from tagger.video import probe
from tagger.video.choose import Choice, open_video
from tagger.video.readers.reader import DecoderName
from tagger.windows import Sampling
from tests.videos import encode

SAMPLING, PREPROCESSING = Sampling(), Preprocessing()
SIZES = ((320, 240), (240, 320), (320, 180))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=12, help="clips of 7 seconds in a round")
    parser.add_argument("--rounds", type=int, default=20, help="at least 2; 0 leaves the times out")
    parser.add_argument("--hours", type=float, default=3.0, help="length of the long video; 0 leaves it out")
    parser.add_argument("--videos", type=int, default=3000, help="number of short videos; 0 leaves them out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, DecoderProcess() as decoder:
        if options.rounds:
            compare([encode_clip(Path(folder), number) for number in range(options.clips)], options.rounds, decoder)
        if options.hours:
            long = Path(folder) / "long.mp4"
            measure_memory(join(encode_minute(Path(folder)), long, round(options.hours * 60)), decoder)
        # The first file is read with decord, the second one with PyAV.
        for suffix, codec in {"webm": "libvpx-vp9", "ts": "libx264"}.items() if options.videos else ():
            measure_growth(Path(folder), suffix, codec, options.videos)
        for width, height in ((320, 240), (1280, 720)):
            measure_first_frame(make_10_mb(Path(folder), width, height))


def encode_clip(folder: Path, number: int) -> Path:
    """A clip of 7 seconds."""
    width, height = SIZES[number % len(SIZES)]
    return encode(folder / f"{number}.mp4", seconds=7, width=width, height=height)


def compare(clips: list[Path], rounds: int, decoder: DecoderProcess) -> None:
    """Prints the time of ``rounds`` over ``clips`` in this process, and the ratios of the decoder process to it."""

    def here(path: Path) -> Iterator[Span]:
        return read_spans(path, SAMPLING, PREPROCESSING)

    def isolated(path: Path) -> Iterator[Span]:
        return decoder.spans(path, SAMPLING, PREPROCESSING)

    list(isolated(clips[0]))
    list(here(clips[0]))
    times: dict[str, list[tuple[float, float]]] = {"here": [], "isolated": []}
    for number in range(rounds):
        for name, read in sorted({"here": here, "isolated": isolated}.items(), reverse=bool(number % 2)):
            times[name].append(timed(clips, read))
    for index, what in enumerate(("wall", "CPU ")):
        before = [pair[index] for pair in times["here"]]
        after = [pair[index] for pair in times["isolated"]]
        ratios = [b / a for a, b in zip(before, after, strict=True)]
        quartiles = statistics.quantiles(ratios, n=4)
        print(
            f"{what}: {1000 * statistics.median(before) / len(clips):.1f} ms a clip in this process; in its own "
            f"{100 * (quartiles[1] - 1):+.1f} % (middle half {100 * (quartiles[0] - 1):+.1f} "
            f"to {100 * (quartiles[2] - 1):+.1f} %)"
        )


def timed(clips: list[Path], read: Callable[[Path], Iterator[Span]]) -> tuple[float, float]:
    """Wall and CPU seconds, children included, of reading all clips."""
    wall_s, cpu_s = time.perf_counter(), cpu_of_all()
    for path in clips:
        for span in read(path):
            assert span.end is None or span.end.status == "ok"
    return time.perf_counter() - wall_s, cpu_of_all() - cpu_s


def cpu_of_all() -> float:
    """CPU seconds of this process and its children."""
    times = [time.process_time()]
    for child in psutil.Process().children():
        used = child.cpu_times()
        times.append(used.user + used.system)
    return sum(times)


def encode_minute(folder: Path) -> Path:
    """A minute of video."""
    return encode(folder / "minute.mp4", seconds=60, rate=25, width=320, height=240, options={"g": "50"})


def join(source_path: Path, path: Path, times: int) -> Path:
    """Writes a video that repeats the packets of another one ``times`` times."""
    with av.open(str(source_path)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.pts is not None and packet.dts is not None]
        content = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        length = sum(packet.duration or 0 for packet in packets)
        for turn in range(times):
            for data, pts, dts, is_keyframe in content:
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.time_base, packet.stream, packet.is_keyframe = stream.time_base, copy, is_keyframe
                target.mux(packet)
    return path


def make_10_mb(folder: Path, width: int, height: int) -> Path:
    """An mp4 of 10 MB or a little more."""
    part = encode(folder / f"part-{width}.mp4", seconds=2, width=width, height=height)
    return join(part, folder / f"{width}x{height}.mp4", -(-10_000_000 // part.stat().st_size))


def measure_memory(path: Path, decoder: DecoderProcess) -> None:
    """Prints the peak resident memory of the decoder process over one video."""
    windows = 0
    peak_kb = 0
    started = time.perf_counter()
    for span in decoder.spans(path, SAMPLING, PREPROCESSING):
        windows += len(span.windows)
        assert decoder.pid is not None
        # The kernel's own high-water mark.
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        peak_kb = max(peak_kb, int(status.split("VmHWM:")[1].split()[0]))
        end = span.end
    assert end is not None and end.facts is not None and end.facts.duration_s is not None and end.choice is not None
    print(
        f"{end.facts.duration_s / 3600:.2f} h, {windows} windows with {end.choice.decoder}: {end.status}; peak "
        f"{peak_kb / 1000:,.0f} MB resident; {time.perf_counter() - started:.0f} s"
    )


def measure_growth(folder: Path, suffix: str, codec: str, videos: int) -> None:
    """Prints the private memory of a decoder process after each tenth of many short videos."""
    clips = [
        encode(folder / f"{number}.{suffix}", codec=codec, seconds=number + 1, width=width, height=height)
        for number, (width, height) in enumerate(SIZES)
    ]
    sizes = []
    with DecoderProcess() as decoder:
        for number in range(1, videos + 1):
            *_, last = decoder.spans(clips[number % len(clips)], SAMPLING, PREPROCESSING)
            assert last.end is not None and last.end.choice is not None and last.end.status == "ok"
            if number % (videos // 10) == 0:
                status = Path(f"/proc/{decoder.pid}/status").read_text()
                sizes.append(int(status.split("RssAnon:")[1].split()[0]) / 1000)
        print(
            f"{videos} videos with {last.end.choice.decoder}, {decoder.started} processes; MB after each tenth: "
            + " ".join(f"{size:.1f}" for size in sizes)
        )


def measure_first_frame(path: Path) -> None:
    """Prints the time to read the facts and the first frame of a cached file, with each reader."""
    facts = probe(path)
    width, height = PREPROCESSING.scaled(*facts.display_size)
    names: tuple[DecoderName, ...] = ("decord", "pyav")
    for name in names:
        times_s = []
        for _ in range(20):
            started = time.perf_counter()
            reader, opened = open_video(path, probe(path), Choice(name), width, height)
            next(reader.frames(lambda _: True))
            times_s.append(time.perf_counter() - started)
            reader.close()
            assert opened.decoder == name
        quartiles = [1000 * time_s for time_s in statistics.quantiles(times_s, n=4)]
        print(
            f"facts and first frame of {path.stem}, {path.stat().st_size / 1e6:.1f} MB, {facts.duration_s:.0f} s, with "
            f"{name}: {quartiles[1]:.1f} ms (middle half {quartiles[0]:.1f} to {quartiles[2]:.1f} ms)"
        )


if __name__ == "__main__":
    main()
