"""Small test videos, encoded with PyAV. The pixels of each frame show its number.

The centre square of each picture is a 4×4 board of dark and light cells: twelve bits of the frame's number and four
check bits, which survive lossy compression and scaling. A gradient that moves from frame to frame is added to the whole
picture.
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

BITS = 12
CELLS = 4


def encode(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int | None = None,
    seconds: float | None = None,
    rate: Fraction | int = 30,
    times_s: Sequence[Fraction | float] | None = None,
    width: int = 96,
    height: int = 64,
    start_s: Fraction | float = 0,
    rotation: int = 0,
    pixel_format: str | None = None,
    sample_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Writes a video to ``path``, its container given by the suffix, and returns ``path``.

    Its length is ``frames`` or ``seconds`` at ``rate``, or one frame at each of ``times_s``. ``start_s`` is added to
    all times. ``rotation`` (mp4 and mov only) is the angle, clockwise in degrees, by which the file asks players to
    turn it. ``sample_aspect`` is the width of a pixel over its height. ``options`` go to the encoder. libx264 writes
    B-frames.
    """
    rate = Fraction(rate)
    if times_s is None:
        count = frames if frames is not None else round(rate * Fraction(seconds or 1))
        time_base = 1 / rate
        pts = [i + round(start_s * rate) for i in range(count)]
    else:
        time_base = Fraction(1, 12000)
        pts = [round((time_s + start_s) / time_base) for time_s in times_s]
    if codec == "libx264":
        options = {"preset": "ultrafast", "bf": "2", "g": "24", "crf": "18"} | (options or {})
    elif codec.startswith("libvpx"):
        options = {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1M"} | (options or {})
    elif codec == "libx265":
        options = {"preset": "ultrafast", "x265-params": "log-level=none"} | (options or {})
    elif codec == "libsvtav1":
        options = {"preset": "10", "crf": "10", "svtav1-params": "lp=1:enable-tf=0:pred-struct=1"} | (options or {})
    with av.open(str(path), "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format or _usual_pixel_format(codec, width, height)
        stream.codec_context.thread_count = 1
        if sample_aspect:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if not options or not {"b", "crf"} & options.keys():
            stream.bit_rate = 20 * width * height + 200_000
        stream.codec_context.time_base = time_base
        for number, tick in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if rotation:
        _turn(path, rotation)
    return path


def _usual_pixel_format(codec: str, width: int, height: int) -> str:
    usual = {"mjpeg": "yuvj420p", "gif": "rgb8", "ffv1": "yuv444p", "prores_ks": "yuv422p10le", "huffyuv": "rgb24"}
    if codec == "libx264" and (width % 2 or height % 2):
        return "yuv444p"  # libx264 writes odd sizes only without chroma subsampling.
    return usual.get(codec, "yuv420p")


def encode_audio(path: Path, *, codec: str = "aac", seconds: float = 1.0) -> Path:
    """Writes a file that holds only sound, and returns ``path``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44100)
        for i in range(round(seconds * 44100 / 1024)):
            wave = np.sin(np.arange(1024, dtype=np.float32) / 9)[None]
            frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2, axis=0), format="fltp", layout="stereo")
            frame.rate, frame.pts, frame.time_base = 44100, i * 1024, Fraction(1, 44100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encode_late(path: Path, *, after_s: float, seconds: float, rate: int = 10) -> Path:
    """Writes a video whose first frame is shown ``after_s`` after the start of its audio, and returns ``path``.

    The audio ends with the video. The frames are those of ``encode``. ``after_s`` is a multiple of the length of one.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "bf": "2", "g": "12"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, rate)
        audio = container.add_stream("aac", rate=44100)
        for i in range(round((after_s + seconds) * 44100 / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.rate, frame.pts, frame.time_base = 44100, i * 1024, Fraction(1, 44100)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
        for number in range(round(seconds * rate)):
            shown = av.VideoFrame.from_ndarray(picture(number, 96, 64), format="rgb24")
            shown.pts, shown.time_base = round(after_s * rate) + number, Fraction(1, rate)
            container.mux(video.encode(shown))
        container.mux(video.encode())
    return path


def picture(number: int, width: int, height: int) -> np.ndarray:
    """The picture of one frame, ``[height, width, 3] uint8``: red moves to the right, green moves down, little blue.

    A picture too small for the board is plain grey, in another shade than the frames before and after it.
    """
    if not 0 <= number < 2**BITS:
        raise ValueError(f"frame numbers have {BITS} bits, got {number}")
    if min(width, height) < 2 * CELLS:
        return np.full((height, width, 3), 20 + number * 83 % 216, np.uint8)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    cell = np.arange(side) * CELLS // side
    is_light = np.zeros((height, width), bool)
    is_light[top : top + side, left : left + side] = _board(number)[cell[:, None], cell]
    # Red has the same values in every row, and green in every column.
    red = 70 * _wave((np.arange(width) - 3 * number) / 64)
    green = 50 * _wave((np.arange(height) - 2 * number) / 64)[:, None]
    return np.stack([_lit(is_light, red), _lit(is_light, green), _lit(is_light, np.zeros(1))], axis=-1)


def read_frame_number(pixels: np.ndarray) -> int:
    """Reads the number of the frame from its ``[H, W, 3]`` pixels; raises ValueError when they show none."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side].astype(float).mean(axis=-1)
    inside = _middles(side)
    board = (inside @ square @ inside.T > 110).astype(int)
    number = sum(int(bit) << i for i, bit in enumerate(board.ravel()[:BITS]))
    if not np.array_equal(board, _board(number)):
        raise ValueError(f"no frame number can be read from the picture:\n{board}")
    return number


@cache
def _middles(side: int) -> np.ndarray:
    """``[CELLS, side]``: each row averages the middle half of a cell. Compression and scaling blur its edges."""
    means = np.zeros((CELLS, side))
    for cell in range(CELLS):
        first, end = (round((cell + part) * side / CELLS) for part in (0.25, 0.75))
        means[cell, first:end] = 1 / (end - first)
    return means


def _board(number: int) -> np.ndarray:
    # The check bits also make it unlikely that a turned or mirrored board is read as another number.
    check = (number * 7 + (number >> 4) * 3 + (number >> 8) * 5 + 0b0110) % 16
    bits = [number >> i & 1 for i in range(BITS)] + [check >> i & 1 for i in range(4)]
    return np.array(bits).reshape(CELLS, CELLS)


def _lit(is_light: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adds 180 to the ``values`` of a colour where the board is light: ``[height, width] uint8``."""
    dark, light = (part.round().clip(0, 255).astype(np.uint8) for part in (values, 180 + values))
    return np.where(is_light, light, dark)


def _wave(phase: np.ndarray) -> np.ndarray:
    """A triangle wave between 0 and 1, of period 1."""
    return np.abs(2 * (phase % 1) - 1)


def _turn(path: Path, degrees: int) -> None:
    """Writes the turn into the display matrix of the ``tkhd`` box (ISO/IEC 14496-12) of an mp4 or mov file."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = struct.pack(">9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + len(matrix)] = matrix
    path.write_bytes(data)
