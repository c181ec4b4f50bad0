"""The plan of a job, made before anything is started."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.folders import FolderProblem, Folders
from jobs.archive.gone import find_absent
from jobs.archive.listing import Listing, find_videos
from jobs.archive.selection import Selection, choose_videos, named_ranges, recorded_ranges
from jobs.archive.videos import Videos
from jobs.errors import reason
from jobs.result.compare.changes import NO_CONTENTS, Changes, find_changes, settled
from jobs.result.compare.pruning import Pruning, find_pruning
from jobs.result.compare.records import Records, read_records
from jobs.result.compare.runs import find_names, no_names, sorted_names
from jobs.result.identity import NO_EMBEDDINGS, RunIdentity
from jobs.result.ledger import (
    MOVES,
    StartedRun,
    committed_parts,
    has_only_contents,
    read_moved,
    read_started_run,
)
from jobs.result.output import Output, choose_output
from jobs.result.published import Result, UnusableResultError, read_result
from jobs.tagging.run_config import RunConfig
from tagger.errors import InputError, OutputError
from tagger.tagger import ModelSource, find_model
from tagger.windows import Sampling

PRUNED_SHOWN = 3
"""Number of videos named in the error about a prune that is too large."""


@dataclass(frozen=True)
class Plan:
    """A job ready to run: its videos, how they are tagged, and where the rows are written.

    ``base`` is the result that it adds to, None when there is none or it is to be replaced (``replaces``). ``run_id``
    is the id of an interrupted run that this job continues, and ``part_count`` the number of parts in its run folder.
    When ``run_id`` is None, the content of the run folder is removed. ``identity`` is what the rows depend on.
    ``records`` is the number of videos in the result and the run folder. ``replaced`` are the numbers of the sources of
    ``base`` with rows that may leave the result. ``unlisted`` are folders below the inputs that could not be listed.
    ``left_out`` counts the files that are not videos, by extension. ``only`` is None when whole videos are tagged.
    ``listing_s`` and ``comparing_s`` are the times in seconds that the list of videos, and its comparison with the
    records, took.
    """

    config: RunConfig
    videos: Videos
    todo: Videos
    changes: Changes
    records: int
    source: ModelSource
    sampling: Sampling
    output: Output
    identity: RunIdentity
    base: Result | None
    replaces: bool
    run_id: str | None
    part_count: int
    pruning: Pruning
    replaced: frozenset[int] = frozenset()
    unlisted: tuple[FolderProblem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    only: Selection | None = None
    listing_s: float = 0.0
    comparing_s: float = 0.0

    @property
    def is_done(self) -> bool:
        """Whether the result already is what the job would make.

        False after an interrupted run: its publication may be incomplete, even when no video is left.
        """
        changes = self.changes
        work = self.todo or changes.touched or changes.moved or changes.unsure or self.pruning.gone
        return self.base is not None and not work and self.run_id is None


def with_hop(sampling: Sampling, hop_s: float | None) -> Sampling:
    """Returns ``sampling`` with this distance of windows in seconds, or as it is. Raises InputError."""
    if hop_s is not None and hop_s < sampling.step_s:
        # Rounded up: a person who gives this number is not refused again.
        least_s = math.ceil(sampling.step_s * 1000) / 1000
        raise InputError(
            f"windows every {hop_s} s are too close: with this model they can be {least_s:g} s apart or more, the "
            "distance of two frames of a window"
        )
    try:
        return sampling if hop_s is None else replace(sampling, hop_s=hop_s)
    except ValueError as error:
        raise InputError(str(error)) from None


def make_plan(
    config: RunConfig, on_found: Callable[[int], None] = lambda found: None, listing: Listing | None = None
) -> Plan:
    """Plans a job without changing anything on disk (a model by name may be downloaded).

    Rows get embeddings if ``config`` or the result to extend says so. ``on_found`` gets the number of videos found so
    far. ``listing`` is a listing of the inputs that was made before; without it they are listed here. Raises
    InputError, OutputError, ModelFileError or WeightsError.
    """
    output = choose_output(config.out, embeddings=config.embeddings)
    source = find_model(config.model, config.weights, frames=config.frames)
    sampling = replace(source.info.sampling, fast_decode=config.fast_decode or source.info.sampling.fast_decode)
    sampling = with_hop(sampling, config.hop_s)
    top_k = min(config.top_k, len(source.info.labels))
    started = _read_started_run(output, overwrite=config.overwrite)
    base = None if config.overwrite or (started and started.replaces) else read_base(output)
    # A later command without --embeddings goes on with those of the interrupted run or of the result.
    extended = None if config.overwrite else started or base
    has_embeddings = config.embeddings or (extended is not None and extended.identity.embeddings is not None)
    embeddings = source.embeddings if has_embeddings else None
    ranges = None if config.only is None else named_ranges(config.only)
    only = None if ranges is None else recorded_ranges(ranges)
    identity = RunIdentity(source.name, source.hash, sampling.to_json(), top_k, embeddings, only)
    run_id, replaces = _interrupted_run(output, started, identity, overwrite=config.overwrite)
    if base is not None:
        _check_base(output, base, identity)
    listing = listing or list_inputs(config, on_found)
    videos, folders = listing.videos, listing.folders
    listed_s = time.monotonic()
    selection = None
    if ranges is not None:
        videos, selection = choose_videos(videos, ranges)
    try:
        committed = committed_parts(output.run_folder) if run_id is not None else []
        sources = base.sources if base else ()
        # After a job that was killed right after publishing, the result is of the interrupted run itself.
        is_published = base is not None and base.run_id == run_id
        records = read_records((), [*sources, *committed]) if is_published else read_records(sources, committed)
        moved_before = read_moved(output.run_folder) if run_id is not None else None
    except (OSError, OutputError) as error:
        if not config.overwrite:
            if isinstance(error, OutputError):
                raise
            place = error.filename or output.out
            raise OutputError(f"{place} cannot be read: {reason(error)}; use --overwrite to start over") from error
        # The run folder of an interrupted --overwrite is damaged: the run starts over.
        run_id, committed, records, moved_before = None, [], read_records([]), None
    moved = no_names() if moved_before is None else _moved_before(moved_before, records, videos)
    records.forget(moved)
    # A moved video may have other ranges than the one whose rows it would take over.
    absent = find_absent if ranges is None else lambda names: []
    changes, not_listed = find_changes(videos, records, retry_failed=config.retry_failed, absent=absent)
    pruning = Pruning(moved=moved)
    if config.prune:
        undecided = changes.unsure.origins.names
        pruning = find_pruning(records.names(not_listed), undecided, pruning.moved, changes.gone, folders)
    leaving = records.find(pruning.drop)
    plan = Plan(
        config=config,
        videos=videos,
        todo=changes.todo,
        changes=changes,
        records=len(records),
        source=source,
        sampling=sampling,
        output=output,
        identity=identity,
        base=base,
        replaces=replaces,
        run_id=run_id,
        part_count=len(committed),
        pruning=pruning,
        replaced=changes.replaced | records.source_numbers(leaving[leaving >= 0]),
        unlisted=tuple(folders.problems),
        left_out=dict(folders.left_out.most_common()),
        only=selection,
        listing_s=listing.seconds,
        comparing_s=time.monotonic() - listed_s,
    )
    if not changes.unsure:
        return settle(plan, NO_CONTENTS)
    # The comparison may take hours, and only adds to them.
    _check_pruning(plan)
    return plan


def list_inputs(
    config: RunConfig, on_found: Callable[[int], None] = lambda found: None, *, may_be_empty: bool = False
) -> Listing:
    """Lists the inputs. ``may_be_empty`` is that of ``find_videos``. Raises InputError."""
    begun_s = time.monotonic()
    folders = Folders()
    videos = find_videos(
        config.inputs,
        config.extensions,
        on_found,
        folders,
        null=config.null,
        exclude=config.exclude,
        include=config.include,
        may_be_empty=may_be_empty,
    )
    return Listing(videos, folders, time.monotonic() - begun_s)


def settle(plan: Plan, contents: pa.Array) -> Plan:
    """Returns the plan after the content of all unsure videos is known: see ``settled``.

    Raises OutputError when ``--max-prune`` allows fewer gone videos.
    """
    changes = settled(plan.changes, contents)
    pruning = plan.pruning.settled(changes.moved.old_names, changes.gone if plan.config.prune else 0)
    plan = replace(plan, changes=changes, todo=changes.todo, pruning=pruning)
    _check_pruning(plan)
    return plan


def _check_pruning(plan: Plan) -> None:
    """Raises OutputError when more videos would be removed than ``--max-prune`` allows."""
    gone, undecided = plan.pruning.gone, len(plan.pruning.undecided)
    if plan.config.max_prune.is_exceeded(len(gone), plan.records):
        examples = ", ".join(gone[:PRUNED_SHOWN].to_pylist()) + (" ..." if len(gone) > PRUNED_SHOWN else "")
        more = f" and up to {undecided} more" if undecided else ""
        raise OutputError(
            f"--prune would remove {len(gone)}{more} of {plan.records} videos from {plan.output.out}, more than "
            f"{plan.config.max_prune} of them: {examples}; if they are really gone, allow it with --max-prune "
            f"{len(gone) + undecided}"
        )


def _moved_before(moves: pa.Table, records: Records, videos: Videos) -> pa.Array:
    """Returns the names that videos moved by an interrupted run have no more: the old ones, and the new ones of videos
    that were moved back since. Sorted. ``moves`` are in the order in which they were noted.
    """
    names = sorted_names(moves["old"].combine_chunks(), moves["new"].combine_chunks())
    is_listed, is_recorded = find_names(names, [videos.names]) >= 0, records.find(names) >= 0
    rows = [pc.index_in(moves[column], value_set=names).to_numpy() for column in MOVES.names]
    is_left, is_back = np.zeros(len(names), bool), np.zeros(len(names), bool)
    # A run that was interrupted before it committed the rows has noted the old name again: the last note counts.
    last_notes = np.sort(len(moves) - 1 - np.unique(rows[0][::-1], return_index=True)[1])
    for old, new in zip(*(column[last_notes] for column in rows), strict=True):
        if not is_recorded[new]:
            continue  # The run was interrupted before it committed the rows.
        if not (is_listed[old] or is_back[old]):
            is_left[old] = True
        elif not is_listed[new]:
            is_back[new] = True
    return names.filter(pa.array(is_left | is_back))


def _read_started_run(output: Output, *, overwrite: bool) -> StartedRun | None:
    """Reads the plan of the interrupted run; None without one, and for a damaged one that ``overwrite`` replaces."""
    try:
        return read_started_run(output.run_folder)
    except OutputError:
        if overwrite:
            return None
        raise


def _interrupted_run(
    output: Output, started: StartedRun | None, identity: RunIdentity, *, overwrite: bool
) -> tuple[str | None, bool]:
    """Returns the id of the interrupted run to continue, if any, and whether the run replaces an earlier result.

    A run with another identity is not continued, but what it has compared is used. Raises OutputError when it has done
    more, or when the interrupted run replaces the result that this run adds to.
    """
    if started is None:
        return None, overwrite
    difference = identity.difference(started.identity)
    if overwrite:
        # The same command, given again after an interruption, continues.
        return started.run_id if difference is None and started.replaces else None, True
    if difference is not None:
        if not started.replaces and has_only_contents(output.run_folder):
            return None, False
        if difference == NO_EMBEDDINGS:
            raise OutputError(
                f"{output.run_folder} holds an interrupted run without embeddings; leave out --embeddings to finish "
                "it, or use --embeddings --overwrite to tag all videos again with embeddings"
            )
        raise OutputError(
            f"{output.run_folder} holds an interrupted run with {difference}; "
            "use --overwrite to start over, remove it to go on with the result as it is, or choose another --out"
        )
    if started.replaces and (output.manifest if output.is_folder else output.tags).is_file():
        raise OutputError(
            f"{output.run_folder} holds an interrupted --overwrite; give --overwrite again to finish it, "
            "or remove it to go on with the result that is there"
        )
    return started.run_id, started.replaces


def read_base(output: Output) -> Result | None:
    """Reads the result that a run adds to; None when there is none. Raises OutputError for an unusable result."""
    try:
        return read_result(output)
    except UnusableResultError as error:
        raise OutputError(f"{error}; {error.hint}") from error


def _check_base(output: Output, base: Result, identity: RunIdentity) -> None:
    """Checks the result that the run adds to. Raises OutputError when its identity differs or a part is missing."""
    difference = identity.difference(base.identity)
    if difference == NO_EMBEDDINGS:
        raise OutputError(
            f"{output.out} has no embeddings; use --embeddings --overwrite to tag all videos again with embeddings, "
            "or leave out --embeddings to extend it as it is"
        )
    if difference:
        frames = base.identity.sampling["num_frames"]
        is_other = base.identity.model_hash == identity.model_hash and frames != identity.sampling["num_frames"]
        extend = f"--frames {frames} to extend it, " if is_other else ""
        raise OutputError(
            f"{output.out} was made with {difference}; use {extend}--overwrite to replace it, or choose another --out"
        )
    if base.parts:
        segments = [file for source in base.sources for file in source.files if file != source.videos]
        there = {folder: set(output.out.child(folder).names()) for folder in {file.parent.name for file in segments}}
        lacking = [file for file in segments if file.name not in there[file.parent.name]]
        if lacking:
            # The plan reads only the table of videos; the segments are read at the end of the job.
            raise OutputError(
                f"{output.manifest} lists {lacking[0]}, which is missing; "
                "use --overwrite to start over, or choose another --out"
            )
