"""Kills a relabelling before each change of the disk, repeats it, and compares the results: see test_relabel.py.

This is a separate program: each attempt is a fork of it, and only a process without threads can be forked safely.
"""

import json
import shutil
import signal
import sys
from pathlib import Path

import pyarrow as pa
import torch

from jobs.browse.vectors.relabel import relabel
from jobs.result.verify import verify
from tests.jobs.browse.made_up_models import identity_of, write_model
from tests.jobs.result.finished import make_finished, publish_to
from tests.jobs.tagging.killed import content, fork, kill_at, manifest_content, read_manifest


def main() -> None:
    folder, name, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    old = write_model(folder.with_name("old.safetensors"), "abc")
    mine = write_model(folder.with_name("mine.safetensors"), "abcdefg")
    publish_to(
        folder / name, [make_finished("/v/a.mp4", "ab"), make_finished("/v/b.mp4", "")], identity=identity_of(old)
    )
    videos = [make_finished("/v/a.mp4", "ab"), make_finished("/v/b.mp4", "")]
    publish_to(folder / name, videos, identity=identity_of(old))
    target = folder / (name if out == "in place" else f"new-{name}")

    def job() -> None:
        relabel(str(folder / name), mine, None if out == "in place" else str(target))

    before = folder.with_name("before")
    folder.rename(before)

    def restore() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(before, folder)

    restore()
    old_content, old_manifest = content(folder / name), read_manifest(folder / name)
    assert fork(job) == 0
    new_content = content(target)
    names = sorted(path.name for path in folder.iterdir())
    step = 1
    while True:
        restore()
        status = fork(lambda step=step: (kill_at(step, folder), job()))
        if status == 0:
            break
        assert status == -signal.SIGKILL, (step, status)
        check_readers(folder / name, old_content, old_manifest, new_content if out == "in place" else old_content, step)
        if out == "new" and not (target.exists() if target.suffix else (target / "manifest.json").exists()):
            assert fork(job) == 0, f"step {step}: the same command cannot be given again"
        elif out == "in place":
            assert fork(job) == 0, f"step {step}: the same command cannot be given again"
            assert content(target) == new_content, f"step {step}: the result differs"
            assert sorted(path.name for path in folder.iterdir()) == names, f"step {step}: something is left behind"
        assert verify(str(folder / name)).problem is None, f"step {step}"
        if not target.suffix:
            assert manifest_content(target, read_manifest(target) or "") == new_content, f"step {step}"
        else:
            assert content(target) == new_content, f"step {step}"
            assert verify(str(target)).problem is None, f"step {step}"
        step += 1
    print(json.dumps({"steps": step - 1}))


def check_readers(tags: Path, old: object, old_manifest: str | None, new: object, step: int) -> None:
    """Checks that readers of ``tags`` see the old or the new rows."""
    if tags.suffix:
        assert content(tags) in (old, new), f"step {step}: a reader sees half a result"
        return
    manifest = read_manifest(tags)
    assert manifest is not None and old_manifest is not None
    assert manifest_content(tags, manifest) == (old if manifest == old_manifest else new), f"step {step}"
    assert manifest_content(tags, old_manifest) == old, f"step {step}: a reader of before lost its files"
    if manifest == old_manifest:
        assert content(tags) == old, f"step {step}: a reader of *.parquet sees a result that is not published"


if __name__ == "__main__":
    main()
