"""A video for measurements, made up where the user has named none."""

from fractions import Fraction
from pathlib import Path

import av

SECONDS, RATE, SIZE = 60, 25, "320x240"


def make_sample(path: Path) -> Path:
    """Writes a minute of H.264 in which much moves, with B-frames and a key frame every 2 s."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={SIZE}:rate={RATE}:duration={SECONDS}")
    # Grain, without which drawn pictures are decoded faster than filmed ones.
    grain = graph.add("noise", "alls=5:allf=t:all_seed=1")
    planes = graph.add("format", "yuv420p")
    sink = graph.add("buffersink")
    for before, after in ((source, grain), (grain, planes), (planes, sink)):
        before.link_to(after)
    graph.configure()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "crf": "28", "g": str(2 * RATE)}
        )
        stream.width, stream.height = map(int, SIZE.split("x"))
        stream.pix_fmt = "yuv420p"
        for number in range(SECONDS * RATE):
            frame = graph.vpull()
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
