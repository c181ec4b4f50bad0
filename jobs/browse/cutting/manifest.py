"""The manifest in a folder of clips, a CSV file that ``vtag train`` reads."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from jobs.storage.location import locate
from tagger.errors import OutputError

MANIFEST = "manifest.csv"
"""The name of the manifest in the folder of clips."""


@dataclass(frozen=True)
class Clip:
    """A clip that was written: a row of the manifest.

    ``path`` is relative to the folder of clips. ``group`` is the source video, ``source_start_s`` and ``source_end_s``
    the wanted span of it, and ``begins_s`` the time in it at which the clip begins.
    """

    path: str
    label: str
    group: str
    confidence: float
    source_start_s: float
    source_end_s: float
    begins_s: float


COLUMNS = [field.name for field in fields(Clip)]
"""The columns of the manifest."""


def read_manifest(out: Path) -> dict[str, dict[str, object]]:
    """Returns the rows of the manifest of ``out`` by path. Raises OutputError when ``vtag cut`` did not write it."""
    manifest = out / MANIFEST
    if not manifest.exists():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if list(reader.fieldnames or ()) != COLUMNS:
                raise ValueError
            return {row["path"]: dict(row) for row in reader}
    except (ValueError, csv.Error):
        raise OutputError(
            f"{manifest} is no manifest of vtag cut, which would replace it; choose another --out"
        ) from None


def add_to_manifest(out: Path, clips: Sequence[Clip]) -> None:
    """Adds ``clips`` to the manifest of ``out``. Entries of clips that are no longer there are left out."""
    rows = read_manifest(out) | {clip.path: asdict(clip) for clip in clips}
    kept = [row for path, row in sorted(rows.items()) if (out / path).is_file()]
    with locate(out / MANIFEST).atomic_write() as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(kept)
