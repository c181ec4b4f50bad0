"""Encodes frames as H.264."""

from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.filter import Graph

if TYPE_CHECKING:
    from av.container import OutputContainer

TURNS = {90: ["transpose=clock"], 180: ["hflip", "vflip"], 270: ["transpose=cclock"]}
"""FFmpeg's filters that turn a picture clockwise, by degrees."""

EXACT_OPTIONS = {"preset": "veryfast", "crf": "18"}
"""Options of libx264. With a rate factor of 18 a difference to the source is hard to see."""


EVEN = "crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0"
"""FFmpeg's filter that cuts the last row and column off if their number is odd."""


def upright_graph(
    first: "av.VideoFrame", time_base: Fraction, pixels: str, turn: int, *, is_mirrored: bool, is_cropped: bool = False
) -> Graph:
    """Returns a graph that mirrors frames like ``first`` if needed, turns them by ``turn`` degrees, and converts them.

    ``pixels`` is the format of the pixels that it gives. With ``is_cropped`` the sizes that it gives are even.
    """
    graph = Graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=time_base)
    nodes = [source]
    for text in (*["hflip"] * is_mirrored, *TURNS.get(turn, []), *[EVEN] * is_cropped, f"format={pixels}"):
        name, _, arguments = text.partition("=")
        nodes.append(graph.add(name, arguments))
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


class FrameWriter:
    """Encodes frames of one size and format as H.264.

    They are first mirrored left to right if they are ``is_mirrored``, then turned clockwise by ``turn`` degrees.
    ``aspect`` is the width of a pixel of theirs over its height. With ``for_browsers`` an odd row or column is cut off,
    because browsers play no H.264 of odd sizes.
    """

    def __init__(
        self,
        output: "OutputContainer",
        first: "av.VideoFrame",
        rate: Fraction,
        aspect: Fraction,
        turn: int = 0,
        *,
        is_mirrored: bool = False,
        for_browsers: bool = False,
    ):
        self._output = output
        self._time_base = Fraction(1, 90_000)
        is_lying = turn in (90, 270)
        width, height = (first.height, first.width) if is_lying else (first.width, first.height)
        # H.264 with halved colour planes has even sizes only.
        is_odd = bool(width % 2 or height % 2)
        is_cropped = is_odd and for_browsers
        if is_cropped:
            width, height = width // 2 * 2, height // 2 * 2
        pixels = "yuv444p" if is_odd and not is_cropped else "yuv420p"
        self._graph = upright_graph(
            first, self._time_base, pixels, turn, is_mirrored=is_mirrored, is_cropped=is_cropped
        )
        self._encoder = output.add_stream("libx264", rate=rate, options=EXACT_OPTIONS)
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = width, height, pixels
        self._encoder.codec_context.sample_aspect_ratio = 1 / aspect if is_lying else aspect
        self._encoder.codec_context.time_base = self._time_base
        self._is_open = False

    def write(self, frame: "av.VideoFrame", time_s: float) -> None:
        """Encodes a frame that is shown from ``time_s`` on."""
        frame.pts, frame.time_base = round(time_s / self._time_base), self._time_base
        self._graph.vpush(frame)
        upright = self._graph.vpull()
        if not self._is_open:
            context = self._encoder.codec_context
            context.color_range, context.colorspace = upright.color_range, upright.colorspace
            context.color_primaries, context.color_trc = upright.color_primaries, upright.color_trc
            self._is_open = True
        # The encoder chooses the key frames.
        upright.pict_type = av.video.frame.PictureType.NONE
        self._output.mux(self._encoder.encode(upright))

    def close(self) -> None:
        """Writes the frames that the encoder has held back."""
        self._output.mux(self._encoder.encode(None))
