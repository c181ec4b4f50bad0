"""Runs a planned job: collects the rows that come from Ray, commits finished videos, and publishes the result."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import tagger
from jobs.archive.video import Failure, video_name
from jobs.cluster.ray_driver import RayDriver
from jobs.cluster.termination import Termination
from jobs.errors import Interrupted, JobError, WorkerError
from jobs.result.compare.changes import Changes
from jobs.result.compare.runs import find_names, joined_names, sorted_names, take_rows
from jobs.result.ledger import Ledger, committed_parts, read_started_run, remove
from jobs.result.lock import Lock, locked
from jobs.result.merge import merge
from jobs.result.output import Output, as_typed
from jobs.result.publish import ResultCounts, count_result, publish
from jobs.result.published import Result, complete, is_complete
from jobs.storage.location import Location
from jobs.tagging.contents import take_fingerprints
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.committer import Committer, explained
from jobs.tagging.finished.kept_parts import parts_of_version, read_parts
from jobs.tagging.finished.rows import Revisions, revised
from jobs.tagging.job_state import JobState
from jobs.tagging.pipeline import Workers
from jobs.tagging.plan import Plan, read_base, settle
from jobs.tagging.summary import Progress, Summary
from jobs.tagging.tag_archive import CutOff, TaggingSettings, tag_archive
from jobs.tagging.tasks import chunk_size, parts_of
from jobs.tagging.transport import WHOLE_VIDEO
from tagger.errors import OutputError, doing
from tagger.windows import Part

REPORT_S = 1.0
"""Seconds between two progress reports while no video is finished."""

RETRY_WAITS_S = (5.0, 30.0)
"""Seconds to wait, after all other videos, before videos whose storage failed are read for the second and third time.
The models are loaded again, which takes ten seconds more."""


def run_job(
    plan: Plan,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    driver: RayDriver | None = None,
    *,
    keep_driver: bool = False,
) -> Summary:
    """Tags the videos of ``plan`` and publishes the result. ``on_progress`` is called in this thread.

    ``driver`` is a driver that was started earlier, while the plan was made. It is closed when all videos are tagged;
    with ``keep_driver`` it stays open for the next job, unless an error ends the tagging.

    Raises Interrupted on Ctrl-C, SIGTERM and SIGHUP, JobError when the model or the workers fail, OutputError when
    results cannot be written or another job writes to the same place. Finished videos are then kept in the run folder,
    and a new plan from the same config continues.
    """
    job = JobState(plan, on_progress, driver, keep_driver)
    try:
        with Termination():
            if plan.base and plan.is_done:
                counts = _count_existing(plan.output, plan.base)
            else:
                counts = _tag_and_publish(plan, job)
    except KeyboardInterrupt:
        committed = job.committer.committed if job.committer else 0
        kept = job.plan.changes.kept + committed
        raise Interrupted(
            f"interrupted; {kept} of {len(plan.videos)} videos are finished and kept in {plan.output.run_folder}, "
            "and the same command continues from there"
        ) from None
    changes = job.plan.changes
    return Summary(
        out=as_typed(plan.output.tags, plan.config.out),
        videos_out=as_typed(plan.output.videos, plan.config.out),
        model=plan.source.name,
        sampling=str(plan.sampling),
        videos=counts.videos,
        ok=counts.statuses["ok"],
        partial=counts.statuses["partial"],
        failed=counts.statuses["failed"],
        new=len(changes.new),
        changed=len(changes.changed),
        retried=len(changes.retried),
        touched=len(changes.touched),
        moved=len(changes.moved),
        kept=changes.kept,
        gone=changes.gone,
        pruned=len(job.pruning.gone),
        unknown=job.pruning.unknown,
        unlisted=plan.unlisted,
        left_out=plan.left_out,
        video_s=counts.video_s,
        segments=counts.segments,
        tagged_s=job.collector.video_s,
        windows_done=job.collector.windows,
        elapsed_s=time.monotonic() - job.started_s,
        tagging_s=job.tagging_s,
        listing_s=plan.listing_s,
        comparing_s=plan.comparing_s + job.comparing_s,
        publishing_s=job.publishing_s,
        efficiency=job.efficiency,
        failures=_failures(counts, job),
        top_labels=counts.top_labels,
        background=counts.background,
        embeddings_out=as_typed(plan.output.embeddings, plan.config.out) if plan.identity.embeddings else None,
        only=plan.only,
    )


def _failures(counts: ResultCounts, job: JobState) -> tuple[Failure, ...]:
    """Returns the failures of the videos that this run has read, sorted by path."""
    by_path = {failure.path: failure for failure in counts.failures}
    paths = sorted_names(pa.array(list(by_path), pa.large_string()))
    # The run writes the rows of touched and moved videos again, but does not read the videos.
    not_read = [job.plan.changes.touched.names, job.plan.changes.moved.videos.names]
    read = paths.filter(pa.array(find_names(paths, not_read) < 0)).to_pylist()
    found = {path: by_path[path] for path in read} | {failure.path: failure for failure in job.kept_failures}
    return tuple(found[path] for path in sorted(found))


def _count_existing(output: Output, base: Result) -> ResultCounts:
    """Counts the existing result. Removes what a run that was killed after publishing, or a killed compact, left."""
    try:
        if output.run_folder.is_folder() or not is_complete(output, base):
            with locked(output.run_folder):
                if read_started_run(output.run_folder) is None:
                    remove(output.run_folder)
                    complete(output)
            output.run_folder.delete_empty_folder()
    except OSError as error:
        raise explained(error, output.run_folder) from error
    return count_result(base)


def _tag_and_publish(plan: Plan, job: JobState) -> ResultCounts:
    job.report("starting")
    folder = plan.output.run_folder
    try:
        with locked(folder) as lock:
            _check_unchanged(plan)
            ledger = _open_ledger(plan, lock)
            try:
                with contextlib.ExitStack() as drivers:
                    plan = _compare(job, ledger, drivers)
                    ledger.move(plan.changes.moved.old_names, plan.changes.moved.videos.names)
                    _commit_revised(plan, ledger, _revisions(plan.changes))
                    if plan.todo:
                        _tag(job, ledger, _driver(job, drivers), lock)
                    if job.keep_driver:
                        drivers.pop_all()
                _commit_revised(plan, ledger, _new_attempts(job.attempts_of_kept))
                job.report("publishing")
                begun_s = time.monotonic()
                lock.check()
                job.pruning = plan.pruning.again()
                with doing("publishing", plan.output.out):
                    counts = publish(
                        plan.output,
                        plan.identity,
                        ledger.run_id,
                        plan.base,
                        committed_parts(folder),
                        drop=job.pruning.drop,
                        replaced=plan.replaced,
                        check_lock=lock.check,
                    )
            except BaseException as error:
                with contextlib.suppress(OSError):
                    ledger.log("stopped", reason=type(error).__name__, words=str(error))
                raise
            lock.check()
            remove(folder)
            job.publishing_s = time.monotonic() - begun_s
    except OSError as error:
        raise explained(error, folder) from error
    finally:
        folder.delete_empty_folder()
    return counts


def _check_unchanged(plan: Plan) -> None:
    """Raises OutputError when another job has begun or finished between the plan and the lock."""
    base = None if plan.replaces else read_base(plan.output)
    started = read_started_run(plan.output.run_folder) if plan.run_id is not None else None
    # vtag compact and vtag relabel keep the run id. The one replaces the parts, the other the model.
    is_same = _state(base) == _state(plan.base)
    if plan.run_id is not None:
        is_same = is_same and started is not None and started.run_id == plan.run_id
        is_same = is_same and len(committed_parts(plan.output.run_folder)) == plan.part_count
    if not is_same:
        raise OutputError(f"{plan.output.out} was changed by another job just now; run the same command again")


def _state(base: Result | None) -> object:
    return base and (base.run_id, base.identity, base.parts)


def _open_ledger(plan: Plan, lock: Lock) -> Ledger:
    if plan.run_id is None:
        # Reading the plan and the result took time. What is in the run folder now may be of another job.
        lock.check()
        remove(plan.output.run_folder, keep_contents=True)
    ledger = Ledger.open(plan.output.run_folder, plan.identity, replaces=plan.replaces, check_lock=lock.check)
    changes = plan.changes
    ledger.log(
        "started",
        vtag_version=tagger.__version__,
        inputs=list(plan.config.inputs),
        videos=len(plan.videos),
        new=len(changes.new),
        changed=len(changes.changed),
        retried=len(changes.retried),
        unsure=len(changes.unsure),
        kept=changes.unchanged,
        gone=changes.gone,
    )
    return ledger


def _revisions(changes: Changes) -> Revisions:
    """Returns the new values of touched and moved videos."""
    touched, moved = changes.touched, changes.moved
    old_names = joined_names(touched.names, moved.old_names)
    order = pc.array_sort_indices(old_names).to_numpy()
    names = joined_names(touched.names, moved.videos.names)
    mtimes_ns = np.concatenate([touched.mtimes_ns, moved.videos.mtimes_ns])
    return Revisions(take_rows(old_names, order), take_rows(names, order), mtimes_ns[order])


def _new_attempts(attempts: Mapping[str, int]) -> Revisions:
    names = pa.array(sorted(attempts), pa.large_string())
    return Revisions(names, names, attempts=np.array([attempts[name] for name in sorted(attempts)], np.int64))


def _commit_revised(plan: Plan, ledger: Ledger, revisions: Revisions) -> None:
    """Commits the existing rows of videos with new values."""
    if not len(revisions):
        return
    earlier = plan.base.sources if plan.base else ()
    sources = [source for number, source in enumerate(earlier) if number in plan.replaced]
    sources += committed_parts(plan.output.run_folder)
    for merged in merge(sources, keep=revisions.old_names, embedding_size=plan.identity.embedding_size):
        if merged.videos.num_rows:
            ledger.commit(*revised(merged.videos, merged.tags, merged.embeddings, revisions))


def _driver(job: JobState, drivers: contextlib.ExitStack) -> RayDriver:
    """Returns the driver of the job, which is closed with ``drivers``."""
    config = job.plan.config
    job.driver = job.driver or RayDriver("tagging", address=config.address, verbose=config.verbose)
    return drivers.enter_context(job.driver)


def _compare(job: JobState, ledger: Ledger, drivers: contextlib.ExitStack) -> Plan:
    """Compares the content of videos with that in the records where it decides. Returns the plan after that."""
    plan, begun_s = job.plan, time.monotonic()
    if not plan.changes.unsure:
        return plan

    def report(compared: int) -> None:
        job.compared = compared
        if time.monotonic() - job.reported_s >= REPORT_S:
            job.report("comparing")

    job.report("comparing")
    with doing("comparing the content of videos for", plan.output.out):
        contents = take_fingerprints(plan.changes.unsure.videos, ledger, lambda: _driver(job, drivers), report)
    job.compared = len(contents)
    job.take_plan(settle(plan, contents))
    job.comparing_s = time.monotonic() - begun_s
    changes = job.plan.changes
    ledger.log(
        "compared",
        new=len(changes.new),
        changed=len(changes.changed),
        touched=len(changes.touched),
        moved=len(changes.moved),
    )
    return job.plan


def _tag(job: JobState, ledger: Ledger, driver: RayDriver, lock: Lock) -> None:
    """Tags the videos that are still to be done and commits them."""
    with Committer(ledger, lock) as job.committer:
        _tag_in_chunks(driver, job.committer, job, ledger.folder)
    job.tagging_s = time.monotonic() - job.began_s if job.began_s is not None else 0.0
    if job.done != len(job.plan.todo):
        raise WorkerError(
            f"only {job.done} of {len(job.plan.todo)} videos came back; run the same command again for the rest"
        )


def _tag_in_chunks(driver: RayDriver, committer: Committer, job: JobState, run_folder: Location) -> None:
    """Tags the videos in chunks, so that no process has to hold the whole list at once.

    When a node cannot reach the videos, its chunk ends early, and the unfinished videos are the next chunk. So are
    videos that must be read whole.
    """
    plan, config = job.plan, job.plan.config
    settings = TaggingSettings(
        device=config.device,
        decode_device=config.decode_device,
        reader=config.reader,
        actors=config.actors,
        top_k=plan.identity.top_k,
        batch_size=config.batch_size,
        precision=config.precision,
        embeddings=plan.identity.embeddings is not None,
    )
    left: list[Sequence[int]] = [range(len(plan.todo))]
    waits_s = iter(RETRY_WAITS_S)
    while left:
        numbers, avoided = left.pop(), frozenset(job.avoided)
        size = chunk_size(job.workers.decoders if job.workers else 1)
        if numbers[size:]:
            left.append(numbers[size:])
        numbers = numbers[:size]
        numbers, parts = _take_kept_parts(run_folder, numbers, committer, job)
        chunk = [plan.todo[number] for number in numbers]
        work = tag_archive, chunk, numbers, plan.source, plan.sampling, settings, job.workers
        for event in driver.events(*work, avoided, parts, timeout_s=REPORT_S) if numbers else ():
            if event is not None:
                _handle(event, committer, job)
            committer.commit_when_due()
            if time.monotonic() - job.reported_s >= REPORT_S:
                job.report()
        if job.avoided > avoided and (unfinished := job.collector.forget_unfinished(numbers)):
            left.append(unfinished)
        if job.failed_in_parts:
            left.append(job.take_failed_in_parts())
        if not left and job.waiting:
            left.append(job.take_waiting())
            _wait(next(waits_s, RETRY_WAITS_S[-1]), job, committer)


def _take_kept_parts(
    run_folder: Location, numbers: Sequence[int], committer: Committer, job: JobState
) -> tuple[list[int], dict[int, list[Part]]]:
    """Takes the parts of videos that this run has kept, so that they are not decoded again.

    Returns the numbers of the videos that must be read, and of which of them only these parts.
    """
    kept = read_parts(run_folder, {video_name(job.plan.todo[number].path) for number in numbers})
    parts = {number: [WHOLE_VIDEO] for number in numbers if number in job.unsplit}
    finished = set()
    for number in numbers if kept else ():
        video = job.plan.todo[number]
        found = parts_of_version(kept.get(video_name(video.path), ()), video)
        if not found or number in parts:
            continue
        done = job.collector.keep(number, found)
        if done is not None:
            finished.add(number)
            _finish(job.explained(done), committer, job)
            continue
        known = {part.end.part.index for part in found}
        parts[number] = [part for part in parts_of(found[0].end.part.of) if part.index not in known]
    return [number for number in numbers if number not in finished], parts


def _wait(seconds: float, job: JobState, committer: Committer) -> None:
    """Waits before videos are read again. Commits what is finished, and reports progress."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, REPORT_S))
        committer.commit_when_due()
        job.report()


def _handle(event: Workers | CutOff | pa.Table, committer: Committer, job: JobState) -> None:
    """Takes an event of ``tag_archive``. Raises JobError when too many videos have failed."""
    if isinstance(event, Workers):
        job.workers = event
        job.began_s = job.began_s or time.monotonic()
        return
    if isinstance(event, CutOff):
        job.avoided |= event.nodes
        return
    for video in job.collect(event):
        _finish(video, committer, job)
    committer.add_parts(job.collector.take_parts())
    if job.plan.config.max_failures.is_exceeded(job.failed, job.done):
        raise _too_many_failures(job)


def _finish(video: FinishedVideo, committer: Committer, job: JobState) -> None:
    """Takes a video whose windows have all come back."""
    if job.must_read_whole(video) or job.postpone(video):
        return
    if not job.keeps_earlier_rows(video):
        committer.add(video)
    job.note(video)


def _too_many_failures(job: JobState) -> JobError:
    assert job.last_failure is not None
    return JobError(
        f"{job.failed} of the first {job.done} videos failed or were read only in part, more than --max-failures "
        f"{job.plan.config.max_failures} allows; the last: {job.last_failure.reason}; "
        "finished videos are kept, and the same command with --retry-failed reads the failed ones again and continues"
    )
