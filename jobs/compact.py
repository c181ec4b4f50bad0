"""Merges the part files of a result that has grown run by run."""

from jobs.ledger import read_plan
from jobs.lock import locked
from jobs.output import Output, choose_output
from jobs.publish import Published, publish
from jobs.result import read_result
from jobs.wording import reason
from tagger.errors import OutputError


def compact(path: str, out: str | None = None) -> Published:
    """Merges the parts of the folder at ``path`` into as few as there can be, sorted, in place or as another result.

    Raises OutputError.
    """
    source = choose_output(path)
    target = source if out is None else choose_output(out)
    try:
        with locked(source.run):
            result = read_result(source)
            if result is None or not source.is_folder:
                raise OutputError(f"{path} is no folder of part files that vtag run wrote; there is nothing to merge")
            _check_free(source, target)
            return publish(target, result.identity, result.run, None, result.sources)
    except OSError as error:
        raise OutputError(f"{source.run} cannot be written: {reason(error)}") from error
    finally:
        source.run.delete_empty_folder()


def _check_free(source: Output, target: Output) -> None:
    if read_plan(source.run) is not None:
        raise OutputError(f"{source.run} holds an interrupted run; finish it first, with the command that began it")
    if target is not source and read_result(target) is not None:
        raise OutputError(f"{target.out} exists; choose another --out")
