"""Writes the manifest of the clips of the built-in model's card, with their groups and their split.

    python -m tests.benchmarks.card_clips CLIPS --out clips.csv

CLIPS has a folder UCF-101 with folders of its classes, and a folder surveillance with the folders Fight and background,
whose clips are named v_Fight_gNNN_cNNN.mp4: NNN is the video that a clip was cut from. Groups 17 to 20 of UCF-101 are
the test, and group 10 is for validation. Of the videos of surveillance cameras every third is in the test.
"""

import csv
import re
from pathlib import Path

import click

VALIDATION_CAMERAS = (20, 29, 38)


@click.command(help=__doc__)
@click.argument("clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(clips: Path, out: Path) -> None:
    """Writes the manifest."""
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "split"])
        for source in ("UCF-101", "surveillance"):
            for path in sorted((clips / source).glob("*/v_*_g*_c*.*")):
                number = int(re.search(r"_g(\d+)_c\d+$", path.stem)[1])  # type: ignore[index]
                label = path.parent.name
                if source == "UCF-101":
                    group = f"{number:02}"
                    part = "test" if number >= 17 else "val" if number == 10 else "train"
                else:
                    group = f"camera_{number:03}"
                    part = "test" if number % 3 == 1 else "val" if number in VALIDATION_CAMERAS else "train"
                writer.writerow([path.absolute(), label, group, part])


if __name__ == "__main__":
    main()
