"""Damages small videos in many ways and reads them through a decoder process.

Every mutant has to keep these promises: reading it raises no exception in this process and takes no longer than the
limits allow, and windows come in order with an end that says what happened. The exit status is 1 when a promise is
broken. Mutant N of a seed is always the same: ``--first N --count 1`` repeats it.
"""

import argparse
import itertools
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tagger.clips import Span
from tagger.errors import ERROR_KINDS
from tagger.isolation import DecoderProcess, Limits
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.videos import encode

SAMPLING = Sampling(num_frames=4, sampling_rate=2, target_fps=20.0, hop_s=0.3)
PREPROCESSING = Preprocessing(size=32, resize=32)
LIMITS = Limits(frame_s=5.0, memory_bytes=2**30)

START_S = 10.0
"""Seconds allowed for starting two processes on a busy machine and for decoding frames."""

VIDEOS: dict[str, dict[str, Any]] = {
    "index-last.mp4": {},
    "index-first.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264.mkv": {},
    "mjpeg.mov": {"codec": "mjpeg"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "h264.ts": {},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "flv1.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    "h263.3gp": {"codec": "h263", "width": 128, "height": 96},
    "gif.gif": {"codec": "gif", "rate": 20},
    "mjpeg.avi": {"codec": "mjpeg"},
}


def truncate(data: bytearray, random: np.random.Generator) -> None:
    """Cuts off the end or the start."""
    at = int(random.integers(1, len(data)))
    del data[slice(at, None) if random.random() < 0.7 else slice(at)]


def flip_bits(data: bytearray, random: np.random.Generator) -> None:
    """Flips single bits anywhere."""
    for at in random.integers(0, len(data), int(2 ** random.uniform(0, 8))):
        data[at] ^= 1 << int(random.integers(8))


def change_header(data: bytearray, random: np.random.Generator) -> None:
    """Writes extreme numbers where sizes, counts and offsets are stored: at the start, or at the end of an mp4."""
    extremes = [b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1"]
    room = min(len(data), 1500)
    base = 0 if random.random() < 0.6 else len(data) - room
    for _ in range(int(random.integers(1, 6))):
        at = base + int(random.integers(room))
        value = extremes[int(random.integers(len(extremes)))]
        data[at : at + len(value)] = value


def overwrite(data: bytearray, random: np.random.Generator) -> None:
    """Replaces a stretch with zeros or noise."""
    first, last = _stretch(data, random)
    data[first:last] = bytes(last - first) if random.random() < 0.5 else random.bytes(last - first)


def shuffle(data: bytearray, random: np.random.Generator) -> None:
    """Swaps two stretches."""
    first, last = _stretch(data, random)
    at = int(random.integers(0, len(data) - (last - first) + 1))
    data[first:last], data[at : at + last - first] = data[at : at + last - first], data[first:last]


def duplicate(data: bytearray, random: np.random.Generator) -> None:
    """Inserts a copy of a stretch somewhere else."""
    first, last = _stretch(data, random)
    at = int(random.integers(0, len(data)))
    data[at:at] = data[first:last]


def drop(data: bytearray, random: np.random.Generator) -> None:
    """Removes a stretch."""
    first, last = _stretch(data, random)
    del data[first:last]


def punch(data: bytearray, random: np.random.Generator) -> None:
    """Zeroes one to three holes of up to 10 KB, as lost sectors and unfinished downloads leave them."""
    for _ in range(int(random.integers(1, 4))):
        at, length = int(random.integers(len(data))), int(random.integers(100, 10_000))
        data[at : at + length] = bytes(len(data[at : at + length]))


def restart(data: bytearray, random: np.random.Generator) -> None:
    """Appends the file to itself or to a part of itself, up to three times, so that its clock restarts."""
    whole = bytes(data)
    if random.random() < 0.5:
        del data[int(random.integers(1, len(data))) :]
    for _ in range(int(random.integers(1, 4))):
        # A recorder that starts again writes no second FLV header. Files that were joined have one.
        data += whole[13 if whole[:3] == b"FLV" and random.random() < 0.5 else 0 :]


def turn(data: bytearray, random: np.random.Generator) -> None:
    """Writes a display matrix, one of the eight or any numbers, into an mp4 or mov file. Others stay as they are."""
    at = data.find(b"tkhd") + 44
    if at < 44:
        return
    a, b, c, d = (
        random.choice([-1, 0, 1], 4) * (1 << 16) if random.random() < 0.7 else random.integers(-(2**31), 2**31, 4)
    )
    struct.pack_into(">5i", data, at, int(a), int(b), 0, int(c), int(d))


def empty(data: bytearray, random: np.random.Generator) -> None:
    """Writes packets of zero bytes, which show the frame before them again, into AVI, FLV, mp4 and mov files."""
    share = random.random()
    if data[:4] == b"RIFF":
        at, end = data.find(b"00dc", data.find(b"movi")), data.find(b"idx1")
        index = end
        while 0 <= at < end:
            (size,) = struct.unpack_from("<I", data, at + 4)
            index = data.find(b"00dc", index + 4)
            if size >= 8 and random.random() < share:
                # The rest of the chunk becomes padding, so that positions stay.
                struct.pack_into("<I4sI", data, at + 4, 0, b"JUNK", size - 8)
                struct.pack_into("<I", data, index + 12, 0)
            at = data.find(b"00dc", at + 8 + size)
    elif data[:3] == b"FLV":
        at = 13
        while at + 11 < len(data):
            size = 15 + int.from_bytes(data[at + 1 : at + 4], "big")
            if data[at] == 9 and random.random() < share:
                # A tag without data at the time of the next tag, and its length.
                data[at:at] = b"\x09\0\0\0" + data[at + 4 : at + 11] + b"\0\0\0\x0b"
                at += 15
            at += size
    elif (at := data.find(b"stsz")) >= 0:
        (count,) = struct.unpack_from(">I", data, at + 12)
        entries = range(at + 20, min(at + 16 + 4 * count, len(data) - 3), 4)
        for entry in entries:
            if random.random() < share:
                # The packet before it gets its bytes.
                before, own = struct.unpack_from(">II", data, entry - 4)
                struct.pack_into(">II", data, entry - 4, min(before + own, 2**32 - 1), 0)


MUTATIONS: Sequence[Callable[[bytearray, np.random.Generator], None]] = (
    truncate,
    flip_bits,
    change_header,
    overwrite,
    shuffle,
    duplicate,
    drop,
    punch,
    restart,
    turn,
    empty,
)


def _stretch(data: bytearray, random: np.random.Generator) -> tuple[int, int]:
    length = min(len(data), int(2 ** random.uniform(0, np.log2(len(data)))))
    first = int(random.integers(0, len(data) - length + 1))
    return first, first + length


@dataclass
class Report:
    """The results of the mutants: counts of (status, error kind, decoder), and every broken promise."""

    mutants: int = 0
    ends: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    replaced: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    broken: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def fuzz(folder: Path, *, seed: int, first: int = 0, count: int, seconds: float, limits: Limits = LIMITS) -> Report:
    """Reads the mutants ``first`` to ``first + count`` of ``seed``, for about ``seconds`` at most."""
    originals = {name: encode(folder / name, seconds=1.5, **how).read_bytes() for name, how in VIDEOS.items()}
    names = list(VIDEOS)
    report = Report()
    deadline = time.monotonic() + seconds
    with DecoderProcess(limits) as decoder:
        for number in range(first, first + count):
            if time.monotonic() > deadline:
                break
            random = np.random.default_rng([seed, number])
            name = names[number % len(names)]
            mutation = MUTATIONS[int(random.integers(len(MUTATIONS)))]
            data = bytearray(originals[name])
            mutation(data, random)
            path = folder / f"mutant{Path(name).suffix}"
            path.write_bytes(data)
            _read(decoder, path, f"mutant {number} ({name}, {mutation.__name__})", limits, report)
        report.replaced = decoder.started - 1
    return report


def _read(decoder: DecoderProcess, path: Path, label: str, limits: Limits, report: Report) -> None:
    report.mutants += 1
    started, processes = time.monotonic(), max(1, decoder.started)
    try:
        spans = list(decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=2))
    except Exception as error:
        report.broken.append(f"{label}: {type(error).__name__}: {error}")
        return
    took_s = time.monotonic() - started
    if took_s > report.slowest_s:
        report.slowest_s, report.slowest = took_s, label
    if took_s > 2 * limits.frame_s + START_S:
        report.broken.append(f"{label}: took {took_s:.1f} s")
    problem = _problem(spans)
    if problem:
        report.broken.append(f"{label}: {problem}")
    end = spans[-1].end if spans else None
    if end is not None:
        decoder_name = end.choice.decoder if end.choice else "none"
        report.ends[end.status, end.error_kind or "", decoder_name] += 1
        if decoder.started > processes:
            report.troubles.append(f"{label}: {end.error or (end.choice and end.choice.reason)}")


def _problem(spans: Sequence[Span]) -> str | None:
    """Returns the promise of ``read_spans`` that the spans break; None when they keep all promises."""
    windows = [window for span in spans for window in span.windows]
    if not spans or [span.end is not None for span in spans] != [False] * (len(spans) - 1) + [True]:
        return "not exactly one end, at the end"
    end = spans[-1].end
    assert end is not None
    size = PREPROCESSING.size
    if any(span.clips.shape != (len(span.windows), SAMPLING.num_frames, size, size, 3) for span in spans):
        return "clips that do not match their windows"
    numbers = [window.index for window in windows]
    if len(windows) != end.windows or (numbers != list(range(end.windows)) and not end.gaps):
        return f"windows {numbers} of {end.windows}, without gaps"
    edges_s = [time_s for gap in end.gaps for time_s in gap]
    if edges_s != sorted(edges_s) or any(start_s < 0 for start_s in edges_s):
        return f"gaps {end.gaps}"
    for start_s, end_s in end.gaps:
        if any(window.start_s < end_s - 2e-3 and window.end_s > start_s + 2e-3 for window in windows):
            return f"a window that touches the gap from {start_s} to {end_s} s"
    ends_s = [window.end_s for window in windows]
    if any(window.start_s < 0 or window.end_s <= window.start_s for window in windows):
        return "a window that ends before it starts"
    if any(after <= before for before, after in itertools.pairwise(ends_s)):
        return f"window ends {ends_s}"
    if (end.status == "failed") != (not windows) or (end.status == "ok") != (end.error_kind is None):
        return f"{end.status} with {len(windows)} windows and {end.error_kind}"
    if end.error_kind is not None and (end.error_kind not in ERROR_KINDS or not end.error or "\n" in end.error):
        return f"{end.error_kind}: {end.error!r}"
    return None


def main() -> None:
    """Fuzzes and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(
            Path(folder), seed=options.seed, first=options.first, count=options.count, seconds=options.seconds
        )
    print(f"{report.mutants} mutants in {time.monotonic() - started:.0f} s, {report.replaced} processes replaced")
    for (status, kind, decoder), mutants in report.ends.most_common():
        print(f"{mutants:6}  {status:8} {kind:16} {decoder}")
    print(f"slowest: {report.slowest_s:.1f} s, {report.slowest}")
    for line in report.troubles:
        print(f"trouble: {line}")
    for line in report.broken:
        print(f"BROKEN: {line}")
    raise SystemExit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
