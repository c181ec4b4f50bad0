"""The reader with several threads, for a machine that has more cores than videos to decode."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av

from tagger.video.container import ffmpeg_reason
from tagger.video.damage import Damage, ErrorLog, checked_packets, hole_check
from tagger.video.facts import VideoFacts
from tagger.video.frames import MAX_START_S, MIN_END_SHARE, seconds_between
from tagger.video.readers.pyav_reader import PyAVReader

MAX_THREADS = 16
"""Maximum number of threads of a decoder. FFmpeg warns of more."""

MAX_FRAMES_BYTES = 256 * 2**20
"""Maximum size of the frames that the threads of a decoder work on, one each, because its memory is limited."""

BYTES_PER_PIXEL = 3
"""Size of a pixel: that of 10 bits with a quarter of the colours. Formats with more of it are rare."""


class ThreadsError(Exception):
    """Several threads might not give what one thread gives. So one thread must read the video."""


THREADED_CODECS = frozenset({"h264", "vp9", "av1"})
"""Codecs of which several threads give the same windows as one, also of damaged videos. In HEVC, damage that the
decoder does not notice gave other wrong pixels in 2 of 100 (``tests.benchmarks.threads --mutants 100``)."""


def threads_for(facts: VideoFacts, threads: int) -> int:
    """Returns how many of ``threads`` threads may decode a video, at least 1."""
    if facts.codec not in THREADED_CODECS:
        return 1
    width, height = facts.width, facts.height
    frame_bytes = BYTES_PER_PIXEL * width * height
    return max(1, min(threads, MAX_THREADS, MAX_FRAMES_BYTES // max(1, frame_bytes)))


class ThreadedReader(PyAVReader):
    """Reads with PyAV and several threads, which decode several frames at a time. The frames are the same.

    Threads see damage in later frames before the frames before it have come out, so what is lost around damage would
    depend on them. Reading raises ThreadsError at the first sign of damage, before any frame that one thread would not
    give, and when there are no frames.

    It is also raised for H.264 with B-frames. FFmpeg marks a frame whose lost parts it has patched when the frame has
    been decoded. Where frames are reordered, another thread may have passed it on before, without the mark.
    """

    def __init__(
        self,
        path: Path,
        facts: VideoFacts,
        width: int,
        height: int,
        threads: int,
        on_packet: Callable[[], None] = lambda: None,
    ):
        super().__init__(path, facts, width, height, on_packet)
        self._threads = threads

    def close(self) -> None:
        """See Reader.close."""
        # PyAV holds Python's lock while it frees a decoder, which waits for its threads. A thread that logs an error
        # waits for that lock. Flushing waits for the threads without the lock.
        self._stream.codec_context.flush_buffers()
        super().close()

    def _decoded(self) -> Iterator[av.VideoFrame | Damage]:
        for frame in super()._decoded():
            if isinstance(frame, Damage):
                raise ThreadsError(frame.reason)
            yield frame

    def _decoded_video(self) -> Iterator[av.VideoFrame | Damage]:
        decoder = self._stream.codec_context
        decoder.thread_count, decoder.thread_type = self._threads, "AUTO"
        log, has_hole = ErrorLog(), hole_check(decoder)
        first_packet: av.Packet | None = None
        position, has_frames, missing = 0, False, 0
        try:
            for packet, is_lost in checked_packets(self._container, self._stream):
                self._note_packet(packet)
                first_packet = first_packet or packet
                position = packet.pos or position
                if not packet.size and packet.dts is not None:
                    # To a decoder, an empty packet would be the end of the video.
                    self._on_repeat(packet)
                    continue
                is_encrypted = packet.is_keyframe and packet.has_sidedata("encryption_info")
                if is_encrypted or is_lost or has_hole(bytes(packet)):
                    raise ThreadsError("its data are damaged")
                if decoder.name == "h264" and decoder.has_b_frames:
                    raise ThreadsError("it has B-frames")
                missing += packet.size > 0 and not packet.is_discard
                frames = decoder.decode(packet)
                missing -= len(frames)
                if log.has_new_errors():
                    raise ThreadsError("the decoder logged an error")
                for frame in frames:
                    if frame.is_corrupt:
                        raise ThreadsError("a frame is damaged")
                    if not has_frames and seconds_between(first_packet, frame) > MAX_START_S:
                        raise ThreadsError("it does not begin with a key frame")
                    has_frames = True
                    yield frame
        except (av.error.FFmpegError, ValueError) as error:
            raise ThreadsError(ffmpeg_reason(error)) from error
        is_mpegts = self._container.format.name == "mpegts"
        # At the end of a video, PyAV hides an error behind the frames that come out before it, and those after it.
        if not has_frames or missing or (is_mpegts and position < MIN_END_SHARE * self._container.size):
            raise ThreadsError("frames are missing")
