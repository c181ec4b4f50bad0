"""Where a result goes: one Parquet file for each table, or a folder of part files."""

import os
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import OutputError


@dataclass(frozen=True)
class Output:
    """The places of a result: both tables (files, or folders of parts) and the run folder beside them."""

    out: Path
    tags: Path
    videos: Path
    run: Path
    is_folder: bool


def choose_output(out: Path, *, overwrite: bool = False) -> Output:
    """Where the result of ``--out`` goes, checked to be writable before anything is done.

    Raises OutputError for an existing result without ``overwrite``, a folder that holds something else, or a place that
    cannot be written.
    """
    if "://" in str(out) or str(out).split("/")[0] in ("s3:", "gs:", "http:", "https:"):
        raise OutputError(f"--out {out}: buckets are not supported yet; write to a local path and copy it")
    path = Path(os.path.abspath(out))  # noqa: PTH100 - Path.absolute keeps ".."
    run = path.with_name(path.name + ".run")
    if not path.parent.is_dir():
        raise OutputError(f"--out {out}: the folder {path.parent} does not exist; create it or choose another --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: the folder {path.parent} cannot be written; choose another --out")
    if path.suffix == ".parquet":
        output = Output(path, path, path.with_name(path.stem + ".videos.parquet"), run, is_folder=False)
        if path.is_dir():
            raise OutputError(f"--out {out} is a folder; a single file cannot take its place")
    else:
        output = Output(path, path / "tags", path / "videos", run, is_folder=True)
        if path.exists() and not path.is_dir():
            raise OutputError(f"--out {out} is an existing file; choose a name ending in .parquet, or a new folder")
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        if not names <= {"tags", "videos", ".tags.tmp", ".videos.tmp"}:
            raise OutputError(f"--out {out} is a folder that holds other things; choose a new or empty one")
        if names and not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"--out {out} cannot be written; choose another --out")
    # The tags are put in place last: while they are missing, a job that stopped in between can finish.
    if not overwrite and (output.tags.exists() or (output.videos.exists() and not run.exists())):
        raise OutputError(f"{output.out} exists; use --overwrite to replace it, or choose another --out")
    return output
