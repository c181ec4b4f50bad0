"""Encodings of many kinds: codecs, containers, groups of pictures, and references between frames."""

from pathlib import Path

import av
from hypothesis import strategies as st

SECOND = {"g": "30", "keyint_min": "30", "sc_threshold": "0", "bf": "2"}
"""Options for H.264 with a key frame every second at 30 fps."""

X264 = st.builds(
    lambda gop, b, b_pyramid, refs, is_open, refresh: {
        "preset": "veryfast",
        "x264-params": f"keyint={gop}:bframes={b}:b-pyramid={b_pyramid}:ref={refs}:open-gop={is_open}"
        f":intra-refresh={refresh}:b-adapt=0",
    },
    st.integers(1, 50), st.integers(0, 4), st.sampled_from(["none", "strict", "normal"]), st.integers(1, 4),
    st.integers(0, 1), st.sampled_from([0, 0, 0, 1]),
)  # fmt: skip
X265 = st.builds(
    lambda gop, b, is_open, layers: {
        "preset": "ultrafast",
        "x265-params": f"log-level=none:keyint={gop}:min-keyint=1:bframes={b}:open-gop={is_open}"
        f":temporal-layers={layers}",
    },
    st.integers(5, 40), st.integers(0, 4), st.integers(0, 1), st.integers(0, 3),
)  # fmt: skip
MPEG = st.builds(lambda gop, b: {"g": str(gop), "bf": str(b)}, st.integers(1, 40), st.integers(0, 2))
VPX = st.builds(
    lambda gop, lag: {"g": str(gop), "deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": lag},
    st.integers(1, 40),
    st.sampled_from(["0", "12"]),
)
VIDEOS = st.one_of(
    st.tuples(st.just("libx264"), st.sampled_from(["a.mp4", "a.mkv", "a.flv"]), X264),
    st.tuples(st.just("libx265"), st.sampled_from(["a.mp4", "a.mkv"]), X265),
    st.tuples(st.sampled_from(["mpeg2video", "mpeg4"]), st.sampled_from(["a.mp4", "a.mkv"]), MPEG),
    st.tuples(st.sampled_from(["libvpx", "libvpx-vp9"]), st.sampled_from(["a.webm", "a.mkv"]), VPX),
)
"""Codec, file name, and options of an encoder."""


def damage(path: Path, seconds: range) -> Path:
    """Overwrites the data of the frames in these seconds, but not the headers of their units, and returns the path."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.size > 200 and packet.pts is not None and int(packet.pts * packet.time_base) in seconds:
                assert packet.pos is not None
                data[packet.pos + 100 : packet.pos + packet.size - 50] = b"\xa5" * (packet.size - 150)
    path.write_bytes(data)
    return path
