"""Pictures and previews in processes of their own."""

import contextlib
import threading
import time
from pathlib import Path

import psutil
import pytest

from jobs.browse.view.encoder import PROCESSES, Encoder
from tests.child_processes import children_with
from tests.videos import encode


def spawned(before: set[psutil.Process]) -> list[psutil.Process]:
    """Returns the processes that this one has spawned since ``before`` and that have not ended."""
    return [process for process in children_with("spawn_main") if process not in before]


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


def when_there_is(path: Path, times_s: list[float], _: object) -> list[bytes]:
    """Returns a picture: at once for the time 0, else when there is a file at ``path``."""
    while times_s[0] and not path.exists():
        time.sleep(0.02)
    return [b"a picture"]


def test_all_processes_end_also_when_the_last_one_waits_for_work_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.browse.view.encoder.pictures_of", when_there_is)
    before = set(psutil.Process().children(recursive=True))
    encoder = Encoder()
    assert encoder.picture(tmp_path / "a", 0, None)
    # The first process is busy, so the second picture is made by another one, which is then the first that waits.
    busy = threading.Thread(target=encoder.picture, args=(tmp_path / "a", 1, None))
    busy.start()
    assert encoder.picture(tmp_path / "a", 0, None)
    (tmp_path / "a").touch()
    busy.join()
    helpers = spawned(before)
    assert len(helpers) == PROCESSES
    encoder.close()
    _, alive = psutil.wait_procs(helpers, 30)
    for process in alive:
        process.kill()
    assert not alive


def never_done(*_: object) -> None:
    time.sleep(3600)


def test_videos_that_keep_every_process_busy_do_not_stop_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "a.mp4", seconds=2)
    with contextlib.closing(Encoder()) as encoder, monkeypatch.context() as patch:
        patch.setattr("jobs.browse.view.encoder.pictures_of", never_done)
        patch.setattr("jobs.browse.view.encoder.TIMEOUT_S", 0.1)
        for _ in range(PROCESSES):
            assert encoder.picture(tmp_path / "a.mp4", 1.0, 2.0) is None
        patch.undo()
        assert encoder.picture(tmp_path / "a.mp4", 1.0, 2.0)


def test_a_closed_encoder_has_no_pictures(tmp_path: Path) -> None:
    encoder = Encoder()
    encoder.close()
    assert encoder.picture(tmp_path / "a.mp4", 1.0, 2.0) is None


def test_a_preview_is_made_once_and_a_video_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", seconds=2)
    encoder = Encoder()
    try:
        preview = encoder.preview(tmp_path / "a.mp4", 0, 1000, 2.0)
        assert preview is not None and preview.stat().st_size
        assert encoder.preview(tmp_path / "a.mp4", 0, 1000, 2.0) == preview
        (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:2000])
        for name in ("gone.mp4", "cut.mp4"):
            assert encoder.preview(tmp_path / name, 0, 1000, 2.0) is None
        assert list(preview.parent.iterdir()) == [preview]
    finally:
        encoder.close()
    assert not preview.exists()
