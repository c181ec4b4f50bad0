"""The rule that chooses a reader: of those that read a video right, the one that takes the least CPU time.

decord and PyAV both decode with FFmpeg. decord has a thread more, which waits by spinning, and scales pictures at twice
the cost, so that it takes 1.07 to 2.9 times the CPU time of PyAV, the more the smaller the pictures. For VP9 the two
are about even: decord took 0.98 to 1.3 times as much (``python -m tests.benchmarks.readers``).

Where decord is right comes from measurements of decord 0.6.0, reading in sequence: MPEG-PS, MPEG-TS and files with edit
lists give wrong frames or times; AV1 and GIF do not open; rotation metadata is ignored; damaged files may repeat
frames, hang or abort. What a header does not tell is checked when decord has opened the file, frame times against
packets, and while it reads (``DecordReader``).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tagger.errors import VideoError, one_line
from tagger.video.facts import VideoFacts
from tagger.video.readers.fast_reader import FastReader
from tagger.video.readers.nvdec_reader import NVDEC_CODECS, NvdecReader
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName, Reader

DECORD_CONTAINERS = frozenset({"mp4", "mov", "m4a", "3gp", "3g2", "matroska", "webm", "avi", "flv", "asf"})
DRAIN_LIMIT_BYTES = 256 * 2**20
"""Sampled frames of one video that may be held in memory, so that decord can be drained and closed before a wait."""

DECORD_CODECS = frozenset(
    name
    for line in (
        "cinepak dvvideo ffv1 flv1 h263 h264 hevc huffyuv mjpeg mpeg1video mpeg2video mpeg4 msmpeg4v2 msmpeg4v3",
        "png prores qtrle svq1 vp8 vp9 wmv1 wmv2",
    )
    for name in line.split()
)

DECORD_IS_CHEAP = frozenset({"vp9"})
"""Codecs with which decord takes about the CPU time of PyAV also at small sizes."""

FAST_CONTAINERS = DECORD_CONTAINERS - {"avi", "asf"}
"""Containers whose packets tell when frames are shown, also those that are not decoded."""

FAST_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs with frames that no other refers to, and a decoder that can leave them out."""


@dataclass(frozen=True)
class Choice:
    """Which reader, and why when it is not the one that was hoped for."""

    decoder: DecoderName
    reason: str | None = None


@cache
def has_decord() -> bool:
    """Whether decord is installed; it has wheels for x86-64 only."""
    return importlib.util.find_spec("decord") is not None


def choose_reader(facts: VideoFacts, drained_bytes: int | None, *, fast: bool = False, nvdec: bool = False) -> Choice:
    """Chooses the reader of a video from its facts.

    ``drained_bytes`` is the size of all frames that will be sampled, None when it is not known. decord must be drained
    before anything waits (an idle reader burns a core), so a video too long for that is streamed with PyAV.
    ``fast`` asks for frames to be left out, which is done where a file tells when those would be shown. ``nvdec`` asks
    for a GPU to decode what it can, of what is not left to ``fast``.
    """
    if fast:
        if facts.container in FAST_CONTAINERS and facts.codec in FAST_CODECS and not facts.is_truncated:
            return Choice("pyav-fast")
        usual = choose_reader(facts, drained_bytes, nvdec=nvdec)
        cut = "that are cut off" if facts.is_truncated else ""
        slow = f"there is no fast decoding of {facts.codec} in {facts.container} files {cut}".strip()
        return Choice(usual.decoder, usual.reason or slow)
    if nvdec and facts.codec in NVDEC_CODECS:
        return Choice("pyav-nvdec")
    if facts.codec not in DECORD_IS_CHEAP:
        return Choice("pyav")
    reason = None
    if not has_decord():
        reason = "decord is not installed"
    elif facts.container not in DECORD_CONTAINERS:
        reason = f"decord is not trusted with {facts.container} files"
    elif facts.codec not in DECORD_CODECS:
        reason = f"decord is not trusted with {facts.codec} video"
    elif facts.rotation:
        reason = f"decord ignores the rotation by {facts.rotation} degrees"
    elif facts.video_streams > 1:
        reason = f"decord may take another of its {facts.video_streams} video streams"
    elif facts.is_truncated:
        reason = "the file is cut off, and decord may hang on its end"
    elif drained_bytes is None:
        reason = "of unknown length, and decord has to be drained at once"
    elif drained_bytes > DRAIN_LIMIT_BYTES:
        reason = "too long to drain at once, and an idle decord reader burns a core"
    return Choice("decord") if reason is None else Choice("pyav", reason)


def open_video(
    path: Path,
    facts: VideoFacts,
    choice: Choice,
    width: int,
    height: int,
    on_packet: Callable[[], None] = lambda: None,
) -> tuple[Reader, Choice]:
    """Opens a video with the chosen reader, frames scaled to ``width × height``; PyAV when another refuses it.

    Returns the reader and the choice that held. Raises VideoError when neither reads it. ``on_packet`` is called for
    each packet that is looked at: to open a video may mean to go through all of it.
    """
    try:
        if choice.decoder == "decord":
            from tagger.video.readers.decord_reader import DecordReader

            return DecordReader(path, facts, width, height, on_packet), choice
        if choice.decoder == "pyav-fast":
            return FastReader(path, facts, width, height, on_packet), choice
        if choice.decoder == "pyav-nvdec":
            return NvdecReader(path, facts, width, height, on_packet), choice
    except VideoError as error:
        choice = Choice("pyav", one_line(str(error).removeprefix(f"{path}: ")))
    return PyAVReader(path, facts, width, height, on_packet), choice
