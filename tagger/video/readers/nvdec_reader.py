"""The NVDEC reader. It decodes on an NVIDIA GPU and copies only needed frames from GPU memory."""

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
from tagger.video.frames import undamaged_frames
from tagger.video.pyav_versions import READS_FROM_GPU
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName

NVDEC_CODECS = frozenset({"h264", "hevc", "vp9"})
"""Codecs that FFmpeg decodes on the GPU, with a bit-exact definition of the decoded pictures."""

GPU_FORMAT = "cuda"
"""FFmpeg's name for the pixel format of frames in GPU memory."""

PLANAR_FORMATS = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""The planar format, as decoded on a CPU, for each interleaved format of the GPU."""


class NvdecError(Exception):
    """Decoding failed on the GPU. A CPU may still decode the video."""


class NvdecReader(PyAVReader):
    """Reads frames with PyAV that the GPU decodes. Needed frames are copied from the GPU and scaled on the CPU.

    Opening raises VideoError when there is no GPU, or when it cannot decode the video. Later errors raise NvdecError:
    the cause may be the GPU or the video, so they are not reported as errors of the video.
    """

    name: DecoderName = "pyav-nvdec"

    def __init__(
        self, path: Path, facts: VideoFacts, width: int, height: int, on_packet: Callable[[], None] = lambda: None
    ):
        hwaccel = _gpu_settings()
        try:
            super().__init__(path, facts, width, height, on_packet, hwaccel)
        except VideoError as error:
            # The CPU reader will report an error if the video is the cause.
            raise VideoError("unsupported", f"{path}: the GPU does not open it") from error
        self._from_gpu = VideoReformatter()
        try:
            # GPUs support different profiles and sizes. If one is not supported, FFmpeg silently decodes on the CPU.
            frames = undamaged_frames(super()._decoded(), path)
            first = next(frames, None)
            if first is None or first.format.name != GPU_FORMAT or not self._has_full_size(first):
                raise VideoError("unsupported", f"{path}: the GPU does not decode it")
        except VideoError:
            self.close()
            raise
        self._frames = chain([first], frames)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        try:
            yield from self._frames
        except VideoError as error:
            raise _gpu_failure(error) from error

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if not self._has_full_size(frame):
            raise NvdecError("a frame has another size than the video")
        try:
            planes = PLANAR_FORMATS.get(frame.sw_format.name) if frame.sw_format else None
            return super()._pixels(to_planar(self._from_gpu, frame, planes) if planes else frame)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _gpu_failure(error) from error

    def _has_full_size(self, frame: av.VideoFrame) -> bool:
        """Checks that a frame has the size of the video. FFmpeg does not crop the left and top of frames on a GPU."""
        context = self._stream.codec_context
        return (frame.width, frame.height) == (context.width, context.height)


def to_planar(reformatter: VideoReformatter, frame: av.VideoFrame, planes: str) -> av.VideoFrame:
    """Converts a frame to the format ``planes``, bit-exact. With several threads swscale makes errors at the seams."""
    return reformatter.reformat(frame, format=planes, threads=1)


def _gpu_failure(error: Exception) -> NvdecError:
    # The GPU context is not reliable after an error, so the next video creates a new one.
    _context.cache_clear()
    return NvdecError(ffmpeg_reason(error))


def nvdec_reads(path: Path, facts: VideoFacts) -> bool:
    """Checks whether there is a GPU that decodes the video."""
    try:
        NvdecReader(path, facts, facts.width, facts.height).close()
    except VideoError:
        return False
    return True


def _gpu_settings() -> HWAccel:
    """Returns the settings for decoding on the GPU. Raises VideoError when there is no usable GPU."""
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
    """Returns the GPU's primary context. It is slow to create and is shared by all videos of a process."""
    return HWAccel("cuda", is_hw_owned=True).create(av.codec.Codec("h264", "r"))
