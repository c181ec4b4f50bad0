"""Where files are: on a local disk, in a bucket, or wherever else pyarrow.fs and fsspec reach.

Whatever is written is whole or not there. On a local disk a file is written under a hidden name, brought to disk and
renamed. In a bucket an object appears when its upload is complete, so it is made on the local disk first.
"""

import contextlib
import errno
import glob
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from jobs.storage.address import is_address, split
from jobs.storage.file_systems import StorageError, explained, file_system

COMPRESSION = "zstd"

CHUNK_BYTES = 8 << 20
"""A request to a bucket costs some 30 ms, in which this much arrives at 250 MB/s."""


@dataclass(frozen=True)
class Location:
    """A file or folder, which need not exist. ``str`` of it is what a user calls it: a local path, or an address.

    ``path`` is its path within ``filesystem``. Everything here raises OSError for what cannot be done; its ``strerror``
    says why in a few words. In another process it is located anew, with the settings of that process.
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
        """Whether it is on a local disk (or one that looks like it)."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def is_in_bucket(self) -> bool:
        """Whether it is in a bucket: there are no folders, and a file appears when its upload is complete."""
        return isinstance(self.filesystem, (fs.S3FileSystem, fs.GcsFileSystem, fs.AzureFileSystem))

    @property
    def name(self) -> str:
        """The last part of its path; a bucket itself has none."""
        return "" if self.is_in_bucket and "/" not in self.path else PurePosixPath(self.path).name

    def child(self, name: str) -> "Location":
        """What is called ``name`` in this folder."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.address.rstrip('/')}/{name}")

    def beside(self, name: str) -> "Location":
        """What is called ``name`` in the same folder as this."""
        return self.parent.child(name)

    @property
    def parent(self) -> "Location":
        """The folder that this is in."""
        path, address = (text.rstrip("/").rpartition("/")[0] for text in (self.path, self.address))
        return Location(self.filesystem, path or ("/" if self.is_local else ""), address or "/")

    def info(self) -> fs.FileInfo:
        """What is there: nothing (``FileType.NotFound``), a file with its size and time, or a folder."""
        with self._explained():
            info = self.filesystem.get_file_info(self.path)
        if self.is_local or info.mtime_ns is None:
            return info
        return fs.FileInfo(info.path, info.type, size=info.size, mtime_ns=whole_seconds(info.mtime_ns))

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.info().type == fs.FileType.File

    def is_folder(self) -> bool:
        """Whether there is a folder; in a bucket: whether something's name begins with it."""
        return self.info().type == fs.FileType.Directory

    def names(self) -> list[str]:
        """The names of what is in this folder, sorted; none when there is no such folder."""
        with self._explained():
            infos = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def create_folder(self) -> None:
        """Makes the folder where there are folders; a bucket has none."""
        if self.is_local:
            Path(self.path).mkdir(exist_ok=True)
        elif not self.is_in_bucket:
            with self._explained():
                self.filesystem.create_dir(self.path)

    def read_text(self) -> str:
        """The content of a UTF-8 text file. Raises FileNotFoundError."""
        with self._explained(), self.filesystem.open_input_stream(self.path) as stream:
            return str(stream.read().decode("utf-8"))

    def chunks(self) -> Iterator[bytes]:
        """The content of a file, a few megabytes at a time."""
        with self._explained():
            source = self.filesystem.open_input_stream(self.path)
        with source:
            while True:
                with self._explained():
                    chunk = source.read(CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    def write_text(self, text: str) -> None:
        """Writes a UTF-8 text file, whole or not at all."""
        with self.whole() as temporary:
            temporary.write_text(text, "utf-8")

    def write_table(self, table: pa.Table) -> None:
        """Writes a Parquet file, whole or not at all."""
        with self.writer(table.schema) as writer:
            writer.write_table(table)

    @contextlib.contextmanager
    def writer(self, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A writer of a Parquet file, which is put in place, its footer verified, when the block ends without error."""
        with self.whole() as temporary, parquet_writer(temporary, schema) as writer:
            yield writer

    @contextlib.contextmanager
    def whole(self) -> Iterator[Path]:
        """A local path to write to, which becomes this file, replacing an earlier one, when the block ends."""
        if self.is_local:
            target = Path(self.path)
            temporary = hidden(target)
            try:
                yield temporary
                _sync(temporary)
                temporary.replace(target)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync(target.parent)
        else:
            with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
                temporary = Path(folder, self.name)
                yield temporary
                if self.is_in_bucket:
                    self._upload(temporary)
                else:
                    if glob.has_magic(self.path):
                        raise OSError(errno.EINVAL, "Fsspec would take its *, ? or [ for a pattern", str(self))
                    # Here a file may be seen, and stay, half written.
                    unfinished = self.beside(f".{self.name}.tmp")
                    unfinished._upload(temporary)
                    with self._explained():
                        self.filesystem.move(unfinished.path, self.path)

    def _upload(self, file: Path) -> None:
        # Closing half an upload would complete it, and so would dropping it. Ctrl-C is raised in the main thread only,
        # so another one uploads; leaving the block waits for it.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._copy, file).result()
        if self.info().size != file.stat().st_size:
            raise OSError(errno.EIO, "it does not hold what was written to it", str(self))

    def _copy(self, file: Path) -> None:
        # pyarrow's own copy_files swallows the errors of closing, which in a bucket are those of the upload.
        with file.open("rb") as source, self._explained(), self.filesystem.open_output_stream(self.path) as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self.filesystem, self.address)

    def parquet(self) -> pq.ParquetFile:
        """The Parquet file here, opened. Raises OSError, also when it is none."""
        with self._explained():
            file = self.filesystem.open_input_file(self.path)
        try:
            return pq.ParquetFile(file, page_checksum_verification=True)
        except pa.ArrowInvalid as error:
            raise OSError(f"{self} is no Parquet file ({error})") from error

    def delete(self) -> None:
        """Removes a file; there need be none."""
        with contextlib.suppress(FileNotFoundError), self._explained():
            self.filesystem.delete_file(self.path)

    def delete_empty_folder(self) -> None:
        """Removes a folder when there is nothing in it."""
        if self.is_local:
            with contextlib.suppress(OSError):
                Path(self.path).rmdir()
        elif self.is_folder() and not self.names():
            # In a bucket pyarrow makes an empty object for the folder of what it deletes, so far "tags.parquet.run/"
            # and now one for the folder around it, which is the lesser evil: that folder is there anyway.
            with self._explained():
                self.filesystem.delete_dir(self.path)


def locate(text: str | Path) -> Location:
    """The location that a user calls ``text``: a path, or an address such as ``s3://bucket/videos``.

    It need not exist. Raises StorageError for an address that nothing here can reach.
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
    """The modification time of an object, which has the same value however it was found out.

    Some services tell it to the millisecond when they list an object and to the second when asked about one.
    """
    return mtime_ns // 10**9 * 10**9


def download(location: Location, to: Path) -> fs.FileInfo:
    """Copies a file to the local path ``to``, a few megabytes at a time; returns what was copied: its size and time.

    Raises OSError: FileNotFoundError when there is no such file, PermissionError when it may not be read.
    """
    before = location.info()
    if before.type != fs.FileType.File:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(location))
    with to.open("wb") as target:
        for chunk in location.chunks():
            target.write(chunk)
    after = location.info()
    # A large object is read in several requests, between which it can be replaced.
    if (after.size, after.mtime_ns) != (before.size, before.mtime_ns) or to.stat().st_size != before.size:
        raise OSError(errno.EAGAIN, "it changed while it was read", str(location))
    return before


@contextlib.contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of a Parquet file on the local disk, whose footer is read back when the block ends without error."""
    with pq.ParquetWriter(path, schema, compression=COMPRESSION, write_page_checksum=True) as writer:
        yield writer
    if not pq.read_schema(path).equals(schema):
        raise OSError(errno.EIO, "it does not hold what was written to it", str(path))


def hidden(path: Path) -> Path:
    """Where ``path`` is written before it is whole: a hidden name in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
