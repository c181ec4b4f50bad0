"""Kills a job before each operation that changes the disk, runs it again, and compares the results: see test_killed.py.

This is a separate program: each attempt is a fork of it, and only a process without threads can be forked safely. No
video is decoded here: the rows of a file are made from its bytes.
"""

import gc
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

# pyarrow imports the next three when it first needs them: once here, instead of in every fork.
import pandas  # noqa: F401
import pyarrow as pa
import pyarrow.acero
import pyarrow.dataset
import pyarrow.parquet as pq

import jobs.archive.fingerprint
import jobs.tagging.finished.committer
import jobs.tagging.run
from jobs.archive.video import Version, Video
from jobs.result.verify import verify
from jobs.storage.location import Location
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxPrune, RunConfig
from jobs.tagging.tag_archive import TaggingSettings
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger.clips import VideoEnd
from tagger.tagger import ModelSource, find_model
from tests.jobs.result.embedded import add_embeddings, check_embeddings

TIMINGS = ["decode_s", "predict_s"]
TABLES = ("tags", "videos", "embeddings")
LOG = "read.log"
FIRST_MODEL, OTHER_MODEL = "first.safetensors", "other.safetensors"
OPERATIONS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "")
"""The audit events that are operations on a disk; an empty one stands for an operation without an event.

A job that is killed before it reads a file, or before fsync, leaves the same files as before its next operation.
"""


def rows_of(number: int, video: Video) -> pa.Table:
    """Returns one segment for each byte of the file."""
    with (Path(video.path).parent.parent / LOG).open("a") as log:
        log.write(Path(video.path).name + "\n")
    data = Path(video.path).read_bytes()
    version = Version(video.size, video.mtime_ns, "s1:" + data.hex())
    if data.startswith(b"!"):
        # The decoder crashes in the middle.
        data = data[:1] if (Path(video.path).parent.parent / f"worse {Path(video.path).name}").exists() else data[:2]
        end = VideoEnd("partial", len(data), error_kind="crashed", error=f"{video.path}: the decoder crashed")
    else:
        end = VideoEnd("ok", len(data), decode_s=0.1)
    rows = [
        {
            "video": number,
            "window": i,
            "start_s": float(i),
            "end_s": i + 1.0,
            "decode_s": 0.1,
            "predict_s": 0.1,
            "top_labels": [chr(byte), "other"],
            "top_confidences": [0.75, 0.25],
            "end": PartEnd(end, version).to_json() if i == len(data) - 1 else None,
        }
        for i, byte in enumerate(data)
    ]
    return pa.Table.from_pylist(rows, SEGMENTS_SCHEMA)


class DriverWithoutRay:
    """Replaces the Ray driver: yields the rows of one video after the other."""

    def __init__(self, *_: object, **__: object):
        pass

    def __enter__(self) -> "DriverWithoutRay":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def events(
        self,
        work: object,
        videos: Sequence[Video],
        numbers: Sequence[int],
        source: ModelSource,
        sampling: object,
        settings: TaggingSettings,
        *_: object,
        timeout_s: float,
    ) -> Iterator[pa.Table]:
        """Yields the rows of ``videos``, with embeddings if the job wants them."""
        for number, video in zip(numbers, videos, strict=True):
            rows = rows_of(number, video)
            yield add_embeddings(rows, source.embeddings["size"]) if settings.embeddings else rows


def prepare() -> None:
    """Replaces Ray and decoding, makes the job commit each video, and waits for no disk."""
    vars(jobs.tagging.run).update(RayDriver=DriverWithoutRay)
    vars(jobs.tagging.finished.committer).update(COMMIT_VIDEOS=1)
    vars(jobs.archive.fingerprint).update(fingerprint=lambda path: "s1:" + Path(path).read_bytes().hex())
    # A killed process loses nothing that it has written: only a power cut would.
    vars(os).update(fsync=lambda _: None)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    # Forks do not copy the pages of these objects when they collect garbage.
    gc.freeze()


