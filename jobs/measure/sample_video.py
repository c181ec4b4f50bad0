"""Makes a video for measurements when the user names none."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.video.frame import PictureType

H264 = {"preset": "veryfast", "crf": "28", "g": "50"}
RATE = 25


def make_sample(
    path: Path,
    *,
    size: str = "320x240",
    seconds: int = 60,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] = H264,
) -> Path:
    """Writes a video with much motion, by default in H.264 with B-frames and a key frame every 2 s."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={size}:rate={RATE}:duration={seconds}")
    # Without grain, generated pictures are decoded faster than filmed ones.
    grain = graph.add("noise", "alls=5:allf=t:all_seed=1")
    planes = graph.add("format", pixel_format)
    sink = graph.add("buffersink")
    for before, after in ((source, grain), (grain, planes), (planes, sink)):
        before.link_to(after)
    graph.configure()
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=RATE, options=dict(options)))
        stream.width, stream.height = map(int, size.split("x"))
        stream.pix_fmt = pixel_format
        for number in range(seconds * RATE):
            frame = graph.vpull()
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            # The source marks each picture as a key frame; now the encoder decides.
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
