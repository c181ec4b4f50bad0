"""A video for measurements, made up where the user has named none."""

from fractions import Fraction
from pathlib import Path

import av

RATE = 25


def make_sample(path: Path, *, size: str = "320x240", seconds: int = 60, preset: str = "veryfast") -> Path:
    """Writes H.264 in which much moves, with B-frames and a key frame every 2 s; ``preset`` is one of x264's."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={size}:rate={RATE}:duration={seconds}")
    # Grain, without which drawn pictures are decoded faster than filmed ones.
    grain = graph.add("noise", "alls=5:allf=t:all_seed=1")
    planes = graph.add("format", "yuv420p")
    sink = graph.add("buffersink")
    for before, after in ((source, grain), (grain, planes), (planes, sink)):
        before.link_to(after)
    graph.configure()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": preset, "crf": "28", "g": str(2 * RATE)})
        stream.width, stream.height = map(int, size.split("x"))
        stream.pix_fmt = "yuv420p"
        for number in range(seconds * RATE):
            frame = graph.vpull()
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