def fork(work: Any) -> int:
    """Calls ``work`` in a fork; returns its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        with suppress(BaseException):
            try:
                work()
                status = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(step: int, folder: Path) -> None:
    """Makes this process kill itself right before the ``step``-th operation by which it changes ``folder``."""
    count = 0
    main = threading.get_ident()

    def count_operation(event: str = "", arguments: Sequence[Any] = ()) -> None:
        nonlocal count
        if event in OPERATIONS and threading.get_ident() == main:
            if event and not str(arguments[0]).startswith(str(folder)):
                return
            if event == "open" and arguments[2] & os.O_ACCMODE == os.O_RDONLY:
                return
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            count_operation()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    # Operations inside pyarrow raise no audit event.
    for owner, name in (
        (Location, "delete"),
        (pq.ParquetWriter, "write_table"),
        (pq.ParquetWriter, "close"),
    ):
        wrap(owner, name)
    sys.addaudithook(count_operation)


def content(out: Path, without: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the rows of all tables, as a reader of the files or of ``*.parquet`` finds them."""
    if out.suffix == ".parquet":
        others = {name: rows_in([out.with_suffix(f".{name}.parquet")], without) for name in ("videos", "embeddings")}
        return {"tags": rows_in([out], without), **others}
    return {name: rows_in(sorted((out / name).glob("*.parquet")), without) for name in TABLES}


