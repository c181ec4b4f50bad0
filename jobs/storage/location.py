"""Locations of files: on a local disk, in a bucket, or in another place that pyarrow.fs or fsspec reaches.

Writes are atomic: a file is complete or absent. On a local disk a file is written under a hidden name, synced to disk
and renamed. In a bucket an object appears when its upload is complete, so it is written to the local disk first.
"""

import contextlib
import errno
import glob
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from jobs.storage.address import is_address, split
from jobs.storage.file_systems import StorageError, file_system, translate_errors
from tagger.file_content import check_regular

COMPRESSION = "zstd"

CHUNK_BYTES = 8 << 20
"""Bytes of a read request. A request to a bucket costs some 30 ms, and at 250 MB/s 8 MiB take as long to arrive."""


@dataclass(frozen=True)
class Location:
    """A file or folder, which need not exist. ``str(location)`` is its local path or its address, as a user types it.

    ``path`` is its path within ``filesystem``. A method that fails raises OSError; its ``strerror`` is the reason in a
    few words. A pickled location is located again where it is loaded, with the settings of that process.
    """

    filesystem: fs.FileSystem
    path: str
    address: str

    def __str__(self) -> str:
        return self.address

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return locate, (self.address,)

    @property
    def is_local(self) -> bool:
        """Checks whether the location is on a local or mounted disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def is_in_bucket(self) -> bool:
        """Checks whether the location is in a bucket, which has no folders and no half-written files."""
        return isinstance(self.filesystem, (fs.S3FileSystem, fs.GcsFileSystem, fs.AzureFileSystem))

    @property
    def name(self) -> str:
        """The last part of the path; empty for a bucket itself."""
        return "" if self.is_in_bucket and "/" not in self.path else PurePosixPath(self.path).name

    def child(self, name: str) -> "Location":
        """The location called ``name`` in this folder."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.address.rstrip('/')}/{name}")

    def beside(self, name: str) -> "Location":
        """The location called ``name`` in the same folder as this one."""
        return self.parent.child(name)

    @property
    def parent(self) -> "Location":
        """The folder that contains this location."""
        path, address = (text.rstrip("/").rpartition("/")[0] for text in (self.path, self.address))
        return Location(self.filesystem, path or ("/" if self.is_local else ""), address or "/")

    def info(self) -> fs.FileInfo:
        """Returns what is there: nothing (``FileType.NotFound``), a file with its size and time, or a folder."""
        with self._translate_errors():
            info = self.filesystem.get_file_info(self.path)
        if self.is_local or info.mtime_ns is None:
            return info
        return fs.FileInfo(info.path, info.type, size=info.size, mtime_ns=whole_seconds(info.mtime_ns))

    def is_file(self) -> bool:
        """Checks whether there is a file at the location."""
        return self.info().type == fs.FileType.File

    def is_folder(self) -> bool:
        """Checks whether there is a folder. A bucket has one when the names of objects begin with its path."""
        return self.info().type == fs.FileType.Directory

    def names(self) -> list[str]:
        """Returns the names of the files and folders in this folder, sorted; empty when there is no such folder."""
        with self._translate_errors():
            infos = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def create_folder(self) -> None:
        """Creates the folder. Does nothing in a bucket, which has no folders."""
        if self.is_local:
            Path(self.path).mkdir(exist_ok=True)
        elif not self.is_in_bucket:
            with self._translate_errors():
                self.filesystem.create_dir(self.path)

    def _check_regular(self) -> None:
        if self.is_local:
            check_regular(self.path)

    def read_text(self) -> str:
        """Reads a UTF-8 text file. Raises FileNotFoundError."""
        self._check_regular()
        with self._translate_errors(), self.filesystem.open_input_stream(self.path) as stream:
            return str(stream.read().decode("utf-8"))

    def chunks(self) -> Iterator[bytes]:
        """Reads a file, a few megabytes at a time."""
        with self._translate_errors():
            source = self.filesystem.open_input_stream(self.path)
        with source:
            while True:
                with self._translate_errors():
                    chunk = source.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def write_text(self, text: str) -> None:
        """Writes a UTF-8 text file atomically."""
        with self.atomic_write() as temporary:
            temporary.write_text(text, "utf-8")

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Writes a Parquet file atomically, with ``row_group_size`` rows in a row group."""
        with self.writer(table.schema) as writer:
            writer.write_table(table, row_group_size=row_group_size)

    @contextlib.contextmanager
    def writer(self, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """Yields a writer of a Parquet file. If the block ends without error, the file is verified and put in place."""
        with self.atomic_write() as temporary, parquet_writer(temporary, schema) as writer:
            yield writer

    @contextlib.contextmanager
    def atomic_write(self) -> Iterator[Path]:
        """Yields a local path to write to. When the block ends, the file written there replaces this one."""
        if self.is_local:
            target = Path(self.path)
            temporary = temporary_path(target)
            try:
                # A job that has lost the lock may still write to a file of that name.
                temporary.unlink(missing_ok=True)
                yield temporary
                sync(temporary)
                temporary.replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            sync(target.parent)
        else:
            with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
                temporary = Path(folder, self.name)
                yield temporary
                if self.is_in_bucket:
                    self.upload(temporary)
                else:
                    # This file system shows a half-written file, and an interrupted write leaves one.
                    unfinished = self.hidden()
                    unfinished.upload(temporary)
                    unfinished.move_to(self)

    def hidden(self) -> "Location":
        """Where a file is until it is complete and put in place: a hidden name in the same folder."""
        return self.beside(temporary_path(Path(self.name)).name)

    def upload(self, file: Path) -> None:
        """Copies a local file to this location, which is not on a local disk. In a bucket the copy appears whole."""
        if not self.is_in_bucket and glob.has_magic(self.path):
            raise OSError(errno.EINVAL, "Fsspec would take its *, ? or [ for a pattern", str(self))
        # Closing or dropping the stream of a half upload completes the object. Ctrl-C reaches only the main thread, so
        # another thread uploads and this one waits.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._copy, file).result()
        if self.info().size != file.stat().st_size:
            raise OSError(errno.EIO, "its size differs from what was written", str(self))

    def _copy(self, file: Path) -> None:
        # pyarrow's copy_files hides errors of closing a file, and in a bucket these are the errors of the upload.
        with (
            file.open("rb") as source,
            self._translate_errors(),
            self.filesystem.open_output_stream(self.path) as target,
        ):
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)

    def move_to(self, target: "Location") -> None:
        """Renames the file to ``target`` on the same file system, atomically. There is no such call for a bucket."""
        if self.is_local:
            Path(self.path).replace(target.path)
            sync(Path(target.path).parent)
        else:
            with self._translate_errors():
                self.filesystem.move(self.path, target.path)

    def copy_in_bucket(self, target: "Location") -> None:
        """Makes the service copy the object to ``target``, in a bucket of the same service. The copy appears whole.

        Raises OSError, also when the service cannot do it: S3 copies no object of more than 5 GB in one request.
        """
        with self._translate_errors():
            self.filesystem.copy_file(self.path, target.path)
        if target.info().size != self.info().size:
            raise OSError(errno.EIO, "its size differs from what was copied", str(target))

    def _translate_errors(self) -> contextlib.AbstractContextManager[None]:
        return translate_errors(self.filesystem, self.address)

    def parquet(self, dictionary: Sequence[str] = ()) -> pq.ParquetFile:
        """Opens the Parquet file. Raises OSError, also when the file is no Parquet file.

        The columns of ``dictionary`` are read as dictionaries, which is faster when values repeat.
        """
        self._check_regular()
        with self._translate_errors():
            file = self.filesystem.open_input_file(self.path)
        try:
            return pq.ParquetFile(file, read_dictionary=list(dictionary) or None, page_checksum_verification=True)
        except pa.ArrowInvalid as error:
            raise OSError(errno.EINVAL, "it is no Parquet file, or it is cut off", str(self)) from error

    def delete(self) -> None:
        """Removes the file, if there is one."""
        with contextlib.suppress(FileNotFoundError), self._translate_errors():
            self.filesystem.delete_file(self.path)

    def delete_empty_folder(self) -> None:
        """Removes the folder if it is empty."""
        if self.is_local:
            with contextlib.suppress(OSError):
                Path(self.path).rmdir()
        elif self.is_folder() and not self.names():
            # When pyarrow deletes in a bucket, it makes an empty object for the folder above. Deleting the files left
            # an empty object "tags.parquet.run/". Deleting that leaves one for its parent, which is harmless: the
            # parent has other files.
            with self._translate_errors():
                self.filesystem.delete_dir(self.path)


def locate(text: str | Path) -> Location:
    """Returns the location of ``text``: a path, or an address such as ``s3://bucket/videos``.

    It need not exist. Raises StorageError for an address that cannot be used.
    """
    if not is_address(text):
        path = os.path.abspath(text)  # noqa: PTH100 - Path.absolute keeps ".."
        return Location(fs.LocalFileSystem(), path, path)
    scheme, root, path = split(str(text))
    address = f"{scheme}://{str(text).partition('://')[2]}"
    if scheme == "file":
        if root not in ("", "localhost"):
            raise StorageError(f"{address} names another machine; a file on this one begins with file:///")
        return locate(f"/{path}")
    filesystem, start = file_system(address)
    if start is None:
        from fsspec.core import url_to_fs

        return Location(filesystem, url_to_fs(address)[1], address.rstrip("/"))
    return Location(filesystem, f"{start}/{path}".rstrip("/"), address.rstrip("/"))


def whole_seconds(mtime_ns: int) -> int:
    """Rounds the modification time of an object down to whole seconds, so that it is the same in every answer.

    Some services give milliseconds when they list objects, and seconds when asked about one object.
    """
    return mtime_ns // 10**9 * 10**9


def download(
    location: Location, to: Path, on_open: Callable[[int, int], None] = lambda descriptor, size: None
) -> fs.FileInfo:
    """Copies a file to the local path ``to``, a few megabytes at a time. Returns the size and time of the file.

    ``on_open`` gets the descriptor of the empty copy and the size of the file, before the file is read.

    Raises OSError: FileNotFoundError when there is no such file, PermissionError when it may not be read.
    """
    before = location.info()
    if before.type != fs.FileType.File:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(location))
    with to.open("wb") as target:
        on_open(target.fileno(), before.size)
        copied = sum(target.write(chunk) for chunk in location.chunks())
    after = location.info()
    # A large object is read in several requests. It can be replaced between them.
    if (after.size, after.mtime_ns) != (before.size, before.mtime_ns) or copied != before.size:
        raise OSError(errno.EAGAIN, "it changed while it was read", str(location))
    return before


@contextlib.contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yields a writer of a local Parquet file. If the block ends without error, its footer is verified."""
    # In vectors hardly a value repeats: a dictionary and statistics would only cost time.
    others = [field.name for field in schema if not pa.types.is_fixed_size_list(field.type)]
    columns = True if len(others) == len(schema) else others
    with pq.ParquetWriter(
        path,
        schema,
        compression=COMPRESSION,
        use_dictionary=columns,
        write_statistics=columns,
        write_page_checksum=True,
    ) as writer:
        yield writer
    if not pq.read_schema(path).equals(schema):
        raise OSError(errno.EIO, "its columns differ from what was written", str(path))


def temporary_path(path: Path) -> Path:
    """Where ``path`` is written until it is complete: a hidden name in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.tmp")


def sync(path: Path) -> None:
    """Brings a local file, or the names in a local folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
