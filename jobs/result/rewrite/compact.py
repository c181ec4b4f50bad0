"""Merges the part files of a result that has grown run by run."""

from jobs.result.output import Output, choose_output, find_output
from jobs.result.publish import ResultCounts, publish
from jobs.result.published import Result, read_result
from jobs.result.rewrite.exclusive import rewriting
from tagger.errors import OutputError


def compact(path: str, out: str | None = None) -> ResultCounts:
    """Merges the part files of the folder at ``path`` into as few as possible, sorted, in place or as another result.

    In place, the files of all earlier parts are removed. Raises OutputError.
    """
    source = find_output(path)
    target = source if out is None else choose_output(out)
    _read(source)
    with rewriting(source, target) as check_locks:
        result = _read(source)
        return publish(
            target,
            result.identity,
            result.run_id,
            None,
            result.sources,
            check_lock=check_locks,
            keeps_previous=False,
        )


def _read(source: Output) -> Result:
    result = read_result(source) if source.is_folder else None
    if result is None:
        raise OutputError(f"{source.out} is no folder of part files that vtag run wrote; there is nothing to merge")
    return result
