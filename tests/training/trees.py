"""Small data sets for tests, learnt in seconds: each class is a square that moves in one direction in one colour."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLASSES = {"Across": ((4, 0), (230, 60, 60)), "Down": ((0, 4), (60, 60, 230))}
"""For each class, the pixels that the square moves per frame to the right and downwards, and its colour."""


def write_clip(path: Path, label: str, seed: int, *, frames: int = 40) -> Path:
    """Encodes the moving square of ``label``, as ``write_square``."""
    step, colour = CLASSES[label]
    return write_square(path, step, colour, seed, frames=frames)


def write_square(
    path: Path, step: tuple[int, int], colour: tuple[int, int, int], seed: int, *, frames: int = 40
) -> Path:
    """Encodes a square of ``colour`` on noise, moving ``step`` per frame; MPEG-1 for ``.mpg``, H.264 otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    noise = random.integers(0, 20, (72, 96, 3), dtype=np.uint8)
    dx, dy = step
    x, y = random.integers(0, 72, 2)
    with av.open(str(path), "w", format="mpeg" if path.suffix == ".mpg" else None) as container:
        stream = container.add_stream("mpeg1video" if path.suffix == ".mpg" else "libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for i in range(frames):
            picture = noise.copy()
            left, top = (x + dx * i) % 72, (y + dy * i) % 48
            picture[top : top + 24, left : left + 24] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def ucf101_tree(root: Path, *, groups: int = 5, clips: int = 1) -> Path:
    """Makes a tree in the layout of UCF-101: ``Class/v_Class_gNN_cNN.mp4``."""
    for label in CLASSES:
        for group in range(1, groups + 1):
            for clip in range(1, clips + 1):
                seed = hash_of(label, group, clip)
                write_clip(root / label / f"v_{label}_g{group:02}_c{clip:02}.mp4", label, seed)
    return root


def ucf11_tree(root: Path, *, groups: int = 3) -> Path:
    """Makes a tree in the layout of UCF-11: ``class/v_name_NN/v_name_NN_NN.mpg`` and ``class/Annotation``."""
    for label, name in (("Across", "across"), ("Down", "falling")):
        for group in range(1, groups + 1):
            folder = root / label.lower() / f"v_{name}_{group:02}"
            write_clip(folder / f"v_{name}_{group:02}_01.mpg", label, hash_of(label, group, 1))
        annotation = root / label.lower() / "Annotation"
        annotation.mkdir()
        (annotation / f"v_{name}_01_01.xgtf").write_text("<viper/>")
        (annotation / f"v_{name}_01_01.mpg").write_bytes(b"not a clip")
    return root


def hash_of(label: str, group: int, clip: int) -> int:
    """Returns a seed that is the same in every process."""
    return sum(map(ord, label)) * 10_000 + group * 100 + clip
