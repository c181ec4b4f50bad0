"""Measures how well models label clips that fill only a part of a wider or taller picture.

    python -m tests.benchmarks.wide CLIPS --model MODEL [--model MODEL ...] [--count N]

CLIPS is what `vtag train` takes, with test clips that the models were not trained on; N test clips of each class are
used. Each of them is set into a 16:9 picture of its own height, to the left, in the middle and to the right, and into a
9:16 picture of its own width, at the top, in the middle and at the bottom. The rest of the picture shows the edges of
the clip's first frame, blurred. The script prints the accuracy by video for each place.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import click
import numpy as np
from PIL import Image, ImageFilter

from tagger import load_model
from training import clips_of_split, evaluate_clips, read_data_set
from training.data.data_set import LabelledClip

WIDE = 16 / 9
"""Longer side of the pictures as a multiple of the shorter one."""

BLUR_PX = 24

PLACES = {
    "as it is": None,
    **{f"16:9, {name}": ("width", share) for name, share in (("left", 0.0), ("middle", 0.5), ("right", 1.0))},
    **{f"9:16, {name}": ("height", share) for name, share in (("top", 0.0), ("middle", 0.5), ("bottom", 1.0))},
}
"""The side of the picture that is longer than the clip, and the share of the rest that comes before the clip."""


@click.command(help=__doc__)
@click.argument("clips", type=click.Path(exists=True, path_type=Path))
@click.option("--model", "models", multiple=True, required=True)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True)
def main(clips: Path, models: tuple[str, ...], count: int) -> None:
    """Measures and prints."""
    taggers = [load_model(model) for model in models]
    with tempfile.TemporaryDirectory() as folder:
        chosen = list(some(clips_of_split(taggers[0], read_data_set(clips), "test"), count))
        print(f"{len(chosen)} clips", *models, sep=" | ")
        for name, place in PLACES.items():
            placed = chosen
            if place is not None:
                placed = [set_into(clip, Path(folder, f"{number}.mkv"), *place) for number, clip in enumerate(chosen)]
            found = [evaluate_clips(tagger, placed).videos.accuracy for tagger in taggers]
            print(name, *(f"{accuracy:.3f}" for accuracy in found), sep=" | ", flush=True)


def some(clips: list[LabelledClip], count: int) -> Iterator[LabelledClip]:
    """Yields ``count`` clips of each class, of different groups as far as there are so many."""
    by_class: dict[str, dict[str, list[LabelledClip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        by_class[clip.label][clip.group].append(clip)
    for groups in by_class.values():
        in_turns = (clip for rank in range(len(clips)) for group in groups.values() for clip in group[rank : rank + 1])
        yield from [clip for _, clip in zip(range(count), in_turns, strict=False)]


def set_into(clip: LabelledClip, target: Path, side: str, share: float) -> LabelledClip:
    """Writes the clip as a part of a larger picture, and returns it. ``side`` and ``share`` are those of ``PLACES``."""
    with av.open(str(clip.path)) as before, av.open(str(target), "w") as after:
        stream = before.streams.video[0]
        rate = stream.average_rate or 25
        encoder = after.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        scene, top, left = np.empty((0, 0, 3), np.uint8), 0, 0
        for number, frame in enumerate(before.decode(stream)):
            pixels = frame.to_ndarray(format="rgb24")
            height, width = pixels.shape[:2]
            if not number:
                whole = {"width": width, "height": height}
                other = height if side == "width" else width
                whole[side] = max(whole[side], round(other * WIDE / 2) * 2)
                top, left = round((whole["height"] - height) * share), round((whole["width"] - width) * share)
                rest = (top, whole["height"] - height - top), (left, whole["width"] - width - left), (0, 0)
                picture = Image.fromarray(np.pad(pixels, rest, mode="edge"))
                scene = np.array(picture.filter(ImageFilter.GaussianBlur(BLUR_PX)))
                encoder.width, encoder.height, encoder.pix_fmt = scene.shape[1], scene.shape[0], "yuv420p"
            scene[top : top + height, left : left + width] = pixels
            shown = av.VideoFrame.from_ndarray(scene, format="rgb24")
            shown.pts, shown.time_base = number, 1 / rate
            after.mux(encoder.encode(shown))
        after.mux(encoder.encode())
    return replace(clip, path=target, start_s=0.0, end_s=None)


if __name__ == "__main__":
    main()
