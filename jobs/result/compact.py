"""Merges the part files of a result that has grown run by run."""

import contextlib

from jobs.errors import reason, what_failed
from jobs.result.ledger import read_started_run
from jobs.result.lock import locked
from jobs.result.output import Output, choose_output, find_output
from jobs.result.publish import ResultCounts, publish
from jobs.result.published import Result, read_result
from tagger.errors import OutputError


def compact(path: str, out: str | None = None) -> ResultCounts:
    """Merges the part files of the folder at ``path`` into as few as possible, sorted, in place or as another result.

    In place, the files of all earlier parts are removed. Raises OutputError.
    """
    source = find_output(path)
    target = source if out is None else choose_output(out)
    _read(source)
    _check_free(source, target)
    run_folders = [source.run_folder] if target is source else [source.run_folder, target.run_folder]
    try:
        with contextlib.ExitStack() as locks:
            held = [locks.enter_context(locked(folder)) for folder in run_folders]

            def check_locks() -> None:
                for lock in held:
                    lock.check()

            result = _read(source)
            _check_free(source, target)
            return publish(
                target,
                result.identity,
                result.run_id,
                None,
                result.sources,
                check_lock=check_locks,
                keeps_previous=False,
            )
    except OSError as error:
        what = what_failed(error, f"{run_folders[-1]} cannot be written")
        raise OutputError(f"{what}: {reason(error)}") from error
    finally:
        for folder in run_folders:
            folder.delete_empty_folder()


def _read(source: Output) -> Result:
    result = read_result(source) if source.is_folder else None
    if result is None:
        raise OutputError(f"{source.out} is no folder of part files that vtag run wrote; there is nothing to merge")
    return result


def _check_free(source: Output, target: Output) -> None:
    if target is not source and (target.out.address == source.out.address or read_result(target) is not None):
        raise OutputError(f"{target.out} exists; choose another --out")
    for output in (source, target):
        if read_started_run(output.run_folder) is not None:
            raise OutputError(
                f"{output.run_folder} holds an interrupted run; finish it first, with the command that began it"
            )
