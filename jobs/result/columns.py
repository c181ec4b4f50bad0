"""Columns that later versions of vtag added. Older results lack them; they are read as null."""

import pyarrow as pa

ADDED_COLUMNS = frozenset({"ood_score", "attempts"})
"""Columns that files of vtag 0.1.0 may lack."""


def matches_schema(found: pa.Schema, schema: pa.Schema) -> bool:
    """Checks whether ``found`` has the columns of ``schema``. Those of ``ADDED_COLUMNS`` may be missing."""
    lacking = ADDED_COLUMNS.difference(found.names)
    return found.equals(pa.schema([field for field in schema if field.name not in lacking]))


def fill_added_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns ``rows`` with the columns of ``schema``. Missing ``ADDED_COLUMNS`` are null; others raise ValueError."""
    if not matches_schema(rows.schema, schema):
        raise ValueError(f"columns {rows.schema.names} are not {schema.names}")
    present = set(rows.schema.names)
    columns = [rows[f.name] if f.name in present else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)
