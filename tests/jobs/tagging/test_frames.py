"""``--frames``: how many frames of a window the model sees is part of the sampling of a result."""

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.result.output import choose_output
from jobs.result.published import read_result
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger.errors import ModelFileError, OutputError
from tagger.windows import Sampling
from tests.jobs.tagging.killed import DriverWithoutRay


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("abc")
    weights = tmp_path / "I3D_8x8_R50.pyth"
    weights.write_text("no job without Ray reads it")
    return RunConfig((str(tmp_path / "videos"),), tmp_path / "tags.parquet", model="i3d-kinetics400", weights=weights)


@pytest.mark.parametrize(("frames", "other"), [(None, 16), (16, None)])
def test_rows_of_both_are_never_mixed(config: RunConfig, frames: int | None, other: int | None) -> None:
    run_job(make_plan(replace(config, frames=frames)))
    result = read_result(choose_output(config.out))
    made_with = Sampling(8, 8) if frames is None else Sampling(16, 4)
    assert result is not None and Sampling(**result.identity.sampling) == made_with
    with pytest.raises(OutputError) as caught:
        make_plan(replace(config, frames=other))
    assert f"was made with another sampling ({made_with}); use --frames {frames or 8} to extend it" in str(caught.value)
    assert make_plan(replace(config, frames=frames or 8)).is_done


@pytest.mark.parametrize(
    ("model", "frames", "possible"),
    [("i3d-kinetics400", 12, "8 or 16"), ("x3d-m-kinetics400", 8, "16"), ("actions38", 8, "16")],
)
def test_a_number_of_frames_that_the_model_does_not_take_is_refused(
    config: RunConfig, model: str, frames: int, possible: str
) -> None:
    weights = None if model == "actions38" else config.weights
    with pytest.raises(ModelFileError, match=rf"--frames {frames}: {model} takes {possible} frames of a window"):
        make_plan(replace(config, model=model, weights=weights, frames=frames))
    make_plan(replace(config, model=model, weights=weights, frames=16))


@pytest.mark.parametrize("model", ["i3d-kinetics400", "x3d-m-kinetics400"])
def test_a_number_of_frames_is_refused_before_weights_are_downloaded(
    model: str, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("tagger.models.weights.download_once")
    with pytest.raises(ModelFileError, match="--frames 12"):
        make_plan(replace(config, model=model, weights=None, frames=12))
