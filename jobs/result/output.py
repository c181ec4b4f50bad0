"""Where a result goes: one Parquet file for each table, or a folder of part files with a manifest."""

import os
from dataclasses import dataclass
from pathlib import Path

from jobs.archive.rules import is_skipped
from jobs.errors import reason
from jobs.storage.location import Location, locate
from tagger.errors import OutputError

OWN = frozenset({"tags", "videos", "manifest.json"})
"""What a result that is a folder is made of."""


@dataclass(frozen=True)
class Output:
    """The places of a result, and of the run folder beside it."""

    out: Location
    run_folder: Location
    is_folder: bool

    @property
    def tags(self) -> Location:
        """Where the segments are: a file, or a folder of parts."""
        return self.out.child("tags") if self.is_folder else self.out

    @property
    def videos(self) -> Location:
        """Where the videos are: a file, or a folder of parts."""
        if self.is_folder:
            return self.out.child("videos")
        return self.out.beside(self.out.name.removesuffix(".parquet") + ".videos.parquet")

    @property
    def manifest(self) -> Location:
        """What says which parts a folder is made of."""
        return self.out.child("manifest.json")


def find_output(path: str | Path) -> Output:
    """Where the result at ``path`` is, if there is one. Raises OutputError for an address that cannot be."""
    try:
        location = locate(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be reached: {reason(error)}") from error
    if not location.is_local and not location.name:
        raise OutputError(f"{path} is a bucket; name a file or a folder in it, such as {str(path).rstrip('/')}/tags")
    if location.name.endswith(".videos.parquet"):
        result = location.name.removesuffix(".videos.parquet") + ".parquet"
        raise OutputError(f"{path} is the name of a table of videos; name the result that it belongs to: {result}")
    return Output(location, location.beside(location.name + ".run"), not location.name.endswith(".parquet"))


def choose_output(out: str | Path) -> Output:
    """Where the result of ``--out`` goes. Nothing is changed there. Raises OutputError for a place that cannot be."""
    try:
        output = find_output(out)
        location = output.out
        if location.is_local:
            _check_local(Path(location.path), str(out), is_folder=output.is_folder)
        if output.is_folder:
            # What file managers and network disks leave in any folder is hidden.
            others = [name for name in location.names() if name not in OWN and not is_skipped(name)]
            if others:
                raise OutputError(
                    f"--out {out} is a folder that holds other things ({others[0]}); choose a new or empty one"
                )
    except OSError as error:
        raise OutputError(f"--out {out} cannot be reached: {reason(error)}") from error
    return output


def _check_local(path: Path, out: str, *, is_folder: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"--out {out}: the folder {path.parent} does not exist; create it or choose another --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: the folder {path.parent} cannot be written; choose another --out")
    if not is_folder and path.is_dir():
        raise OutputError(f"--out {out} is a folder; a single file cannot take its place")
    if is_folder and path.exists():
        if not path.is_dir():
            raise OutputError(f"--out {out} is an existing file; choose a name ending in .parquet, or a new folder")
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"--out {out} cannot be written; choose another --out")
