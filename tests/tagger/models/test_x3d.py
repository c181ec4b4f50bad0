"""Tests of X3D-M: it has the logits of pytorchvideo's module, and its weights are downloaded once."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jobs.cli import main
from tagger.classifier import Classifier
from tagger.errors import WeightsError
from tagger.models.kinetics import X3D_M_KINETICS, kinetics400_labels
from tagger.models.model_zoo import X3D_M_CHECKPOINT
from tagger.models.registry import build_network
from tagger.models.weights import cache_dir
from tagger.tagger import find_model, load_model
from tests.click_runner import CliRunner
from tests.tagger.models.weights_server import WeightsServer
from tests.training.trees import write_clip
from tests.videos import encode

NAME = "x3d-m-kinetics400"


def logits_of(network: nn.Module, clip: torch.Tensor) -> torch.Tensor:
    """The logits of pytorchvideo's module, which ends with a softmax over each position, then an average."""
    seen: list[torch.Tensor] = []
    hook = network.blocks[-1].proj.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(clip)
    hook.remove()
    return seen[0].mean(dim=(1, 2, 3))


@torch.inference_mode()
def test_the_logits_are_those_of_pytorchvideos_own_module(
    pytorchvideo_x3d_m: nn.Module, x3d_m_checkpoint: Path
) -> None:
    network = build_network(NAME, 400).eval()
    X3D_M_CHECKPOINT.load(network, x3d_m_checkpoint)
    clip = torch.randn(1, 3, 16, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = logits_of(pytorchvideo_x3d_m, clip)
    actual = network(clip)
    assert expected.std() > 1e-3  # The logits differ, so the comparison below is meaningful.
    assert actual.min() < 0  # logits, not probabilities
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(actual.softmax(dim=1), pytorchvideo_x3d_m(clip))


@torch.inference_mode()
def test_the_classifier_has_the_same_logits(pytorchvideo_x3d_m: nn.Module, x3d_m_checkpoint: Path) -> None:
    source = find_model(NAME, x3d_m_checkpoint)
    clips = np.random.default_rng(0).integers(0, 256, (1, 16, 224, 224, 3), dtype=np.uint8)
    pixels = (torch.from_numpy(clips).permute(0, 4, 1, 2, 3) / 255 - 0.45) / 0.225
    expected = logits_of(pytorchvideo_x3d_m, pixels)
    exact = torch.from_numpy(source.load("cpu", "fp32").logits(clips))
    assert (exact - expected).norm() <= 1e-3 * expected.norm()


def test_the_weights_are_downloaded_once_and_a_broken_download_is_resumed(
    mirror: WeightsServer, x3d_m_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_WEIGHTS_URL", mirror.url.rpartition("/")[0] + "/")
    mirror.body = x3d_m_checkpoint.read_bytes()
    mirror.breaks_after = [1_000_000]
    source = find_model(NAME)
    assert find_model(NAME) == source
    assert source.file == cache_dir() / "X3D_M.pyth"
    assert source.file.read_bytes() == mirror.body
    assert mirror.requested_ranges == [None, "bytes=1000000-"]
    assert isinstance(source.load("cpu"), Classifier)


def test_offline_one_line_says_what_to_do(mirror: WeightsServer) -> None:
    mirror.statuses = [404]
    done = CliRunner().invoke(main, ["run", ".", "--out", "tags.parquet", "--model", NAME])
    assert done.exit_code == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith("vtag: cannot download the Kinetics-400 weights from http://127.0.0.1:")
    assert line.endswith("download them where there is a network and name the file with --weights FILE")


def test_weights_of_another_network_are_refused(kinetics_checkpoint: Path) -> None:
    source = find_model(NAME, kinetics_checkpoint)
    with pytest.raises(WeightsError, match=r"is not a checkpoint of pytorchvideo's X3D-M .*name its X3D_M\.pyth"):
        source.load("cpu")


@pytest.mark.parametrize("name", [NAME, "i3d-kinetics400"])
def test_vtag_evaluate_scores_it_on_clips_of_its_classes(
    name: str, x3d_m_checkpoint: Path, kinetics_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for checkpoint in (x3d_m_checkpoint, kinetics_checkpoint):
        (tmp_path / "cache" / checkpoint.name).symlink_to(checkpoint)
    for label in ("archery", "zumba"):
        write_clip(tmp_path / "clips" / label / "a.mp4", "Across", seed=1)
    done = CliRunner().invoke(main, ["evaluate", name, str(tmp_path / "clips"), "--split", "all", "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["videos"]["examples"] == 2


def test_a_video_is_tagged_in_windows_of_its_own_length(x3d_m_checkpoint: Path, tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", seconds=4)
    segments = load_model(NAME, weights=x3d_m_checkpoint, device="cpu").tag(video)
    assert [(segment.start_s, round(segment.end_s, 2)) for segment in segments] == [(0, 2.67), (80 / 30, 4.0)]
    assert {segment.label for segment in segments} <= set(kinetics400_labels())


def test_it_describes_itself() -> None:
    described = json.loads(CliRunner().invoke(main, ["models", NAME, "--json"]).stdout)
    assert len(described["labels"]) == 400
    assert described["scores"] == {"top1": 0.7594, "top5": 0.9272}
    assert (described["preprocessing"]["resize"], described["preprocessing"]["size"]) == (256, 224)
    assert described["url"] == "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/X3D_M.pyth"
    sampling = X3D_M_KINETICS.info().sampling
    assert str(sampling) == "16×5 @ 30 fps"
    assert sampling.window_s == pytest.approx(80 / 30)
