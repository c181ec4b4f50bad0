"""The reader on an NVIDIA GPU: its decoder (NVDEC) decodes, and only frames that are asked for leave its memory."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.reformatter import VideoReformatter

from tagger.errors import VideoError
from tagger.video.container import ffmpeg_reason
from tagger.video.facts import VideoFacts
from tagger.video.pyav_versions import READS_FROM_GPU
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName

NVDEC_CODECS = frozenset({"h264", "hevc", "vp9"})
"""Codecs that FFmpeg decodes on the GPU, and whose pictures the format defines to the bit."""

ON_GPU = "cuda"
"""FFmpeg's name for the format of frames that lie in a GPU's memory."""

PLANES = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""The format in which a core decodes what the GPU has in another."""


class NvdecError(Exception):
    """What went wrong on the GPU. A core may decode the video all the same."""


class NvdecReader(PyAVReader):
    """Reads with PyAV what the GPU decodes. A frame that is asked for is copied from there and scaled by a core.

    Raises VideoError when there is no GPU, or when it does not decode the video, and NvdecError for whatever happens
    later: the GPU may be at fault as well as the video, so that nothing is concluded from it about the video.
    """

    name: DecoderName = "pyav-nvdec"

    def __init__(
        self, path: Path, facts: VideoFacts, width: int, height: int, on_packet: Callable[[], None] = lambda: None
    ):
        hwaccel = _gpu()
        try:
            super().__init__(path, facts, width, height, on_packet, hwaccel)
        except VideoError as error:
            # A core will find out whether that is the fault of the video.
            raise VideoError("unsupported", f"{path}: the GPU does not open it") from error
        self._from_gpu = VideoReformatter()
        try:
            # Profiles and sizes differ between GPUs. Where one is refused, FFmpeg decodes on the core without a word.
            frames = super()._decoded()
            first = next(frames, None)
            if first is None or first.format.name != ON_GPU or not self._is_whole(first):
                raise VideoError("unsupported", f"{path}: the GPU does not decode it")
        except VideoError:
            self.close()
            raise
        self._frames = chain([first], frames)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._frames
        except VideoError as error:
            raise _failure(error) from error

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if not self._is_whole(frame):
            raise NvdecError("a frame has another size than the video")
        try:
            planes = PLANES.get(frame.sw_format.name) if frame.sw_format else None
            return super()._pixels(unwoven(self._from_gpu, frame, planes) if planes else frame)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _failure(error) from error

    def _is_whole(self, frame: av.VideoFrame) -> bool:
        """Whether a frame has the size of the video: FFmpeg does not crop the left and top of what a GPU decodes."""
        context = self._stream.codec_context
        return (frame.width, frame.height) == (context.width, context.height)


def unwoven(reformatter: VideoReformatter, frame: av.VideoFrame, planes: str) -> av.VideoFrame:
    """A frame in the format ``planes``, to the bit. With more threads swscale makes errors where their parts meet."""
    return reformatter.reformat(frame, format=planes, threads=1)


def _failure(error: Exception) -> NvdecError:
    # What a GPU does after an error is not to be relied on: the next video makes a new context.
    _context.cache_clear()
    return NvdecError(ffmpeg_reason(error))


def nvdec_reads(path: Path, facts: VideoFacts) -> bool:
    """Whether there is a GPU here that decodes the video."""
    try:
        NvdecReader(path, facts, facts.width, facts.height).close()
    except VideoError:
        return False
    return True


def _gpu() -> HWAccel:
    """The settings for decoding on the GPU. Raises VideoError when there is none that can be used."""
    if not READS_FROM_GPU:
        raise VideoError(
            "unsupported", f"there is no GPU that decodes (PyAV {av.__version__} is too old, 18 is needed)"
        )
    if "cuda" not in hwdevices_available():
        raise VideoError("unsupported", "there is no GPU that decodes (this FFmpeg was built without CUDA)")
    try:
        _context()
    except (av.error.FFmpegError, OSError, NotImplementedError) as error:
        raise VideoError("unsupported", f"there is no GPU that decodes ({ffmpeg_reason(error)})") from error
    return HWAccel("cuda", is_hw_owned=True)


@cache
def _context() -> HWAccel:
    """Keeps the GPU's primary context, which is shared by all videos of a process and takes long to make."""
    return HWAccel("cuda", is_hw_owned=True).create(av.codec.Codec("h264", "r"))
