"""Columns that later versions of vtag added. Older results lack them; they are read as null."""

import errno

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.storage.location import Location

ADDED_COLUMNS = frozenset({"ood_score", "attempts", "read_s", "gaps", "stream_start_s"})
"""Columns that files of vtag 0.1.0 may lack."""


def matches_schema(found: pa.Schema, schema: pa.Schema) -> bool:
    """Checks whether ``found`` has the columns of ``schema``. Those of ``ADDED_COLUMNS`` may be missing."""
    lacking = ADDED_COLUMNS.difference(found.names)
    return found.equals(pa.schema([field for field in schema if field.name not in lacking]))


def check_columns(file: Location, opened: pq.ParquetFile, schema: pa.Schema) -> None:
    """Raises OSError when the columns of ``file`` are not those of ``schema``."""
    if not matches_schema(opened.schema_arrow, schema):
        raise OSError(errno.EINVAL, "its columns are not those of a result of vtag", str(file))


def fill_added_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns ``rows``, whose columns match ``schema``, with all its columns. Missing ``ADDED_COLUMNS`` are null."""
    present = set(rows.schema.names)
    columns = [rows[f.name] if f.name in present else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)
