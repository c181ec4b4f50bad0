"""Makes the tags of a result anew, beside the same videos and embeddings."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pyarrow as pa

from jobs.errors import reason, what_failed
from jobs.result.identity import RunIdentity, file_metadata, from_metadata
from jobs.result.merge import ROW_GROUP_ROWS, TableFiles
from jobs.result.output import Output
from jobs.result.parts import next_number
from jobs.result.publish import publish_parts
from jobs.result.published import Result, list_files
from jobs.result.totals import Totals
from jobs.storage.location import parquet_writer
from jobs.storage.replace import give_second_name, replace_together
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA

NewTags = Callable[[TableFiles], Iterable[pa.Table]]
"""Returns new rows of TAGS_SCHEMA for all rows of the tags in files, in the same order."""


def rewrite_tags(
    result: Result,
    source: Output,
    target: Output,
    identity: RunIdentity,
    new_tags: NewTags,
    check_lock: Callable[[], None],
) -> None:
    """Makes new tags for the ``result`` at ``source``, in place or as a result at another ``target``.

    The videos and embeddings stay as they are. At another target they get a second name, or are copied. ``identity`` is
    that of the new tags. In a folder, all tags change at once, with the manifest: the parts get new numbers, and the
    earlier parts stay for one more publication. A file of tags is replaced in one step. So readers see the old result
    or the new one, and the call can be repeated. Raises OutputError.
    """
    try:
        if not target.is_folder:
            files = TableFiles(target.tags, target.videos, target.embeddings)
            _rewrite_tags(result.sources[0], files, identity, new_tags, check_lock, result.totals)
            return
        for folder in (target.out, target.parts, target.tags, target.videos, target.embeddings):
            folder.create_folder()
        previous: set[int] = set()
        if target is source:
            list_files(source, result)
            previous = {part.number for part in result.parts}
        first = next_number(target, previous)
        parts = [replace(part, number=number) for number, part in enumerate(result.parts, start=first)]
        counted = []
        for part, files in zip(parts, result.sources, strict=True):
            totals = _rewrite_tags(files, part.listed(target), identity, new_tags, check_lock, part.totals)
            counted.append(replace(part, totals=totals))
        publish_parts(target, identity, result.run_id, counted, previous, first, check_lock)
    except OSError as error:
        what = what_failed(error, f"{target.out} cannot be written")
        raise OutputError(f"{what}: {reason(error)}; the same command starts again") from error


def _rewrite_tags(
    source: TableFiles,
    target: TableFiles,
    identity: RunIdentity,
    new_tags: NewTags,
    check_lock: Callable[[], None],
    totals: Totals | None,
) -> Totals | None:
    """Writes the tags of ``target``. Its other tables become the same files as those of ``source``.

    Returns the new totals; ``totals`` are those of ``source``, None if they are not known.
    """
    assert source.embeddings is not None and target.embeddings is not None
    with source.tags.parquet() as file:
        _, run_id = from_metadata(file.schema_arrow.metadata)
    schema = TAGS_SCHEMA.with_metadata(file_metadata(identity, run_id))
    with replace_together((target.tags,), check_lock) as (path,):
        with parquet_writer(path, schema) as writer:
            counted = Totals() if totals is None else totals.with_new_tags()
            for table in new_tags(source):
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                counted.add_tags(table)
            if totals is not None:
                writer.add_key_value_metadata(counted.to_metadata())
        # The tags come last: a file of tags is a result.
        for name, file in ((target.videos, source.videos), (target.embeddings, source.embeddings)):
            if name.address != file.address:
                check_lock()
                give_second_name(file, name)
    return None if totals is None else counted
