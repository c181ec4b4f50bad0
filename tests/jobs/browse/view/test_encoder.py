"""Pictures and previews in processes of their own."""

import contextlib
from pathlib import Path

import psutil

from jobs.browse.view.encoder import Encoder
from tests.videos import encode


def spawned(before: set[psutil.Process]) -> list[psutil.Process]:
    """The living processes of encoders that are not among ``before``."""
    found = []
    for process in set(psutil.Process().children(recursive=True)) - before:
        # It may have ended, also without being waited for.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def test_a_process_that_dies_is_replaced_and_none_stays(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=2)
    before = set(psutil.Process().children(recursive=True))
    encoder = Encoder()
    try:
        assert encoder.picture(tmp_path / "a.mp4", 1.0, 2.0)
        for process in spawned(before):
            process.kill()
        # The first call may find the processes dead.
        found = [encoder.picture(tmp_path / "a.mp4", 1.0, 2.0) for _ in range(2)]
        assert found[1]
    finally:
        encoder.close()
    _, alive = psutil.wait_procs(spawned(before), 30)
    assert not alive


def test_a_preview_is_made_once_and_a_video_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=2)
    encoder = Encoder()
    try:
        preview = encoder.preview(tmp_path / "a.mp4", 0, 1000, 2.0)
        assert preview is not None and preview.stat().st_size
        assert encoder.preview(tmp_path / "a.mp4", 0, 1000, 2.0) == preview
        assert encoder.preview(tmp_path / "gone.mp4", 0, 1000, 2.0) is None
    finally:
        encoder.close()
    assert not preview.exists()
