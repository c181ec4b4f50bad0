"""The rule that chooses a reader: the one with the least CPU time among those that read a video correctly.

decord and PyAV both decode with FFmpeg. decord has an extra thread that waits in a busy loop, and its scaling takes
twice as long. So it needs 1.07 to 2.9 times the CPU time of PyAV; the factor is larger for smaller pictures. For VP9
the two are about equal: decord needs 0.98 to 1.3 times as much (``python -m tests.benchmarks.readers``).

The cases in which decord is correct were measured with decord 0.6.0, reading in sequence. MPEG-PS, MPEG-TS and files
with edit lists give wrong frames or times. AV1 and GIF do not open. Rotation metadata is ignored. Damaged files may
repeat frames, hang or abort. ``DecordReader`` checks what the header does not show: it compares frame times with
packets after opening, and watches for errors while reading.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tagger.errors import VideoError, one_line
from tagger.video.container import open_file
from tagger.video.facts import VideoFacts
from tagger.video.packets.kinds import KNOWN_CODECS
from tagger.video.packets.table import Stretch
from tagger.video.readers.fast_reader import FastReader
from tagger.video.readers.nvdec_reader import NVDEC_CODECS, NvdecReader
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName, Reader, WantedReader
from tagger.video.readers.sparse_reader import SEEKING_CONTAINERS, Plan, SparseError, SparseReader
from tagger.video.readers.threaded_reader import ThreadedReader
from tagger.video.truncation import EBML_HEADER

DECORD_CONTAINERS = frozenset({"mp4", "mov", "m4a", "3gp", "3g2", "matroska", "webm", "avi", "flv", "asf"})
DRAIN_LIMIT_BYTES = 256 * 2**20
"""Maximum bytes of sampled frames in a video for decord. They are all held in memory, so that decord is closed before
anything waits."""

DECORD_CODECS = frozenset(
    name
    for line in (
        "cinepak dvvideo ffv1 flv1 h263 h264 hevc huffyuv mjpeg mpeg1video mpeg2video mpeg4 msmpeg4v2 msmpeg4v3",
        "png prores qtrle svq1 vp8 vp9 wmv1 wmv2",
    )
    for name in line.split()
)

CHEAP_DECORD_CODECS = frozenset({"vp9"})
"""Codecs for which decord needs about the same CPU time as PyAV, even for small pictures."""

FAST_CONTAINERS = DECORD_CONTAINERS - {"avi", "asf"}
"""Containers whose packets have the times of all frames, including frames that are not decoded."""

FAST_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs with frames that no other frame refers to, and with a decoder that can skip them."""


PART_DECODERS: frozenset[DecoderName] = frozenset({"pyav", "pyav-fast", "pyav-sparse", "pyav-sparse-fast"})
"""The decoders that give the same windows when several of them read a part of a video each."""

WHOLE_DECODERS: dict[DecoderName, DecoderName] = {"pyav-sparse": "pyav", "pyav-sparse-fast": "pyav-fast"}
"""The decoders that decode parts of a video, and those that decode the whole video instead."""

FRAGMENTED = "fragmented files are not read in parts"
"""Why a fragmented MP4 is decoded whole."""

MATROSKA_CUES = b"\x1c\x53\xbb\x6b"
"""The identifier of the index, which the list at the start of a Matroska file names (RFC 9559, 5.1.1 and 5.1.5)."""


@dataclass(frozen=True)
class Choice:
    """A reader. ``reason`` says why it is not the preferred reader, if it is not."""

    decoder: DecoderName
    reason: str | None = None


@cache
def has_decord() -> bool:
    """Checks whether decord is installed. It has wheels for x86-64 only."""
    return importlib.util.find_spec("decord") is not None


def choose_reader(
    facts: VideoFacts,
    drained_bytes: int | None,
    *,
    fast: bool = False,
    sparse: bool = False,
    nvdec: bool = False,
    wanted: WantedReader = "auto",
) -> Choice:
    """Chooses the reader of a video from its facts.

    ``drained_bytes`` is the size of all frames that will be sampled, None when it is not known. All frames of decord
    must be read before anything waits, because an idle decord reader uses a whole core. So a video whose frames do not
    fit into memory is streamed with PyAV. ``fast`` skips frames that no other frame refers to, if the file has the
    times of all frames. ``sparse`` decodes only the groups of pictures that have needed frames, if the file has the
    times and no GPU decodes. ``nvdec`` decodes on a GPU where possible, unless ``fast`` applies. ``wanted`` is the
    reader that the user asks for. decord does not read what it would read wrong; the reason says why.
    """
    if sparse and wanted != "decord":
        usual = choose_reader(facts, drained_bytes, fast=fast, nvdec=nvdec, wanted=wanted)
        if usual.decoder == "pyav-nvdec":
            return usual
        if facts.container in FAST_CONTAINERS and not facts.is_truncated:
            is_fast = usual.decoder == "pyav-fast"
            return Choice("pyav-sparse-fast" if is_fast else "pyav-sparse", usual.reason if fast else None)
        cut = "that are cut off" if facts.is_truncated else ""
        slow = f"{facts.container} files {cut}".strip() + " are decoded whole, between the windows, too"
        return Choice(usual.decoder, usual.reason or slow)
    if fast:
        if facts.container in FAST_CONTAINERS and facts.codec in FAST_CODECS and not facts.is_truncated:
            return Choice("pyav-fast")
        usual = choose_reader(facts, drained_bytes, nvdec=nvdec, wanted=wanted)
        cut = "that are cut off" if facts.is_truncated else ""
        slow = f"there is no fast decoding of {facts.codec} in {facts.container} files {cut}".strip()
        return Choice(usual.decoder, usual.reason or slow)
    if wanted == "pyav":
        return Choice("pyav")
    if wanted == "auto" and nvdec and facts.codec in NVDEC_CODECS:
        return Choice("pyav-nvdec")
    if wanted == "auto" and facts.codec not in CHEAP_DECORD_CODECS:
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
    elif facts.is_mirrored:
        reason = "decord ignores that the picture is mirrored"
    elif facts.video_streams > 1:
        reason = f"the file has {facts.video_streams} video streams, and decord may take another one"
    elif facts.is_truncated:
        reason = "the file is cut off, and decord may hang on its end"
    elif drained_bytes is None:
        reason = "the length is unknown, and decord must hold all frames in memory"
    elif drained_bytes > DRAIN_LIMIT_BYTES:
        reason = "too long for decord, which must hold all frames in memory"
    return Choice("decord") if reason is None else Choice("pyav", reason)


