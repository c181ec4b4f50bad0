"""Promises about a video that is written to after it was listed."""

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tests.videos import encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.ts", "c.mkv"):
        encode(folder / name, seconds=5)
    return folder


@pytest.mark.usefixtures("shared_ray")
class TestThroughRay:
    @pytest.mark.slow
    def test_a_video_that_grows_all_the_time_has_changed_and_the_others_are_complete(
        self, folder: Path, model_file: Path, tmp_path: Path
    ) -> None:
        config = RunConfig((str(folder),), tmp_path / "tags.parquet", model=str(model_file), device="cpu", actors=1)
        plan = make_plan(config)
        is_over = threading.Event()

        def grow() -> None:
            with (folder / "b.ts").open("ab", buffering=0) as file:
                while not is_over.wait(0.001):
                    file.write(bytes(188))

        writer = threading.Thread(target=grow)
        writer.start()
        try:
            summary = run_job(plan)
        finally:
            is_over.set()
            writer.join()
        rows = {Path(row["video"]).name: row for row in pq.read_table(summary.videos_out).to_pylist()}
        assert {name: row["status"] for name, row in rows.items()} == {"a.mp4": "ok", "b.ts": "partial", "c.mkv": "ok"}
        assert rows["b.ts"]["error_kind"] == "changed"
        assert {row["segments"] for row in rows.values()} == {3}

        # The writer has stopped: this video is read again, the others are not.
        plan = make_plan(config)
        assert [Path(video.path).name for video in plan.todo] == ["b.ts"]

    @pytest.mark.slow
    def test_a_video_that_grew_before_it_is_read_is_recorded_as_it_was_read(
        self, folder: Path, model_file: Path, tmp_path: Path
    ) -> None:
        config = RunConfig((str(folder),), tmp_path / "tags.parquet", model=str(model_file), device="cpu", actors=1)
        plan = make_plan(config)
        encode(folder / "b.ts", seconds=10)
        summary = run_job(plan)
        rows = {Path(row["video"]).name: row for row in pq.read_table(summary.videos_out).to_pylist()}
        assert rows["b.ts"]["status"] == "ok"
        assert (rows["b.ts"]["segments"], rows["b.ts"]["size"]) == (5, (folder / "b.ts").stat().st_size)
        assert list(make_plan(config).todo) == []