def manifest_content(out: Path, manifest: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the rows of all tables in a folder, as a program that has read ``manifest`` finds them."""
    parts = json.loads(manifest)["parts"]
    files = {name: [out / part[f"{name}_file"] for part in parts if f"{name}_file" in part] for name in TABLES}
    return {name: rows_in(files[name], without) for name in TABLES}


def rows_in(files: list[Path], without: Sequence[str]) -> list[dict[str, Any]] | None:
    """Returns the rows of files, sorted, without timings and other columns; None when a file is missing."""
    rows = []
    for file in files:
        if not file.exists():
            return None
        table = pq.read_table(file)
        rows += table.drop_columns([name for name in (*TIMINGS, *without) if name in table.column_names]).to_pylist()
    return sorted(rows, key=lambda row: (row["video"], row.get("segment", 0))) if files else None


def read_manifest(out: Path) -> str | None:
    """Returns the text of the manifest of a folder; None when there is none."""
    path = out / "manifest.json"
    return path.read_text() if path.exists() else None


def try_every_step(folder: Path, config: RunConfig, *, is_made_up: bool = True) -> dict[str, int]:
    """Kills the job of ``config`` at each step, and checks the next run.

    ``folder`` holds an archive, and perhaps an earlier result. ``is_made_up``: all embeddings follow from the labels.
    """
    before = folder.with_name("before")
    folder.rename(before)

    def restore() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)

    def job() -> None:
        run_job(make_plan(config))

    out = Path(config.out)
    restore()
    old, old_manifest = content(out), read_manifest(out)
    assert fork(job) == 0
    new = content(out)
    everything = (folder / LOG).read_text().split()
    names = sorted(path.name for path in folder.iterdir())
    step = 1
    again = 0
    while True:
        restore()
        status = fork(lambda step=step: (kill_at(step, folder), job()))
        if status == 0:
            break
        assert status == -signal.SIGKILL, (step, status)
        seen = content(out)
        manifest = read_manifest(out)
        if out.suffix == ".parquet":
            assert all(seen[name] in (old[name], new[name]) for name in seen), (
                f"step {step}: a reader sees half a table"
            )
            for name in ("videos", "embeddings"):
                if new[name] is not None:
                    is_new = seen[name] == new[name]
                    assert is_new or seen["tags"] == old["tags"], f"step {step}: the tags came first"
        elif manifest == old_manifest:
            assert seen == old, f"step {step}: a reader of *.parquet sees a result that is not published"
        else:
            assert manifest_content(out, manifest) == new, f"step {step}: a reader of the manifest misses rows"
        is_over = seen == new and not (folder / (out.name + ".run") / "plan.json").exists()
        # The next job is another run then, which tries failing videos once more.
        varying = ["attempts"] if is_over else []
        expected = content(out, varying) if is_over else new
        committed = set()
        run = folder / (out.name + ".run")
        if (run / "plan.json").exists():
            for part in run.glob("part-*.videos.parquet"):
                committed |= {Path(name).name for name in pq.read_table(part)["video"].to_pylist()}
        (folder / LOG).unlink(missing_ok=True)
        assert fork(job) == 0, f"step {step}: the job cannot be run again"
        read = set((folder / LOG).read_text().split()) if (folder / LOG).exists() else set()
        again += len(read)
        assert content(out, varying) == expected, f"step {step}: the result differs"
        if out.suffix != ".parquet":
            assert manifest_content(out, read_manifest(out), varying) == expected, f"step {step}: the manifest differs"
            if manifest is not None:
                assert manifest_content(out, manifest) in (old, new), f"step {step}: a reader lost its files"
            if old_manifest is not None and not is_over:
                assert manifest_content(out, old_manifest) == old, f"step {step}: a reader of before lost its files"
        assert not read & committed, f"step {step}: {read & committed} were finished and read again"
        assert verify(str(out)).problem is None, f"step {step}"
        if new["embeddings"] is not None and is_made_up:
            check_embeddings(out)
        (folder / LOG).touch()
        assert sorted(path.name for path in folder.iterdir()) == names, f"step {step}: something is left behind"
        step += 1
    return {"steps": step - 1, "videos": len(everything), "read again": again}


# Only forks import torch: a process that has it is six times as large, and takes as much longer to fork.
def write_models(folder: Path) -> None:
    """Writes two small models beside ``folder``. Each attempt takes the hash of one."""
    from tests.jobs.browse.made_up_models import write_model

    write_model(folder.with_name(FIRST_MODEL), "abcde")
    write_model(folder.with_name(OTHER_MODEL), "abcdef")


def relabel_all(folder: Path, out: str) -> None:
    """Labels the result ``out`` in ``folder`` anew with the other model."""
    from jobs.browse.vectors.relabel import relabel

    relabel(str(folder / out), find_model(str(folder.with_name(OTHER_MODEL))))


def main() -> None:
    folder, out, start, embeddings = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    prepare()
    archive = folder / "videos"
    archive.mkdir(parents=True)
    for name in ("a", "b", "c"):
        (archive / f"{name}.mp4").write_text(name * 3)
        os.utime(archive / f"{name}.mp4", (1, 1))
    assert fork(lambda: write_models(folder)) == 0
    # With an earlier result, the command that is killed does not ask for its embeddings again.
    first = RunConfig(
        (str(archive),),
        folder / out,
        model=str(folder.with_name(FIRST_MODEL)),
        prune=True,
        max_prune=MaxPrune(videos=1),
        embeddings=embeddings in ("with", "dropped"),
    )
    config = first if start == "no result" else replace(first, embeddings=embeddings == "added")
    if start == "failing videos":
        # The first one fails again. The second one gives fewer segments when it is tried again.
        (archive / "a.mp4").write_text("!!!")
        (archive / "b.mp4").write_text("!bb")
        assert fork(lambda: run_job(make_plan(first))) == 0
        (folder / "worse b.mp4").touch()
    elif start == "overwritten":
        assert fork(lambda: run_job(make_plan(first))) == 0
        config = replace(config, overwrite=True, prune=False)
    elif start != "no result":
        assert fork(lambda: run_job(make_plan(first))) == 0
        (archive / "c.mp4").unlink()
    if start == "relabelled archive":
        assert fork(lambda: relabel_all(folder, out)) == 0
        config = replace(config, model=str(folder.with_name(OTHER_MODEL)))
    if start in ("grown archive", "relabelled archive"):
        (archive / "a.mp4").write_text("changed")
        (archive / "d.mp4").write_text("new")
        for name in ("a", "b", "d"):  # b is only touched
            os.utime(archive / f"{name}.mp4", (2, 2))
    if start == "moved video":
        (archive / "c.mp4").write_text("c" * 3)
        os.utime(archive / "c.mp4", (1, 1))
        (archive / "a.mp4").rename(archive / "z.mp4")
        (archive / "d.mp4").write_text("new")
    (folder / LOG).write_text("")
    print(json.dumps(try_every_step(folder, config, is_made_up=start != "relabelled archive")))


if __name__ == "__main__":
    main()
