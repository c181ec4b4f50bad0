"""Keeps other jobs away while a finished result is written anew, in place or as another result."""

import contextlib
from collections.abc import Callable, Iterator

from jobs.errors import reason, what_failed
from jobs.result.ledger import has_only_contents, read_started_run, remove
from jobs.result.lock import locked
from jobs.result.output import Output
from jobs.result.published import read_result
from tagger.errors import OutputError


@contextlib.contextmanager
def rewriting(source: Output, target: Output) -> Iterator[Callable[[], None]]:
    """Holds the locks of the result at ``source`` and of ``target``, the same output or another one.

    Yields a function that raises OutputError when a lock is lost. Of a run folder, only what a run has noted of the
    content of videos stays. Raises OutputError when a result is at another ``target``, when a run was interrupted at
    one of the two after it had compared videos, or when they cannot be written.
    """
    _check_free(source, target)
    run_folders = [source.run_folder] if target is source else [source.run_folder, target.run_folder]
    try:
        try:
            with contextlib.ExitStack() as locks:
                held = [locks.enter_context(locked(folder)) for folder in run_folders]

                def check_locks() -> None:
                    for lock in held:
                        lock.check()

                _check_free(source, target)
                yield check_locks
                # A job that was killed left them.
                for folder in run_folders:
                    remove(folder, keep_contents=True)
        finally:
            for folder in run_folders:
                folder.delete_empty_folder()
    except OSError as error:
        what = what_failed(error, f"{run_folders[-1]} cannot be written")
        raise OutputError(f"{what}: {reason(error)}") from error


def _check_free(source: Output, target: Output) -> None:
    if target is not source and (target.out.address == source.out.address or read_result(target) is not None):
        raise OutputError(f"{target.out} exists; choose another --out")
    for output in (source, target):
        if _is_unfinished(output):
            raise OutputError(
                f"{output.run_folder} holds an interrupted run; finish it first, with the command that began it"
            )


def _is_unfinished(output: Output) -> bool:
    """Returns whether a run was interrupted after it had compared videos."""
    started = read_started_run(output.run_folder)
    if started is None or started.replaces or not has_only_contents(output.run_folder):
        return started is not None
    # A run that only removes videos may have been interrupted while it published.
    result = read_result(output)
    return result is not None and result.is_half_published
