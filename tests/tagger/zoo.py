"""A zoo of small generated videos of every kind. The time and the number of each frame are known.

Missing, because FFmpeg cannot write them: WMV3 and VC-1, Theora, RealVideo 3 and 4, H.266.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av

from tests.videos import encode, encode_audio

NTSC = Fraction(30000, 1001)
UNEVEN_S = (0, 0.04, 0.05, 0.31, 0.33, 0.34, 0.36, 0.7, 0.71, 1.15, 1.17, 1.19, 1.21, 1.5, 1.9, 1.91)
B_FRAMES = {"bf": "2"}
ALT_REF = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "12"}
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=12:min-keyint=12:scenecut=0"}
INTERLACED = {"x264-params": "interlaced=1"}
FIELDS = {"flags": "+ildct+ilme", "bf": "2"}


@dataclass(frozen=True)
class Specimen:
    """A video of the zoo.

    ``make`` writes it. ``shown`` has the start in seconds (from the first frame) and the number of each frame; None if
    only the reference decoder knows them. ``pyav`` is a part of the reason why decord does not read it, None if decord
    does. ``pixel_aspect``, ``rotation`` and ``is_mirrored`` are as in VideoFacts. ``is_legible``: the number of a frame
    can be read from its picture. ``sources`` are the names of the videos beside it, made by ``make``, that hold its
    frames one after the other; without them it is itself decoded. ``gap`` has the first frame that cannot be read and
    the first one after it.
    """

    make: Callable[[Path], object]
    shown: tuple[tuple[float, int], ...] | None
    end_s: float | None
    pyav: str | None = None
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    is_legible: bool = True
    is_mirrored: bool = False
    sources: tuple[str, ...] = ()
    gap: tuple[int, int] | None = None


def video(pyav: str | None = None, **settings: Any) -> Specimen:
    """A video that ``encode`` writes, without changes."""
    settings = ({} if "frames" in settings else {"seconds": 2}) | settings
    rate = Fraction(settings.get("rate", 30))
    starts_s = settings.get("times_s")
    if starts_s is None:
        starts_s = [float(i / rate) for i in range(settings.get("frames") or round(settings["seconds"] * rate))]
    return Specimen(
        make=lambda path: encode(path, **settings),
        shown=tuple((float(start_s), number) for number, start_s in enumerate(starts_s)),
        end_s=float(starts_s[-1] + 1 / rate),
        pyav=pyav,
        pixel_aspect=settings.get("sample_aspect") or Fraction(1),
        rotation=settings.get("rotation", 0),
        is_legible=min(settings.get("width", 96), settings.get("height", 64)) >= 16,
    )


def made(
    make: Callable[[Path], object],
    pyav: str | None = None,
    *,
    rate: int = 30,
    numbers: Iterable[int] | None = range(60),
    **other: Any,
) -> Specimen:
    """A video at a constant rate that ``make`` writes, and that shows frames with these ``numbers``."""
    shown = None if numbers is None else tuple((i / rate, number) for i, number in enumerate(numbers))
    return Specimen(make, shown, None if shown is None else len(shown) / rate, pyav, **other)


def remux(
    path: Path,
    sources: list[Path],
    keep: Callable[[int, int], bool] = lambda stream, packet: True,
    late_s: tuple[float, ...] = (),
    cover: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copies the packets of the first stream of each source to a file with one stream for each source.

    ``keep`` is called with the numbers of the stream and the packet. Stream ``i`` starts ``late_s[i]`` seconds later.
    The stream ``cover`` is marked as an attached picture.
    """
    inputs = [av.open(str(source)) for source in sources]
    with av.open(str(path), "w", options=options or {}) as out:
        streams = [out.add_stream_from_template(source.streams[0]) for source in inputs]
        if cover is not None:
            streams[cover].disposition = av.stream.Disposition.attached_pic
        packets = []
        for i, source in enumerate(inputs):
            for number, packet in enumerate(source.demux(source.streams[0])):
                if packet.size and keep(i, number):
                    late = round((late_s[i] if late_s else 0) / packet.time_base)
                    packet.pts += late
                    packet.dts = None if packet.dts is None else packet.dts + late
                    packets.append((float((packet.dts or packet.pts) * packet.time_base), i, packet))
        for _, i, packet in sorted(packets, key=lambda item: item[:2]):
            packet.stream = streams[i]
            out.mux(packet)
    for source in inputs:
        source.close()
    return path


