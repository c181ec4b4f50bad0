"""Files that are either whole or not there: written under another name, brought to disk, renamed."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

COMPRESSION = "zstd"


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file at ``path``, whole or not at all."""
    temporary = temporary_name(path)
    pq.write_table(table, temporary, compression=COMPRESSION)
    put_in_place(temporary, path)


def write_text(text: str, path: Path) -> None:
    """Writes a UTF-8 text file at ``path``, whole or not at all."""
    temporary = temporary_name(path)
    temporary.write_text(text, "utf-8")
    put_in_place(temporary, path)


def temporary_name(path: Path) -> Path:
    """Where ``path`` is written before it is whole: a hidden name in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.tmp")


def put_in_place(temporary: Path, path: Path) -> None:
    """Brings ``temporary`` (a file, or a folder of them) to disk and gives it its name."""
    for file in sorted(temporary.iterdir()) if temporary.is_dir() else [temporary]:
        _sync(file)
    if temporary.is_dir():
        _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
