"""Reads a published result: the run that made it, the identity of that run, and the files that belong to it.

A result that is a folder has a manifest, which lists the part files that count. It is replaced atomically, so
a reader of the manifest sees the old result or the new one.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import tagger
from jobs.errors import reason
from jobs.result.columns import matches_schema
from jobs.result.identity import RunIdentity, belongs_beside, from_metadata
from jobs.result.merge import TableFiles
from jobs.result.output import Output
from jobs.result.parts import Part, show, shown_folders, shown_names
from jobs.result.totals import Totals
from jobs.storage.location import Location
from jobs.storage.replace import give_second_name, replace_together
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema

MANIFEST_FORMAT, EMBEDDINGS_FORMAT = 1, 2
"""Versions of the layout of a result that is a folder: without and with embeddings."""


class UnusableResultError(OutputError):
    """A result that a run cannot add to. ``hint`` says what ``vtag run`` can do instead."""

    def __init__(self, problem: str, hint: str = "use --overwrite to start over, or choose another --out"):
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True)
class Result:
    """A published result. ``run_id`` is the id of the run that published it last.

    ``sources`` are its files, those of one part together. ``parts`` describes them; it is empty for a result in a
    single file. ``lost`` are files that the manifest names and that are gone. Their other names are in ``sources``.
    ``totals`` are those of a single file, None when an older version of vtag wrote it.
    ``is_half_published``: publishing was interrupted, so the videos are of that run, the tags of the run before, and
    the embeddings of one of the two.
    """

    identity: RunIdentity
    run_id: str
    sources: tuple[TableFiles, ...]
    parts: tuple[Part, ...] = ()
    lost: tuple[Location, ...] = ()
    is_half_published: bool = False
    totals: Totals | None = None


def read_result(output: Output) -> Result | None:
    """Reads the result at ``output``; None when there is none.

    Raises UnusableResultError for a result that a run cannot add to, and OutputError when it cannot be read.
    """
    try:
        return _read_folder(output) if output.is_folder else _read_file(output)
    except OSError as error:
        file, out = str(error.filename or output.out), str(output.out)
        what = out if file == out else f"{file}, which belongs to {out},"
        raise OutputError(f"{what} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnusableResultError(
            f"{output.out} is no result of this version of vtag",
            hint="use --overwrite to replace it, or choose another --out",
        ) from error


def _read_file(output: Output) -> Result | None:
    if not output.tags.is_file():
        # The videos are put in place first. A job that was interrupted before the tags finishes from its run folder.
        return None
    if not output.videos.is_file():
        raise UnusableResultError(f"{output.videos}, which belongs to {output.out}, is missing")
    tags = _metadata(output.tags, TAGS_SCHEMA)
    videos = _metadata(output.videos, VIDEOS_SCHEMA)
    is_half_published = not belongs_beside(videos, tags)
    if is_half_published and not output.run_folder.child("plan.json").is_file():
        raise UnusableResultError(f"{output.tags} and {output.videos.name} beside it come from different runs")
    # The videos are the first table that a run puts in place, and the tags the one that vtag relabel makes anew.
    identity, run_id = from_metadata(videos if is_half_published else tags)
    files = TableFiles(output.tags, output.videos, output.embeddings if identity.embeddings else None)
    if identity.embedding_size is not None and not is_half_published:
        if not output.embeddings.is_file():
            raise UnusableResultError(f"{output.embeddings}, which belongs to {output.out}, is missing")
        if not belongs_beside(_metadata(output.embeddings, embeddings_schema(identity.embedding_size)), tags):
            raise UnusableResultError(f"{output.tags} and {output.embeddings.name} beside it come from different runs")
    with output.tags.parquet() as parquet:
        totals = None if is_half_published else Totals.from_metadata(parquet.metadata.metadata)
    return Result(identity, run_id, (files,), is_half_published=is_half_published, totals=totals)


def _metadata(file: Location, schema: pa.Schema) -> dict[bytes, bytes] | None:
    """Returns the metadata of a table. Raises ValueError for other columns, and for metadata of another program."""
    with file.parquet() as parquet:
        found = parquet.schema_arrow
    if not matches_schema(found, schema):
        raise ValueError
    from_metadata(found.metadata)
    return found.metadata


def _read_folder(output: Output) -> Result | None:
    try:
        manifest = json.loads(output.manifest.read_text())
    except (FileNotFoundError, NotADirectoryError):
        if output.tags.names() and not output.run_folder.child("plan.json").is_file():
            raise UnusableResultError(f"{output.manifest}, which lists the parts of {output.out}, is missing") from None
        return None
    identity = RunIdentity.from_json(manifest)
    has_embeddings = identity.embeddings is not None
    if manifest["format"] != (EMBEDDINGS_FORMAT if has_embeddings else MANIFEST_FORMAT):
        raise ValueError
    parts = tuple(_part(entry, has_embeddings=has_embeddings) for entry in manifest["parts"])
    there = set(output.parts.names())
    sources, lost = [], []
    for part, entry in zip(parts, manifest["parts"], strict=True):
        # Older versions of vtag list the files in tags/ and videos/.
        source = TableFiles(
            output.out.child(entry["tags_file"]),
            output.out.child(entry["videos_file"]),
            output.out.child(entry["embeddings_file"]) if has_embeddings else None,
        )
        gone = [file for file in source.files if file.name not in there]
        if source == part.listed(output) and gone:
            source = part.shown(output)
            lost += gone
        sources.append(source)
    return Result(identity, manifest["run"], tuple(sources), parts, tuple(lost))


def write_manifest(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    parts: Sequence[Part],
    previous: Collection[int],
    check_lock: Callable[[], None],
) -> None:
    """Makes ``parts`` the result, atomically, right after a call of ``check_lock``.

    ``previous``: the numbers of earlier parts whose files stay for now.
    """
    manifest = {
        "format": MANIFEST_FORMAT if identity.embeddings is None else EMBEDDINGS_FORMAT,
        "vtag_version": tagger.__version__,
        "run": run_id,
        **identity.to_json(),
        "parts": [_entry(output, part) for part in parts],
        "previous": sorted(previous),
    }
    with replace_together((output.manifest,), check_lock) as (path,):
        path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


def _part(entry: Mapping[str, Any], *, has_embeddings: bool) -> Part:
    totals = Totals.from_json(entry["totals"]) if "totals" in entry else None
    return Part(entry["number"], entry["videos"], entry["segments"], has_embeddings, totals)


def _entry(output: Output, part: Part) -> dict[str, Any]:
    files = part.listed(output)
    entry: dict[str, Any] = {
        "number": part.number,
        "tags_file": f"parts/{files.tags.name}",
        "videos_file": f"parts/{files.videos.name}",
        "videos": part.videos,
        "segments": part.segments,
    }
    if files.embeddings is not None:
        entry["embeddings_file"] = f"parts/{files.embeddings.name}"
    if part.totals is not None:
        entry["totals"] = part.totals.to_json()
    return entry


def kept_numbers(output: Output, run_id: str) -> set[int]:
    """Returns the numbers of the parts whose files stay when the run ``run_id`` replaces the manifest.

    They are the parts of the present manifest, whose readers may still open them. If an interrupted publication of the
    same run wrote it, its readers and those of the manifest before count alike.
    """
    try:
        manifest = json.loads(output.manifest.read_text())
        numbers = {int(part["number"]) for part in manifest["parts"]}
        return numbers.union(map(int, manifest.get("previous", ()))) if manifest["run"] == run_id else numbers
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def is_complete(output: Output, result: Result) -> bool:
    """Checks whether each part file of ``result`` has both names, and readers of ``*.parquet`` see no other."""
    return not result.lost and all(shown_names(folder) == names for folder, names in expected_names(output, result))


def expected_names(output: Output, result: Result) -> list[tuple[Location, set[str]]]:
    """Returns the folders that readers of ``*.parquet`` read, each with the names of the part files of ``result``."""
    if not output.is_folder:
        return []
    names = {part.name for part in result.parts}
    none = output.embeddings if result.identity.embeddings is None else None
    return [(folder, set() if folder == none else names) for folder in shown_folders(output)]


def complete(output: Output) -> None:
    """Gives the part files of the published result their names, as after a publication that was killed."""
    result = read_result(output) if output.is_folder else None
    if result is not None:
        if result.lost:
            list_files(output, result)
        show(output, result.parts)


def list_files(output: Output, result: Result) -> None:
    """Gives all files of ``result`` their names in ``parts/``. Those of older versions of vtag have none."""
    output.parts.create_folder()
    for part, source in zip(result.parts, result.sources, strict=True):
        for file, name in zip(source.files, part.listed(output).files, strict=True):
            if file != name:
                give_second_name(file, name)
