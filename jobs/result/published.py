"""Reads a published result: the run that made it, the identity of that run, and the files that belong to it.

A result that is a folder has a manifest, which lists the pairs of part files that count. It is replaced atomically, so
a reader of the manifest sees the old result or the new one.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

import tagger
from jobs.errors import reason
from jobs.result.columns import matches_schema
from jobs.result.identity import RunIdentity, from_metadata
from jobs.result.merge import TablePair
from jobs.result.output import Output
from jobs.result.parts import Part, show, shown_names
from jobs.storage.location import Location
from jobs.storage.replace import give_second_name, replace_together
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

MANIFEST_FORMAT = 1
"""Version of the layout of a result that is a folder."""


class UnusableResultError(OutputError):
    """A result that a run cannot add to. ``hint`` says what ``vtag run`` can do instead."""

    def __init__(self, problem: str, hint: str = "use --overwrite to start over, or choose another --out"):
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True)
class Result:
    """A published result. ``run_id`` is the id of the run that published it last.

    ``sources`` are its files, in pairs. ``parts`` describes them; it is empty for a result in a single file. ``lost``
    are files that the manifest names and that are gone. Their other names are in ``sources``.
    ``is_half_published``: publishing was interrupted, so the videos are of that run and the tags of the run before.
    """

    identity: RunIdentity
    run_id: str
    sources: tuple[TablePair, ...]
    parts: tuple[Part, ...] = ()
    lost: tuple[Location, ...] = ()
    is_half_published: bool = False


def read_result(output: Output) -> Result | None:
    """Reads the result at ``output``; None when there is none.

    Raises UnusableResultError for a result that a run cannot add to, and OutputError when it cannot be read.
    """
    try:
        return _read_folder(output) if output.is_folder else _read_file(output)
    except OSError as error:
        raise OutputError(f"{output.out} cannot be read: {reason(error)}") from error
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
    if tags != videos and not output.run_folder.child("plan.json").is_file():
        raise UnusableResultError(f"{output.tags} and {output.videos.name} beside it come from different runs")
    identity, run_id = videos
    return Result(identity, run_id, (TablePair(output.tags, output.videos),), is_half_published=tags != videos)


def _metadata(file: Location, schema: pa.Schema) -> tuple[RunIdentity, str]:
    with file.parquet() as parquet:
        found = parquet.schema_arrow
    if not matches_schema(found, schema):
        raise ValueError
    return from_metadata(found.metadata)


def _read_folder(output: Output) -> Result | None:
    try:
        manifest = json.loads(output.manifest.read_text())
    except (FileNotFoundError, NotADirectoryError):
        if output.tags.names() and not output.run_folder.child("plan.json").is_file():
            raise UnusableResultError(f"{output.manifest}, which lists the parts of {output.out}, is missing") from None
        return None
    if manifest["format"] != MANIFEST_FORMAT:
        raise ValueError
    parts = tuple(Part(part["number"], part["videos"], part["segments"]) for part in manifest["parts"])
    identity = RunIdentity.from_json(manifest)
    there = set(output.parts.names())
    sources, lost = [], []
    for part, entry in zip(parts, manifest["parts"], strict=True):
        # Older versions of vtag list the files in tags/ and videos/.
        source = TablePair(output.out.child(entry["tags_file"]), output.out.child(entry["videos_file"]))
        gone = [file for file in (source.tags, source.videos) if file.name not in there]
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
        "format": MANIFEST_FORMAT,
        "vtag_version": tagger.__version__,
        "run": run_id,
        **identity.to_json(),
        "parts": [
            {
                "number": part.number,
                "tags_file": f"parts/{part.listed(output).tags.name}",
                "videos_file": f"parts/{part.listed(output).videos.name}",
                "videos": part.videos,
                "segments": part.segments,
            }
            for part in parts
        ],
        "previous": sorted(previous),
    }
    with replace_together((output.manifest,), check_lock) as (path,):
        path.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")


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
    names = {part.name for part in result.parts}
    folders = (output.tags, output.videos) if output.is_folder else ()
    return not result.lost and all(shown_names(folder) == names for folder in folders)


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
        listed = part.listed(output)
        for file, name in ((source.tags, listed.tags), (source.videos, listed.videos)):
            if file != name:
                give_second_name(file, name)
