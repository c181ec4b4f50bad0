"""Where files are: on a local disk, in a bucket, or wherever else pyarrow.fs and fsspec reach.

Whatever is written is whole or not there. On a local disk a file is written under a hidden name, brought to disk and
renamed. In a bucket an object appears when its upload is complete, so it is made on the local disk first.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

COMPRESSION = "zstd"


@dataclass(frozen=True)
class Location:
    """A file or folder, which need not exist. ``str`` of it is what a user calls it: a local path, or an address.

    ``path`` is its path within ``filesystem``. Everything here raises OSError for what cannot be done.
    """

    filesystem: fs.FileSystem
    path: str
    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk (or one that looks like it)."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def child(self, name: str) -> "Location":
        """What is called ``name`` in this folder."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.address.rstrip('/')}/{name}")

    def beside(self, name: str) -> "Location":
        """What is called ``name`` in the same folder as this."""
        path, address = (text.rstrip("/").rpartition("/")[0] for text in (self.path, self.address))
        return Location(self.filesystem, f"{path}/{name}" if path or self.is_local else name, f"{address}/{name}")

    def info(self) -> fs.FileInfo:
        """What is there: nothing (``FileType.NotFound``), a file with its size and time, or a folder."""
        return self.filesystem.get_file_info(self.path)

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.info().type == fs.FileType.File

    def is_folder(self) -> bool:
        """Whether there is a folder; in a bucket: whether something's name begins with it."""
        return self.info().type == fs.FileType.Directory

    def names(self) -> list[str]:
        """The names of what is in this folder, sorted; none when there is no such folder."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        return sorted(info.base_name for info in self.filesystem.get_file_info(selector))

    def create_folder(self) -> None:
        """Makes the folder where there are folders; a bucket has none."""
        if self.is_local:
            Path(self.path).mkdir(exist_ok=True)

    def read_text(self) -> str:
        """The content of a UTF-8 text file. Raises FileNotFoundError."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return str(stream.read().decode("utf-8"))

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
        with self.whole() as temporary:
            with pq.ParquetWriter(temporary, schema, compression=COMPRESSION, write_page_checksum=True) as writer:
                yield writer
            if not pq.read_schema(temporary).equals(schema):
                raise OSError(f"{temporary} does not hold what was written to it")

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
                # One call, which an interrupt cannot cut in two: closing half an upload would complete it.
                fs.copy_files(
                    str(temporary),
                    self.path,
                    source_filesystem=fs.LocalFileSystem(),
                    destination_filesystem=self.filesystem,
                )
                if self.info().size != temporary.stat().st_size:
                    raise OSError(f"{self} does not hold what was written to it")

    def parquet(self) -> pq.ParquetFile:
        """The Parquet file here, opened. Raises OSError, also when it is none."""
        try:
            return pq.ParquetFile(self.filesystem.open_input_file(self.path), page_checksum_verification=True)
        except pa.ArrowInvalid as error:
            raise OSError(f"{self} is no Parquet file ({error})") from error

    def delete(self) -> None:
        """Removes a file; there need be none."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path)

    def delete_empty_folder(self) -> None:
        """Removes a folder when there is nothing in it."""
        if self.is_local:
            with contextlib.suppress(OSError):
                Path(self.path).rmdir()


def locate(text: str | Path) -> Location:
    """The location that a user calls ``text``: a path, or an address such as ``s3://bucket/videos``."""
    path = os.path.abspath(text)  # noqa: PTH100 - Path.absolute keeps ".."
    return Location(fs.LocalFileSystem(), path, path)


def is_address(text: str | Path) -> bool:
    """Whether ``text`` is an address, not a path."""
    return "://" in str(text)


def hidden(path: Path) -> Path:
    """Where ``path`` is written before it is whole: a hidden name in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
