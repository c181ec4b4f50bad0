"""The file in which a served page keeps its marks. Each save names the version that it replaces, so none is lost."""

import hashlib
import threading
from pathlib import Path

from jobs.browse.csv_rows import read_rows
from jobs.browse.marks import COLUMNS, read_marks
from jobs.errors import reason
from jobs.storage.location import locate
from tagger.errors import InputError, OutputError
from training.data.csv_table import open_csv

HEADER = (*COLUMNS, "label")
"""The columns of the file."""

EMPTY = f"{','.join(HEADER)}\n"


class OtherVersionError(Exception):
    """The file has changed since the version that a save replaces."""


class MarksFile:
    """A CSV file of marks that may not be there yet. Raises OutputError when it cannot be used.

    A file with other columns is not touched, because a save would lose them.
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
        elif not path.absolute().parent.is_dir():
            raise OutputError(f"--marks {path}: the folder {path.absolute().parent} does not exist")

    def read(self) -> tuple[str, str]:
        """Returns the text of the file, and its version. Raises OSError."""
        try:
            text = self.path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            text = EMPTY
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
                    read_marks(temporary)
            except OSError as error:
                raise InputError(f"{self.path} cannot be written: {reason(error)}") from error
            return version_of(text)


def version_of(text: str) -> str:
    """Returns the version of a text, as an entity tag of HTTP."""
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
