"""Reads a published result: the run that made it, the identity of that run, and the files that belong to it.

A result that is a folder has a manifest, which lists the pairs of part files that count. It is replaced atomically, so
a reader of the manifest sees the old result or the new one. Part files that it does not list are left-overs.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

import tagger
from jobs.errors import reason
from jobs.result.columns import matches_schema
from jobs.result.identity import RunIdentity, from_metadata
from jobs.result.merge import TablePair
from jobs.result.output import Output
from jobs.storage.location import Location
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

MANIFEST_FORMAT = 1
"""Version of the layout of a result that is a folder."""

RESULT_PART = re.compile(r"part-(\d{5,})\.parquet")
"""The file name of a part."""


class UnusableResultError(OutputError):
    """A result that a run cannot add to. ``hint`` says what ``vtag run`` can do instead."""

    def __init__(self, problem: str, hint: str = "use --overwrite to start over, or choose another --out"):
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True)
class Part:
    """A pair of part files of a folder, about the same videos. ``number`` is in their names."""

    number: int
    videos: int
    segments: int

    @property
    def name(self) -> str:
        """The name of both files, one in ``tags/``, one in ``videos/``."""
        return f"part-{self.number:05d}.parquet"

    def pair(self, output: Output) -> TablePair:
        """Returns the two files."""
        return TablePair(output.tags.child(self.name), output.videos.child(self.name))


@dataclass(frozen=True)
class Result:
    """A published result. ``run_id`` is the id of the run that published it last.

    ``sources`` are its files, in pairs. ``parts`` describes them; it is empty for a result in a single file.
    ``is_half_published``: publishing was interrupted, so the videos are of that run and the tags of the run before.
    """

    identity: RunIdentity
    run_id: str
    sources: tuple[TablePair, ...]
    parts: tuple[Part, ...] = ()
    is_half_published: bool = False


def read_result(output: Output) -> Result | None:
    """Reads the result at ``output``; None when there is none.

    Raises UnusableResultError for a result that a run cannot add to, and OutputError when it cannot be read.
    """
    try:
        return _read_folder(output) if output.is_folder else _read_file(output)
    except OSError as error:
        raise OutputError(f"{output.out} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
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
    return Result(identity, manifest["run"], tuple(part.pair(output) for part in parts), parts)


def write_manifest(output: Output, identity: RunIdentity, run_id: str, parts: Sequence[Part]) -> None:
    """Makes ``parts`` the result, atomically."""
    manifest = {
        "format": MANIFEST_FORMAT,
        "vtag_version": tagger.__version__,
        "run": run_id,
        **identity.to_json(),
        "parts": [
            {
                "number": part.number,
                "tags_file": f"tags/{part.name}",
                "videos_file": f"videos/{part.name}",
                "videos": part.videos,
                "segments": part.segments,
            }
            for part in parts
        ],
    }
    output.manifest.write_text(json.dumps(manifest, indent=1) + "\n")


def remove_left_overs(output: Output, parts: Sequence[Part]) -> None:
    """Removes part files that are not among ``parts``."""
    names = {part.name for part in parts}
    for folder in (output.tags, output.videos):
        for name in folder.names():
            if name not in names and (RESULT_PART.fullmatch(name) or name.endswith(".tmp")):
                folder.child(name).delete()


def next_number(output: Output) -> int:
    """Returns the number of the next part: the one after the listed parts, so that left-overs are overwritten."""
    try:
        numbers = [part["number"] for part in json.loads(output.manifest.read_text())["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        found = [RESULT_PART.fullmatch(name) for folder in (output.tags, output.videos) for name in folder.names()]
        numbers = [int(match[1]) for match in found if match]
    return 1 + max(numbers, default=-1)
