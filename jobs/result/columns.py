"""Columns that came later: what an older vtag wrote lacks them, and is gone on with all the same."""

import pyarrow as pa

LATER = frozenset({"ood_score"})
"""Columns that files of vtag 0.1.0 may lack. The model of such a file has no values for them either."""


def is_of(found: pa.Schema, schema: pa.Schema) -> bool:
    """Whether a file whose columns are ``found`` has those of ``schema``, but perhaps for later ones."""
    lacking = LATER.difference(found.names)
    return found.equals(pa.schema([field for field in schema if field.name not in lacking]))


def completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` as ``schema`` has them: what they lack of it is null. Raises ValueError when it is no later column."""
    if not is_of(rows.schema, schema):
        raise ValueError(f"columns {rows.schema.names} are not {schema.names}")
    present = set(rows.schema.names)
    columns = [rows[f.name] if f.name in present else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)
