"""Replaces files that belong together, and gives a file a second name."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jobs.storage.location import Location, download, sync


@contextlib.contextmanager
def replace_together(files: Sequence[Location], check: Callable[[], None]) -> Iterator[list[Path]]:
    """Yields a local path for each of ``files`` to write to. When the block ends, what was written replaces ``files``.

    All files are on the disk, or uploaded under a hidden name, before the first is put in place. They are put in place
    in the order of ``files``. ``check`` is called before each of them, and an error that it raises stops here.
    """
    hidden = [file.hidden() for file in files]
    with contextlib.ExitStack() as stack:
        if files[0].is_local:
            written = [Path(unplaced.path) for unplaced in hidden]
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vtag-"))
            written = [Path(folder, file.name) for file in files]
        try:
            for path in written:
                # A job that has lost the lock may still write to a file of that name.
                path.unlink(missing_ok=True)
            yield written
            for path, unplaced in zip(written, hidden, strict=True):
                if unplaced.is_local:
                    sync(path)
                else:
                    unplaced.upload(path)
            for path, unplaced, file in zip(written, hidden, files, strict=True):
                check()
                if file.is_in_bucket:
                    _put_in_bucket(path, unplaced, file)
                else:
                    unplaced.move_to(file)
        except BaseException:
            for unplaced in hidden:
                with contextlib.suppress(OSError):
                    unplaced.delete()
            raise


def _put_in_bucket(written: Path, uploaded: Location, file: Location) -> None:
    """Puts an uploaded object in place. A bucket renames nothing, so the service copies it."""
    try:
        uploaded.copy_in_bucket(file)
    except OSError:
        # Too large for a copy, or a service without copies. This upload appears whole, too.
        file.upload(written)
    uploaded.delete()


def give_second_name(file: Location, name: Location) -> None:
    """Makes ``name`` the same file: a hard link on the same disk if it has them, elsewhere a copy.

    It appears whole, and replaces what is there. Raises OSError.
    """
    try:
        if file.is_local and name.is_local:
            _link(file, name)
            return
        if file.is_in_bucket and file.filesystem == name.filesystem:
            file.copy_in_bucket(name)
            return
    except OSError:
        # They are on two disks, the disk has no hard links, or the service makes no such copy.
        pass
    with name.atomic_write() as copy:
        download(file, copy)


def _link(file: Location, name: Location) -> None:
    hidden = Path(name.hidden().path)
    hidden.unlink(missing_ok=True)
    try:
        hidden.hardlink_to(file.path)
        hidden.replace(name.path)
    finally:
        # Replacing another link to the same file leaves both names.
        hidden.unlink(missing_ok=True)
    sync(hidden.parent)


def is_same_file(first: Location, second: Location) -> bool:
    """Checks whether two locations are names of one file. A copy is another file."""
    if first.is_local and second.is_local:
        return Path(first.path).samefile(second.path)
    return first.address == second.address