def why_no_index(path: Path) -> str | None:
    """Returns why a video has no index by which its parts are found; None if it may have one. Raises VideoError.

    Reads the first bytes only. Without an index, FFmpeg would read all fragments of an MP4 to open it, and all clusters
    of a Matroska file up to the part.
    """
    descriptor, head = open_file(path)
    os.close(descriptor)
    if head[4:8] == b"ftyp" and b"moof" in head:
        return FRAGMENTED
    if head.startswith(EBML_HEADER) and MATROSKA_CUES not in head:
        return "Matroska files without an index are not read in parts"
    return None


def why_not_in_parts(facts: VideoFacts, choice: Choice) -> str | None:
    """Returns why a video cannot be read in parts by several decoders with ``choice``; None if it can.

    The container must find a packet by its time, and the times of frames must not depend on frames before them.
    """
    if choice.decoder not in PART_DECODERS:
        return f"{choice.decoder} does not read parts of a video"
    if facts.container not in SEEKING_CONTAINERS:
        return f"{facts.container} files are not read in parts"
    if facts.is_truncated:
        return "files that are cut off are not read in parts"
    if facts.container not in ("matroska", "webm") and not facts.frames:
        return FRAGMENTED
    if facts.codec not in KNOWN_CODECS:
        return f"where decoding of {facts.codec} can begin is not known"
    return None if facts.duration_s else "it declares no duration"


def open_part(
    path: Path,
    facts: VideoFacts,
    choice: Choice,
    width: int,
    height: int,
    on_packet: Callable[[], None],
    plan: Plan,
    stretch: Stretch,
) -> SparseReader:
    """Opens a stretch of a video for a choice among PART_DECODERS. Raises SparseError when it cannot be read alone."""
    is_dense, is_fast = choice.decoder not in WHOLE_DECODERS, choice.decoder.endswith("fast")
    try:
        return SparseReader(path, facts, width, height, plan, on_packet, fast=is_fast, dense=is_dense, stretch=stretch)
    except VideoError as error:
        raise SparseError(one_line(str(error).removeprefix(f"{path}: "))) from error


def open_video(
    path: Path,
    facts: VideoFacts,
    choice: Choice,
    width: int,
    height: int,
    on_packet: Callable[[], None] = lambda: None,
    plan: Plan | None = None,
    threads: int = 1,
) -> tuple[Reader, Choice]:
    """Opens a video with the chosen reader, frames scaled to ``width × height``. Falls back to PyAV.

    ``plan`` is that of SparseReader, which needs one. With several ``threads``, the reader ``pyav`` is a
    ThreadedReader.

    Returns the reader and the choice that was used. Raises VideoError when PyAV cannot open the video, either.
    ``on_packet`` is called for each packet that is read, because opening a video may read the whole file.
    """
    try:
        if choice.decoder == "decord":
            from tagger.video.readers.decord_reader import DecordReader

            return DecordReader(path, facts, width, height, on_packet), choice
        if choice.decoder in WHOLE_DECODERS:
            assert plan is not None
            is_fast = choice.decoder == "pyav-sparse-fast"
            return SparseReader(path, facts, width, height, plan, on_packet, fast=is_fast), choice
        if choice.decoder == "pyav-fast":
            return FastReader(path, facts, width, height, on_packet), choice
        if choice.decoder == "pyav-nvdec":
            return NvdecReader(path, facts, width, height, on_packet), choice
        if threads > 1:
            return ThreadedReader(path, facts, width, height, threads, on_packet), choice
    except VideoError as error:
        reason = one_line(str(error).removeprefix(f"{path}: "))
        if choice.decoder in WHOLE_DECODERS:
            return open_video(path, facts, Choice(WHOLE_DECODERS[choice.decoder], reason), width, height, on_packet)
        choice = Choice("pyav", reason)
    return PyAVReader(path, facts, width, height, on_packet), choice
