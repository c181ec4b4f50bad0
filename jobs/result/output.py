"""The locations of a result: one Parquet file for each table, or a folder of part files with a manifest."""

import os
from dataclasses import dataclass
from pathlib import Path

from jobs.archive.rules import is_skipped
from jobs.errors import reason
from jobs.storage.address import is_address
from jobs.storage.location import Location, locate, temporary_path
from tagger.errors import OutputError

RESULT_NAMES = frozenset({"tags", "videos", "embeddings", "parts", "manifest.json"})
"""The names in the folder of a result."""


@dataclass(frozen=True)
class Output:
    """The locations of a result, and of the run folder beside it.

    ``out`` is the file or folder that the user names: the table of segments, or a folder with all tables.
    """

    out: Location
    run_folder: Location
    is_folder: bool

    @property
    def tags(self) -> Location:
        """The table of segments: a file, or the folder that readers of ``*.parquet`` read."""
        return self.out.child("tags") if self.is_folder else self.out

    @property
    def videos(self) -> Location:
        """The table of videos: a file, or the folder that readers of ``*.parquet`` read."""
        if self.is_folder:
            return self.out.child("videos")
        return self.out.beside(self.out.name.removesuffix(".parquet") + ".videos.parquet")

    @property
    def embeddings(self) -> Location:
        """The table of embeddings, if the result has them: a file, or the folder that readers of ``*.parquet`` read."""
        if self.is_folder:
            return self.out.child("embeddings")
        return self.out.beside(self.out.name.removesuffix(".parquet") + ".embeddings.parquet")

    @property
    def parts(self) -> Location:
        """The folder of the part files that the manifest of a folder names."""
        return self.out.child("parts")

    @property
    def manifest(self) -> Location:
        """The file that lists the part files of a folder."""
        return self.out.child("manifest.json")


def as_typed(place: Location, typed: str | Path) -> str:
    """Returns a location near ``typed`` as a person would write it who typed that: relative to the folder, or whole."""
    is_whole = is_address(typed) or Path(typed).is_absolute()
    return place.address if is_whole else os.path.relpath(place.path)


def find_output(path: str | Path) -> Output:
    """Returns the locations of a result, which need not exist. Raises OutputError for an unusable address."""
    if not str(path):
        raise OutputError("the name of the result is empty; give the path of a file or a folder")
    try:
        if "\0" in str(path):
            raise ValueError
        str(path).encode()
        location = locate(path)
    except ValueError:
        raise OutputError(f"{path} is no name for a result: it has a NUL byte, or bytes that are not UTF-8") from None
    except OSError as error:
        raise OutputError(f"{path} cannot be reached: {reason(error)}") from error
    if not location.is_local and not location.name:
        raise OutputError(f"{path} is a bucket; name a file or a folder in it, such as {str(path).rstrip('/')}/tags")
    for table in ("videos", "embeddings"):
        if location.name.endswith(f".{table}.parquet"):
            result = location.name.removesuffix(f".{table}.parquet") + ".parquet"
            raise OutputError(f"{path} is the name of a table of {table}; name the result that it belongs to: {result}")
    return Output(location, location.beside(location.name + ".run"), not location.name.endswith(".parquet"))


def choose_output(out: str | Path, *, embeddings: bool = False) -> Output:
    """Returns the locations for ``--out``, without writing anything. Raises OutputError when no result can be there.

    ``embeddings``: the result will have embeddings.
    """
    try:
        output = find_output(out)
        location = output.out
        if location.is_local:
            _check_local(Path(location.path), str(out), is_folder=output.is_folder)
            _check_names(output, str(out), embeddings=embeddings)
        if output.is_folder:
            # File managers and network disks leave hidden files in any folder.
            others = [name for name in location.names() if name not in RESULT_NAMES and not is_skipped(name)]
            if others:
                raise OutputError(
                    f"--out {out} is a folder that holds other things ({others[0]}); choose a new or empty one"
                )
    except OSError as error:
        raise OutputError(f"--out {out} cannot be reached: {reason(error)}") from error
    return output


def _check_names(output: Output, out: str, *, embeddings: bool) -> None:
    """Checks that every file that a run makes can be made: its name is short enough, and nothing is in the way."""
    run_folder = Path(output.run_folder.path)
    tables = [] if output.is_folder else [output.tags, output.videos, *([output.embeddings] if embeddings else [])]
    files = [Path(table.path) for table in tables]
    longest = max(len(os.fsencode(path.name)) for path in (run_folder, *map(temporary_path, files)))
    too_long = longest - os.pathconf(run_folder.parent, "PC_NAME_MAX")
    if too_long > 0:
        raise OutputError(
            f"--out {out}: the name is {too_long} bytes too long for this disk, because vtag adds endings such as "
            f"'.{'embeddings' if embeddings else 'videos'}.parquet' to it; choose a shorter name"
        )
    for path in files:
        if path.is_dir():
            raise OutputError(
                f"--out {out}: {path} is a folder, and vtag writes a file of that name; choose another --out"
            )
    if run_folder.exists() and not run_folder.is_dir():
        raise OutputError(
            f"--out {out}: {run_folder} is a file, and vtag makes a folder of that name; choose another --out"
        )


def _check_local(path: Path, out: str, *, is_folder: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"--out {out}: the folder {path.parent} does not exist; create it or choose another --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: the folder {path.parent} cannot be written; choose another --out")
    if not is_folder and path.is_dir():
        raise OutputError(f"--out {out} is a folder, but .parquet means one file; choose another --out")
    if is_folder and path.is_symlink() and not path.exists():
        raise OutputError(f"--out {out} is a link to {path.readlink()}, which does not exist; choose another --out")
    if is_folder and path.exists():
        if not path.is_dir():
            raise OutputError(f"--out {out} is an existing file; choose a name ending in .parquet, or a new folder")
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"--out {out} cannot be written; choose another --out")