def _beside(path: Path, name: str, **settings: Any) -> Path:
    return encode(path.with_name(f"{path.stem} - {name}"), **{"seconds": 2} | settings)


def _with_sound(path: Path) -> None:
    sound = encode_audio(path.with_name(f"{path.stem} - sound.m4a"), seconds=2.5)
    # Sound is the first stream and starts half a second before the first picture.
    remux(path, [sound, _beside(path, "picture.mp4")], late_s=(0, 0.5))


def _two_videos(path: Path) -> None:
    # A search for the best stream would choose the second one.
    second = _beside(path, "second.mp4", rate=60, width=192, height=128)
    remux(path, [_beside(path, "first.mp4"), second])


def _cover(path: Path) -> None:
    picture = encode(path.with_name(f"{path.stem} - cover.jpg"), codec="mjpeg", frames=1, width=320, height=240)
    remux(path, [picture, _beside(path, "picture.mp4")], cover=0)


def _first_packets_dropped(path: Path) -> None:
    remux(path, [_beside(path, "whole.mkv", options={"g": "12", "bf": "2"})], keep=lambda _, packet: packet >= 5)


def _from_the_second_open_gop(path: Path) -> None:
    whole = _beside(path, "whole.mkv", options=OPEN_GOP)
    with av.open(str(whole)) as source:
        keys = [i for i, packet in enumerate(source.demux(video=0)) if packet.size and packet.is_keyframe]
    remux(path, [whole], keep=lambda _, packet: packet >= keys[1])


