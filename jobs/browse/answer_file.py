"""Answers to questions as Parquet files."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from jobs.browse.segments import FinishedResult
from jobs.errors import reason
from jobs.storage.location import Location, locate
from tagger.errors import OutputError


def answer_location(out: str, finished: FinishedResult) -> Location:
    """Returns the location of an answer, before anything is read or written. Raises OutputError for an unusable one.

    A result of ``vtag run`` is never replaced.
    """
    try:
        location = locate(out)
        if not location.name.endswith(".parquet"):
            raise OutputError(f"--out {out}: an answer is one file; give a name that ends in .parquet, or use --csv")
        finished.check_outside(location, "--out")
        files = {str(file) for source in finished.result.sources for file in source.files}
        if str(location) in files or _is_result(location):
            raise OutputError(f"--out {out} is a result of vtag run; choose another name for the answer")
        if location.is_local and not Path(location.path).parent.is_dir():
            raise OutputError(f"--out {out}: the folder {Path(location.path).parent} does not exist")
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no name of a file"
        raise OutputError(f"--out {out} cannot be reached: {why}") from error
    return location


def _is_result(location: Location) -> bool:
    if not location.is_file():
        return False
    try:
        with location.parquet() as file:
            return b"vtag.run" in (file.schema_arrow.metadata or {})
    except OSError:
        return False


def write_answer(location: Location, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Writes ``tables`` to one Parquet file, atomically. Returns the number of rows. Raises OutputError."""
    rows = 0
    try:
        with location.writer(schema) as writer:
            for table in tables:
                writer.write_table(table)
                rows += len(table)
    except OSError as error:
        raise OutputError(f"{location} cannot be written: {reason(error)}") from error
    return rows
