"""Runs go on with a relabelled result, and its rows are those that a run of the new model makes.

Videos are decoded and classified in this process, without Ray.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.browse.vectors.relabel import relabel
from jobs.result.output import find_output
from jobs.result.published import read_result
from jobs.result.verify import verify
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger import ModelInfo, Preprocessing, Sampling, find_model, save_model_file
from tagger.errors import OutputError
from tagger.model_file import EmbeddingSpace
from tagger.models.embeddings.embedder import Embedder
from tagger.models.registry import build_network
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.videos import encode


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that were read."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverInThisProcess)
    monkeypatch.setattr(DriverInThisProcess, "read", [])
    return DriverInThisProcess.read


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of two models with one backbone and its embeddings: with three labels, and with five."""
    folder = tmp_path_factory.mktemp("models")
    options = {"filters": [4, 4, 4], "hidden": 8, "head": "mean"}
    torch.manual_seed(0)
    backbone = {}
    found = []
    for name, labels in (("old", "abc"), ("mine", "abcde")):
        network = build_network("cnn3d-lstm", len(labels), options)
        backbone = backbone or network.backbone.state_dict()
        network.backbone.load_state_dict(backbone)
        channels = network.head.dense.weight.shape[1]
        # Larger weights, so that confidences differ from window to window.
        network.head.dense.weight.data *= 2
        network.embedder = Embedder(channels, channels + 1)
        network.embedder.projection.copy_(torch.eye(channels))
        space = EmbeddingSpace(channels + 1, channels, "tiny")
        info = ModelInfo(
            "cnn3d-lstm", tuple(labels), Sampling(), Preprocessing(32, 32), options=options, embedding=space
        )
        save_model_file(folder / f"{name}.safetensors", info, network.state_dict())
        found.append(str(folder / f"{name}.safetensors"))
    return found


@pytest.fixture(params=["tags.parquet", "tags"])
def config(request: pytest.FixtureRequest, models: list[str], read: list[str], tmp_path: Path) -> RunConfig:
    """A job of the old model, with windows that overlap."""
    for name, seconds in (("a", 6), ("b", 3)):
        (tmp_path / "videos").mkdir(exist_ok=True)
        encode(tmp_path / "videos" / f"{name}.mp4", seconds=seconds, rate=10)
    videos = (str(tmp_path / "videos"),)
    return RunConfig(videos, tmp_path / request.param, model=models[0], hop_s=1.0, top_k=2, embeddings=True)


def rows(out: object) -> list[dict[str, Any]]:
    result = read_result(find_output(str(out)))
    assert result is not None
    found = [row for source in result.sources for row in source.tags.parquet().read().to_pylist()]
    return sorted(found, key=lambda row: (row["video"], row["segment"]))


def test_rows_of_relabel_are_those_of_a_run_with_the_new_model(
    config: RunConfig, models: list[str], read: list[str], tmp_path: Path
) -> None:
    run_job(make_plan(config))
    mine = replace(config, model=models[1])
    relabel(str(config.out), find_model(models[1]))
    assert sorted(read) == ["a.mp4", "b.mp4"], "relabel reads no video"
    run_job(make_plan(replace(mine, out=tmp_path / "whole.parquet")))
    found, wanted = rows(config.out), rows(tmp_path / "whole.parquet")
    assert len(found) == len(wanted) == 7
    for row, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(row.pop("top_confidences"), other.pop("top_confidences"), atol=1e-3)
        assert row.pop("confidence") == pytest.approx(other.pop("confidence"), abs=1e-3)
        assert row == other
    confidences = [row["confidence"] for row in rows(config.out)]
    assert max(confidences) - min(confidences) > 0.01 and max(confidences) < 0.99


def test_a_run_with_the_new_model_reads_new_videos_only(config: RunConfig, models: list[str], read: list[str]) -> None:
    run_job(make_plan(config))
    relabel(str(config.out), find_model(models[1]))
    before = rows(config.out)
    mine = replace(config, model=models[1], embeddings=False)
    assert make_plan(mine).is_done
    read.clear()
    encode(Path(config.inputs[0]) / "c.mp4", seconds=2, rate=10)
    summary = run_job(make_plan(mine))
    assert (read, summary.new, summary.kept) == (["c.mp4"], 1, 2)
    after = rows(config.out)
    assert [row for row in after if not row["video"].endswith("c.mp4")] == before
    assert all(len(row["top_labels"]) == 2 for row in after)
    found = verify(str(config.out))
    assert (found.problem, found.identity.model, found.videos) == (None, "mine", 3)


def test_a_run_goes_on_when_the_old_model_had_fewer_labels_than_a_run_keeps(
    config: RunConfig, models: list[str]
) -> None:
    config = replace(config, top_k=RunConfig.top_k)
    run_job(make_plan(config))
    assert {len(row["top_labels"]) for row in rows(config.out)} == {3}
    relabel(str(config.out), find_model(models[1]))
    assert {len(row["top_labels"]) for row in rows(config.out)} == {5}
    assert make_plan(replace(config, model=models[1])).is_done
    relabel(str(config.out), find_model(models[0]))
    assert make_plan(config).is_done


def test_a_run_with_the_old_model_is_refused_and_names_the_new_one(config: RunConfig, models: list[str]) -> None:
    run_job(make_plan(config))
    relabel(str(config.out), find_model(models[1]))
    with pytest.raises(OutputError, match=r"was made with another model \(mine, [0-9a-f]{12}\); use --overwrite"):
        make_plan(config)


def test_a_run_that_was_planned_before_the_relabelling_does_not_mix_the_models(
    config: RunConfig, models: list[str]
) -> None:
    run_job(make_plan(config))
    encode(Path(config.inputs[0]) / "c.mp4", seconds=2, rate=10)
    plan = make_plan(config)
    relabel(str(config.out), find_model(models[1]))
    with pytest.raises(OutputError, match="was changed by another job just now; run the same command again"):
        run_job(plan)
    assert verify(str(config.out)).identity.model == "mine"
