"""Measures by which similarity `vtag similar` tells copies of clips, encoded again, from other clips.

    python -m tests.benchmarks.copies CLIPS [--classes N] [--model MODEL]

CLIPS is a folder of folders of classes with clips that are named as in UCF-101: clips of one group show one scene.
Of two groups of every other class, the first two clips are embedded, and four copies of the first of them. For each
threshold, the script prints which share of the pairs of clips have a segment in common, and one after another.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tagger import Tagger, load_model
from tagger.isolation import decoder_of_this_thread

COPIES = {
    "MPEG-4, 200 kbit/s": ("mpeg4", "avi", 1.0, {}, 0.0),
    "H.264 crf 28, begins 0.8 s later": ("libx264", "mp4", 1.0, {"preset": "veryfast", "crf": "28"}, 0.8),
    "HEVC crf 35, twice the size": (
        "libx265",
        "mp4",
        2.0,
        {"preset": "ultrafast", "x265-params": "log-level=none:crf=35"},
        0.0,
    ),
    "H.264 crf 26, half the size": ("libx264", "mp4", 0.5, {"preset": "veryfast", "crf": "26"}, 0.0),
}
"""Codec, format, scale, options and the seconds that are left out, of each copy."""

THRESHOLDS = (0.85, 0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97)

Vectors = dict[tuple[str, str, str], np.ndarray]
"""The embeddings ``[n, D] float32`` of clips, by class, group and name."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--classes", type=int, default=24)
    parser.add_argument("--model", default="actions38")
    options = parser.parse_args()
    model = load_model(options.model)
    clips: Vectors = {}
    pairs: dict[str, list[np.ndarray]] = {name: [] for name in COPIES}
    with tempfile.TemporaryDirectory() as folder:
        for path in chosen(options.clips, options.classes):
            _, _, group, number = path.stem.split("_")
            vectors = clips[path.parent.name, group, path.stem] = embed(model, path)
            for name, (codec, ending, scale, encoding, skip_s) in COPIES.items() if number == "c01" else ():
                copy = encode_again(path, Path(folder, f"copy.{ending}"), codec, scale, encoding, skip_s)
                pairs[name].append(vectors @ embed(model, copy).T)
    for name, differs in OTHERS.items():
        pairs[name] = [
            clips[one] @ clips[other].T for one, other in itertools.combinations(clips, 2) if differs(one, other)
        ]
    print("share of pairs of clips with a similar segment / with two in a row")
    print("from", *(f"{name} ({len(found)})" for name, found in pairs.items()), sep=" | ")
    for threshold in THRESHOLDS:
        cells = []
        for found in pairs.values():
            lengths = np.array([longest_run(cosines >= threshold) for cosines in found])
            cells.append(f"{(lengths >= 1).mean():.2%} / {(lengths >= 2).mean():.2%}")
        print(threshold, *cells, sep=" | ")


OTHERS: dict[str, Callable[[tuple[str, str, str], tuple[str, str, str]], bool]] = {
    "another clip of the scene": lambda one, other: one[:2] == other[:2],
    "another scene of the class": lambda one, other: one[0] == other[0] and one[1] != other[1],
    "another class": lambda one, other: one[0] != other[0],
}


def chosen(folder: Path, classes: int) -> Iterator[Path]:
    """Yields the first two clips of two groups of every other class."""
    for place in sorted(path for path in folder.iterdir() if path.is_dir())[::2][:classes]:
        clips = sorted(place.glob("v_*_g*_c*.*"))
        for group in sorted({path.stem.split("_")[2] for path in clips})[:2]:
            yield from [path for path in clips if path.stem.split("_")[2] == group][:2]


def embed(model: Tagger, path: Path) -> np.ndarray:
    """Returns the embeddings of the windows of a video, ``[n, D] float32``."""
    spans = decoder_of_this_thread().spans(path, model.sampling, model.source.info.preprocessing)
    found = [model.classifier.classify_and_embed(span.clips)[2] for span in spans if span.windows]
    return np.concatenate(found).astype(np.float32)


def encode_again(source: Path, target: Path, codec: str, scale: float, options: dict[str, str], skip_s: float) -> Path:
    """Writes the video again, with another codec and size, without its first ``skip_s`` seconds."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = before.streams.video[0]
        rate = stream.average_rate or 25
        encoder = after.add_stream(codec, rate=rate, options=options)
        encoder.width, encoder.height = (int(side * scale) // 2 * 2 for side in (stream.width, stream.height))
        encoder.pix_fmt = "yuv420p"
        if not options:
            encoder.bit_rate = 200_000
        frames = itertools.islice(before.decode(stream), round(skip_s * rate), None)
        for number, frame in enumerate(frames):
            scaled = frame.reformat(encoder.width, encoder.height, "yuv420p")
            scaled.pts, scaled.time_base, scaled.pict_type = number, 1 / rate, av.video.frame.PictureType.NONE
            after.mux(encoder.encode(scaled))
        after.mux(encoder.encode())
    return target


def longest_run(similar: np.ndarray) -> int:
    """Returns the longest run of similar segments along the time of both clips."""
    longest = 0
    for shift in range(1 - similar.shape[0], similar.shape[1]):
        for is_similar, run in itertools.groupby(np.diag(similar, shift).tolist()):
            longest = max(longest, len(list(run)) if is_similar else 0)
    return longest


if __name__ == "__main__":
    main()
