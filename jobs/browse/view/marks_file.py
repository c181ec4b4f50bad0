"""The file in which a served page keeps its marks. Each save names the version that it replaces, so none is lost."""

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path

from jobs.browse.csv_rows import read_rows
from jobs.browse.marks import COLUMNS, Mark, read_marks
from jobs.errors import reason
from jobs.storage.location import locate
from tagger.errors import InputError, OutputError
from training.data.csv_table import open_csv

HEADER = (*COLUMNS, "label")
"""The columns of the file."""

EMPTY = f"{','.join(HEADER)}\n"

TOLERANCE_S = 0.001
"""Seconds by which marks may overlap. The page counts in whole milliseconds."""


class OtherVersionError(Exception):
    """The file has changed since the version that a save replaces."""


class MarksFile:
    """A CSV file of marks that may not be there yet. Raises OutputError when it cannot be used.

    A file with other columns, with rows without a label, or with marks of two labels that overlap is not touched,
    because a save would lose them.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        if path.exists():
            columns = [name.strip().lower() for name in open_csv(path, COLUMNS).columns]
            if sorted(columns) != sorted(HEADER):
                raise OutputError(
                    f"{path} has other columns than {', '.join(HEADER)}, which would be lost; give another file with "
                    "--marks"
                )
            unmarked = sum(not row.get("label") for _, row in read_rows(path, COLUMNS, COLUMNS[1:]))
            if unmarked:
                raise OutputError(
                    f"{path} has {unmarked} rows without a label, which would be lost; give another file with --marks"
                )
            overlapping = _overlapping(read_marks(path))
            if overlapping is not None:
                raise OutputError(
                    f"{overlapping.where} overlaps a mark with another label, and the page keeps one label for each "
                    "moment; give another file with --marks"
                )
        elif not path.absolute().parent.is_dir():
            raise OutputError(f"--marks {path}: the folder {path.absolute().parent} does not exist")

    def read(self) -> tuple[str, str]:
        """Returns the text of the file, and its version. Raises InputError when it cannot be read."""
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            text = EMPTY
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {reason(error)}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path} is not in UTF-8 any more") from error
        return text, version_of(text)

    def save(self, text: str, replaces: str | None) -> str:
        """Replaces the version ``replaces`` of the file, atomically, and returns the new version.

        Raises OtherVersionError, and InputError for a text that is no list of marks or cannot be written.
        """
        with self._lock:
            if self.read()[1] != replaces:
                raise OtherVersionError
            try:
                with locate(self.path).atomic_write() as temporary:
                    temporary.write_bytes(text.encode())
                    try:
                        read_marks(temporary)
                    except InputError as error:
                        raise InputError(str(error).replace(str(temporary), str(self.path))) from error
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {reason(error)}") from error
            return version_of(text)


def _overlapping(marks: Iterable[Mark]) -> Mark | None:
    """Returns a mark that begins in one with another label; None when there is none."""
    last: Mark | None = None
    for mark in sorted(marks, key=lambda mark: (mark.video, mark.start_s, mark.end_s)):
        if last is not None and mark.video == last.video:
            is_same = (mark.label, mark.is_denial) == (last.label, last.is_denial)
            if not is_same and mark.start_s < last.end_s - TOLERANCE_S:
                return mark
            if mark.end_s <= last.end_s:
                continue
        last = mark
    return None


def version_of(text: str) -> str:
    """Returns the version of a text, as an entity tag of HTTP."""
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