def _bytes_dropped(part: float, **settings: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = _beside(path, f"whole{path.suffix}", **settings).read_bytes()
        path.write_bytes(data[int(part * len(data)) :])

    return make


def _end_dropped(**settings: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = _beside(path, f"whole{path.suffix}", **settings).read_bytes()
        # Cut between two packets of the stream, so the cut cannot be detected.
        path.write_bytes(data[: len(data) // 2 // 188 * 188])

    return make


def _joined(path: Path) -> None:
    codec = {".mpg": "mpeg1video", ".ts": "libx264"}[path.suffix]
    parts = [_beside(path, f"{i}{path.suffix}", codec=codec, frames=n) for i, n in enumerate((60, 45))]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def _joined_at_key_frames(path: Path) -> None:
    """Joins recordings in which the last frame, or the one before it, is a key frame."""
    parts = [_beside(path, f"{n}.ts", frames=n, options={"g": "12", "bf": "2"}) for n in (38, 37, 30)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def _appended(frames: int, header_bytes: int = 0, **settings: Any) -> Callable[[Path], None]:
    """A video and another one behind it in the same file, without its first ``header_bytes`` bytes."""

    def make(path: Path) -> None:
        first = _beside(path, f"1{path.suffix}", frames=frames, **settings)
        second = _beside(path, f"2{path.suffix}", frames=45, **settings)
        path.write_bytes(first.read_bytes() + second.read_bytes()[header_bytes:])

    return make


def appended(name: str, pyav: str, header_bytes: int = 0, **settings: Any) -> Specimen:
    """Two videos in one file, of 15 and 45 frames. The first one is shorter than a jump that counts as a restart."""
    stem, suffix = Path(name).stem, Path(name).suffix
    return made(
        _appended(15, header_bytes, **settings),
        pyav,
        numbers=[*range(15), *range(45)],
        sources=(f"{stem} - 1{suffix}", f"{stem} - 2{suffix}"),
    )


def _mirrored(matrix: tuple[int, int, int, int]) -> Callable[[Path], None]:
    """A video with a display matrix (a, b, c, d) that mirrors it."""
    a, b, c, d = (value << 16 for value in matrix)
    return _patched(b"tkhd", 44, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))


HOLE = 27
"""Number of the frame that is lost in a video with a hole. It begins a new group of pictures every 12 frames."""


def holed(name: str, pyav: str = "", **settings: Any) -> Specimen:
    """A video in which a frame is a hole, so that the frames from it to the next key frame are lost."""
    settings = {"options": {"g": "12"} | ({"bf": "0"} if "codec" not in settings else {})} | settings

    def make(path: Path) -> None:
        whole = _beside(path, f"whole{path.suffix}", **settings)
        data = bytearray(whole.read_bytes())
        with av.open(str(whole)) as source:
            packet = [packet for packet in source.demux(video=0) if packet.size][HOLE]
        assert packet.pos is not None
        # The first bytes stay: in some containers the position is that of a header.
        data[packet.pos + 30 : packet.pos + packet.size] = bytes(packet.size - 30)
        path.write_bytes(data)

    sources = (f"{Path(name).stem} - whole{Path(name).suffix}",)
    return made(make, pyav, sources=sources, gap=(HOLE, 36))


def _repeated(path: Path) -> None:
    """A video in which the muxer writes packets of zero bytes for frames that are left out."""
    whole = _beside(path, "whole.avi", codec="mjpeg")
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and (number < 30 or number % 10 == 0):
                packet.stream = stream
                out.mux(packet)


REPEATED = Specimen(
    _repeated,
    tuple((number / 30, number) for number in [*range(30), 30, 40, 50]),
    end_s=51 / 30,
    pyav="",
)


def _growing(path: Path) -> None:
    """A video whose pictures become larger in the middle, with the same aspect ratio."""
    parts = [_beside(path, f"{i}.ts", frames=40, width=96 * i, height=64 * i) for i in (1, 2)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def _growing_matroska(path: Path) -> None:
    joined = path.with_name(f"{path.stem} - joined.ts")
    _growing(joined)
    with av.open(str(joined)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            # The clock of the second part starts again.
            late = 120_000 if number >= 40 else 0
            packet.pts, packet.dts = packet.pts + late, packet.dts + late
            packet.stream = stream
            out.mux(packet)


def _edited(path: Path) -> None:
    """An edit list of two entries: the first half second, and then the second second."""
    data = bytearray(encode(path, seconds=2, options={"bf": "0", "g": "12"}).read_bytes())
    at = data.index(b"elst") - 4
    media_s = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    entries = [(500, 0, 1 << 16), (1000, media_s, 1 << 16)]
    data[at : at + 28] = struct.pack(">I4sII", 40, b"elst", 0, 2) + b"".join(struct.pack(">IiI", *e) for e in entries)
    for box in (b"moov", b"trak", b"edts"):
        start = data.index(box) - 4
        struct.pack_into(">I", data, start, struct.unpack_from(">I", data, start)[0] + 12)
    path.write_bytes(data)


def _patched(pattern: bytes, offset: int, value: bytes, **settings: Any) -> Callable[[Path], None]:
    """A video with ``value`` written ``offset`` bytes after the start of ``pattern``."""

    def make(path: Path) -> None:
        data = bytearray(encode(path, **{"seconds": 2} | settings).read_bytes())
        at = data.index(pattern) + offset
        data[at : at + len(value)] = value
        path.write_bytes(data)

    return make


def _old_metadata(path: Path) -> None:
    encode(path, codec="mpeg4", seconds=2, metadata={"title": "Cafe in 1999"})
    data = path.read_bytes()
    assert b"Cafe" in data
    path.write_bytes(data.replace(b"Cafe", b"Caf\xe9"))


def _live(path: Path) -> None:
    """A file like that of a live camera, which cannot go back to write lengths and index."""
    encode(path, seconds=2, container_options={"live": "1"})


def _piped(path: Path) -> None:
    """A file like that from a pipe: the sizes and counts in its header are those before the first frame."""
    whole = _beside(path, f"whole{path.suffix}", codec="mpeg4")
    with av.open(str(whole)) as source, path.open("wb") as file:
        pipe: Any = SimpleNamespace(write=file.write)
        with av.open(pipe, "w", format=source.format.name) as out:
            stream = out.add_stream_from_template(source.streams[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)


EARLY = Specimen(
    lambda path: encode(path, seconds=2, start_s=-0.5, container_options={"avoid_negative_ts": "disabled"}),
    # The 15 frames before 0 have no times, only durations of 33 ms.
    tuple((0.033 * i if i < 15 else 0.495 + round((i - 15) / 30, 3), i) for i in range(60)),
    end_s=1.995,
    pyav="no times",
)

ZOO: dict[str, Specimen] = {
    # Containers and codecs.
    "h264.mp4": video(),
    "h264 10 bit.mp4": video(pixel_format="yuv420p10le"),
    "h264 444.mp4": video(pixel_format="yuv444p"),
    "hevc.mp4": video(codec="libx265"),
    "hevc 10 bit.mp4": video(codec="libx265", pixel_format="yuv420p10le"),
    "av1.mp4": video("av1 video", codec="libsvtav1", seconds=1),
    "vp9.mp4": video(codec="libvpx-vp9"),
    "mpeg4.mp4": video(codec="mpeg4"),
    "mpeg4 b-frames.mp4": video(codec="mpeg4", options=B_FRAMES),
    "mpeg2.mp4": video(codec="mpeg2video", rate=25, options=B_FRAMES),
    "mjpeg.mp4": video(codec="mjpeg"),
    "index first.mp4": video(container_options={"movflags": "faststart"}),
    "fragments.mp4": video(container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264.mov": video(),
    "prores.mov": video(codec="prores_ks"),
    "prores 444.mov": video(codec="prores_ks", pixel_format="yuv444p10le"),
    "mjpeg.mov": video(codec="mjpeg"),
    "png.mov": video(codec="png", pixel_format="rgb24"),
    "qtrle.mov": video(codec="qtrle", pixel_format="rgb24"),
    "svq1.mov": video(codec="svq1", pixel_format="yuv410p"),
    "cinepak.mov": video(codec="cinepak", pixel_format="rgb24", frames=20),
    "h264.mkv": video(),
    "hevc.mkv": video(codec="libx265"),
    "av1.mkv": video("av1 video", codec="libsvtav1", seconds=1),
    "mpeg2.mkv": video(codec="mpeg2video", rate=25, options=B_FRAMES),
    "mpeg1.mkv": video(codec="mpeg1video", rate=25, options=B_FRAMES),
    "ffv1.mkv": video(codec="ffv1"),
    "mjpeg.mkv": video(codec="mjpeg"),
    "vp8.webm": video(codec="libvpx"),
    "vp8 hidden frames.webm": video(codec="libvpx", options=ALT_REF),
    "vp9.webm": video(codec="libvpx-vp9"),
    "vp9 hidden frames.webm": video(codec="libvpx-vp9", options=ALT_REF),
    "mpeg4.avi": video(codec="mpeg4"),
    "mjpeg.avi": video(codec="mjpeg"),
    "msmpeg4v2.avi": video(codec="msmpeg4v2"),
    "msmpeg4v3.avi": video(codec="msmpeg4v3"),
    "huffyuv.avi": video(codec="huffyuv"),
    "ffv1.avi": video(codec="ffv1"),
    "dv.avi": video(
        codec="dvvideo",
        width=720,
        height=480,
        rate=NTSC,
        frames=12,
        pixel_format="yuv411p",
        sample_aspect=Fraction(8, 9),
    ),
    "h264 b-frames.avi": video("B-frames", options=B_FRAMES),
    "mpeg4 b-frames.avi": video("B-frames", codec="mpeg4", options=B_FRAMES),
    "mpeg1.mpg": video("mpeg files", codec="mpeg1video"),
    "mpeg1 b-frames.mpg": video("mpeg files", codec="mpeg1video", rate=25, options=B_FRAMES),
    "mpeg2.mpg": video("mpeg files", codec="mpeg2video"),
    "mpeg2.vob": video("mpeg files", codec="mpeg2video", rate=25),
    "h264.ts": video("mpegts files"),
    "hevc.ts": video("mpegts files", codec="libx265"),
    "mpeg2.ts": video("mpegts files", codec="mpeg2video", rate=25, options=B_FRAMES),
    "h264.m2ts": video("mpegts files"),
    "h264.flv": video(),
    "flv1.flv": video(codec="flv"),
    "wmv1.wmv": video(codec="wmv1"),
    "wmv2.wmv": video(codec="wmv2"),
    "msmpeg4v3.wmv": video(codec="msmpeg4v3"),
    "picture.gif": video("gif files", codec="gif", rate=25),
    "vp9.mkv": video(codec="libvpx-vp9"),
    "hevc 10 bit.mkv": video(codec="libx265", pixel_format="yuv420p10le"),
    "h264.3gp": video(),
    "mpeg4.3gp": video(codec="mpeg4"),
    "h263.3gp": video(codec="h263", width=176, height=144, sample_aspect=Fraction(12, 11)),
    "mpeg2.mxf": video("mxf files", codec="mpeg2video", rate=25),
    "rv20.rm": video("rm files", codec="rv20", rate=25, width=176, height=144),
    "raw.h264": video("h264 files", rate=25),
    "raw.h265": video("hevc files", codec="libx265", rate=25),
    "raw.m2v": video("mpegvideo files", codec="mpeg2video", rate=25),
    "raw.mjpeg": video("mjpeg files", codec="mjpeg", rate=25),
    # Rates and clocks.
    "1 fps.mp4": video(rate=1, frames=5),
    "15 fps.webm": video(codec="libvpx", rate=15),
    "24 fps.mp4": video(rate=24),
    "ntsc.mp4": video(rate=NTSC),
    "ntsc.mkv": video(rate=NTSC),
    "60 fps.mp4": video(rate=60),
    "120 fps.mkv": video(rate=120, seconds=1),
    "240 fps.mp4": video(rate=240, seconds=1),
    "240 fps.mkv": video(rate=240, seconds=1),
    "240 fps.ts": video("mpegts files", rate=240, seconds=1),
    "uneven.mp4": video(times_s=UNEVEN_S, options={"bf": "0"}),
    "uneven.mkv": video(times_s=UNEVEN_S),
    "uneven.flv": replace(video(times_s=UNEVEN_S, options={"bf": "0"}), end_s=1.92),  # FLV holds no durations.
    "late.mp4": video(start_s=1),
    "late.mkv": video(start_s=1.5),
    "late.webm": video(codec="libvpx", start_s=1),
    "late.flv": video(start_s=1),
    "early.mkv": EARLY,
    "cut by an edit list.mp4": made(lambda p: encode(p, seconds=2, start_s=-0.5), "edit list", numbers=range(15, 60)),
    "cut by an edit list.mov": made(
        lambda p: encode(p, seconds=2, start_s=-0.3, options={"bf": "0"}), "edit list", numbers=range(9, 60)
    ),
    "two edits.mp4": made(_edited, "edit list", numbers=[*range(15), *range(30, 60)]),
    "one frame.mp4": video(frames=1),
    "one frame.mkv": video("", frames=1),
    "one frame.gif": video("gif files", codec="gif", rate=25, frames=1),
    "two frames.mp4": video(frames=2),
    # How frames depend on each other.
    "open gop.mp4": video(options=OPEN_GOP),
    "open gop.mkv": video(options=OPEN_GOP),
    "one long gop.mp4": video(seconds=4, options={"g": "10000", "bf": "3"}),
    "intra only.mp4": video(options={"g": "1"}),
    "interlaced.mp4": video(rate=25, options=INTERLACED),
    "interlaced.mkv": video(rate=25, options=INTERLACED),
    "interlaced.ts": video("mpegts files", rate=25, options=INTERLACED),
    "interlaced.mpg": video("mpeg files", codec="mpeg2video", rate=25, options=FIELDS),
    # Pictures.
    "turned 90.mp4": video("rotation", rotation=90),
    "turned 180.mov": video("rotation", rotation=180),
    "turned 270.mp4": video("rotation", rotation=270),
    "mirrored.mp4": made(_mirrored((-1, 0, 0, 1)), "mirrored", is_mirrored=True),
    "mirrored upside down.mov": made(_mirrored((1, 0, 0, -1)), "rotation", is_mirrored=True, rotation=180),
    "mirrored along the diagonal.mp4": made(_mirrored((0, 1, 1, 0)), "rotation", is_mirrored=True, rotation=270),
    "mirrored along the other diagonal.mp4": made(_mirrored((0, -1, -1, 0)), "rotation", is_mirrored=True, rotation=90),
    "growing.ts": made(_growing, "mpegts files", numbers=[*range(40), *range(40)]),
    "growing.mkv": made(_growing_matroska, numbers=[*range(40), *range(40)]),
    "odd.mp4": video(width=175, height=131),
    "odd.avi": video(codec="mpeg4", width=175, height=131),
    "portrait.mp4": video(width=66, height=98),
    "wide pixels.mp4": video(sample_aspect=Fraction(2)),
    "high pixels.mkv": video(sample_aspect=Fraction(1, 2)),
    "wide pixels.mpg": video("mpeg files", codec="mpeg2video", width=72, height=64, sample_aspect=Fraction(32, 27)),
    "wide pixels, turned.mp4": video("rotation", sample_aspect=Fraction(2), rotation=90),
    "16x16.mp4": video(width=16, height=16),
    "2x2.mp4": video(width=2, height=2),
    "1x1.mp4": video(width=1, height=1),
    "1x1.mkv": video(codec="ffv1", width=1, height=1),
    "1x1.webm": video(codec="libvpx-vp9", width=1, height=1),
    "1x1.avi": video(codec="mpeg4", width=1, height=1),
    "1x1.mpg": video("mpeg files", codec="mpeg1video", width=1, height=1),
    "1x1.flv": video(codec="flv", width=1, height=1),
    "1x1.gif": video("gif files", codec="gif", rate=25, width=1, height=1),
    "3x7.mkv": video(codec="ffv1", width=3, height=7),
    # Headers that are wrong or silent, and other streams.
    "no length.mkv": made(_live, ""),
    "through a pipe.avi": made(_piped, "60 frames but declares"),
    "wrong count.avi": made(_patched(b"avih", 24, struct.pack("<I", 7), codec="mpeg4"), None),
    "wrong length.mp4": made(_patched(b"mdhd", 20, struct.pack(">I", 5)), ""),
    "wrong length.flv": made(_patched(b"duration\0", 9, struct.pack(">d", 0.1), codec="flv"), ""),
    "sound first.mp4": made(_with_sound),
    "sound first.mkv": made(_with_sound),
    "sound first.ts": made(_with_sound, "mpegts files"),
    "two videos.mp4": made(_two_videos, "2 video streams"),
    "two videos.mkv": made(_two_videos, "2 video streams"),
    "cover.mp4": made(_cover, "2 video streams"),
    "old metadata.avi": made(_old_metadata),
    # Cuts and joins.
    "joined.mpg": made(_joined, "mpeg files", numbers=[*range(60), *range(45)]),
    "joined.ts": made(_joined, "mpegts files", numbers=[*range(60), *range(45)]),
    "joined at key frames.ts": made(
        _joined_at_key_frames, "mpegts files", numbers=[*range(38), *range(37), *range(30)]
    ),
    "appended.mp4": appended("appended.mp4", "appended"),
    "appended fragments.mp4": appended(
        "appended fragments.mp4", "appended", container_options={"movflags": "frag_keyframe+empty_moov"}
    ),
    "appended.mov": appended("appended.mov", "appended", codec="mjpeg"),
    "appended.flv": appended("appended.flv", "appended"),
    "restarted.flv": appended("restarted.flv", "same time", header_bytes=13),
    "appended.wmv": appended("appended.wmv", "", codec="wmv2"),
    "appended.mkv": appended("appended.mkv", ""),
    "appended.webm": appended("appended.webm", "", codec="libvpx"),
    "appended.avi": appended("appended.avi", "", codec="mpeg4"),
    # Holes, and packets of zero bytes.
    "hole.mp4": holed("hole.mp4"),
    "hole.mkv": holed("hole.mkv"),
    "hole.flv": holed("hole.flv"),
    "hole.mov": holed("hole.mov", codec="mpeg4"),
    "hole.avi": holed("hole.avi", codec="mpeg4"),
    "hole.webm": holed("hole.webm", codec="libvpx"),
    "hole vp9.webm": holed("hole vp9.webm", "has a hole", codec="libvpx-vp9"),
    "zero bytes.avi": REPEATED,
    "first packets dropped.mkv": made(_first_packets_dropped, "no key frame", numbers=None),
    "first packets dropped.mp4": made(_first_packets_dropped, "", numbers=None),
    "from the second gop.mkv": made(_from_the_second_open_gop, "before the first key frame", numbers=None),
    "from the second gop.mp4": made(_from_the_second_open_gop, "edit list", numbers=None),
    "cut start.ts": made(_bytes_dropped(0.31, options={"g": "12", "bf": "2"}), "mpegts files", numbers=None),
    "cut start.mpg": made(
        _bytes_dropped(0.31, codec="mpeg2video", options={"g": "12", "bf": "2"}), "mpeg files", numbers=None
    ),
    "cut end.ts": made(_end_dropped(options={"g": "12"}), "mpegts files", numbers=None),
}
