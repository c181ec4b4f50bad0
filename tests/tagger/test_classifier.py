"""Tests of the classifier: probabilities sum to one, and do not depend on the other clips in the batch."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import tagger.classifier
from tagger.classifier import Classifier, PrecisionName, choose_device, choose_precision, cpu_flags
from tagger.errors import VtagError
from tagger.models.i3d_lite import CHANNELS, I3DLiteLSTM, imagenet_weights, inflate
from tagger.models.registry import CNN3D_PREPROCESSING, LITE_PREPROCESSING, build_network
from tagger.ood import OODCalibration, energies_of

PRECISIONS: list[PrecisionName] = ["fp32", "bf16"]


def noise(n: int, frames: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, frames, size, size, 3), dtype=np.uint8)


def a_cnn3d(
    temperature: float = 1.0, precision: PrecisionName = "fp32", ood: OODCalibration | None = None
) -> Classifier:
    torch.manual_seed(0)
    network = build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]})
    with torch.no_grad():
        network.head.dense.weight *= 10  # Larger weights give confident predictions, so that clips differ.
    return Classifier(network, CNN3D_PREPROCESSING, temperature, ood, device="cpu", precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_probabilities_are_float32_and_sum_to_one(precision: PrecisionName) -> None:
    probabilities = a_cnn3d(precision=precision).probabilities(noise(3, 4, 32))
    assert probabilities.shape == (3, 5)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_a_cpu_the_probabilities_of_a_clip_do_not_depend_on_the_batch(precision: PrecisionName) -> None:
    classifier = a_cnn3d(precision=precision)
    clips = noise(5, 4, 32)
    together = classifier.probabilities(clips)
    assert np.unique(together, axis=0).shape == (5, 5)
    for i in range(5):
        np.testing.assert_array_equal(classifier.probabilities(clips[i : i + 1])[0], together[i])
    np.testing.assert_array_equal(classifier.probabilities(clips[::-1].copy()), together[::-1])


def test_when_memory_runs_out_batches_are_halved_and_stay_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = a_cnn3d()
    clips = noise(13, 4, 32)
    expected = classifier.probabilities(clips, 3)
    tried: list[int] = []
    plain = classifier.features

    def features(batch: np.ndarray) -> torch.Tensor:
        tried.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(batch)

    monkeypatch.setattr(classifier, "features", features)
    np.testing.assert_allclose(classifier.probabilities(clips, 12), expected, atol=1e-6)
    assert tried == [12, 6, 3, 3, 3, 3, 1]
    tried.clear()
    classifier.probabilities(clips[:4], 12)
    assert tried == [3, 1]


@pytest.mark.parametrize("clips", [4, 1])
def test_a_clip_that_does_not_fit_into_memory_gives_a_one_line_error(
    clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features(batch: np.ndarray) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    classifier = a_cnn3d()
    monkeypatch.setattr(classifier, "features", features)
    line = r"a single window does not fit into the memory of cpu; .*--actors 1, or --device cpu"
    with pytest.raises(VtagError, match=line):
        classifier.probabilities(noise(clips, 4, 32), 4)


def test_a_batch_size_changes_the_speed_and_not_the_result() -> None:
    classifier = a_cnn3d()
    clips = noise(5, 4, 32)
    for batch_size in (2, 5, 64):
        np.testing.assert_allclose(
            classifier.probabilities(clips, batch_size), classifier.probabilities(clips), atol=1e-4
        )


def test_classify_returns_probabilities_and_ood_scores() -> None:
    clips = noise(3, 4, 32)
    plain = a_cnn3d(2.0)
    energies = energies_of(plain.logits(clips) / 2)
    order = np.argsort(energies)
    validation = OODCalibration(tuple(float(energy) for energy in energies[order] - 1e-6))
    probabilities, scores = a_cnn3d(2.0, ood=validation).classify(clips)
    np.testing.assert_array_equal(probabilities, plain.probabilities(clips))
    assert scores is not None and scores.dtype == np.float32
    np.testing.assert_allclose(scores[order], [1 / 3, 2 / 3, 1])
    assert plain.classify(clips)[1] is None


def test_the_temperature_divides_the_logits() -> None:
    clips = noise(3, 4, 32)
    cold, warm = a_cnn3d(1.0).probabilities(clips), a_cnn3d(2.0).probabilities(clips)
    expected = torch.softmax(torch.from_numpy(cold).double().log() / 2, dim=1).numpy()
    np.testing.assert_allclose(warm, expected, atol=1e-5)
    assert (warm.max(axis=1) < cold.max(axis=1)).all()


def test_pixels_are_normalised_as_the_preprocessing_says() -> None:
    class Pixels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Identity()
            self.head = torch.nn.Identity()

    clips = noise(1, 2, 4)
    classifier = Classifier(Pixels(), LITE_PREPROCESSING, device="cpu", precision="fp32")
    features = classifier.features(clips)
    # EfficientNet-Lite's own: (pixel - 127) / 128
    expected = (torch.from_numpy(clips).float() - 127) / 128
    torch.testing.assert_close(features, expected.permute(0, 4, 1, 2, 3), atol=1e-5, rtol=0)


def test_classifying_no_clips_raises_value_error() -> None:
    with pytest.raises(ValueError, match="no clips"):
        a_cnn3d().probabilities(noise(0, 4, 32))


def test_of_several_gpus_the_device_is_the_current_one_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert choose_device("cuda") == choose_device("auto") == torch.device("cuda:3")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_gives_a_one_line_error() -> None:
    with pytest.raises(VtagError, match="no CUDA GPU is available here; use --device cpu or auto"):
        Classifier(build_network("cnn3d-lstm", 2), CNN3D_PREPROCESSING, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_probabilities_of_the_cpu() -> None:
    clips = noise(5, 4, 32)
    network = build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]})
    cpu = Classifier(copy.deepcopy(network), CNN3D_PREPROCESSING, device="cpu", precision="fp32").probabilities(clips)
    gpu = Classifier(network, CNN3D_PREPROCESSING, device="cuda", precision="fp32").probabilities(clips)
    np.testing.assert_allclose(gpu, cpu, atol=1e-3)


def test_bfloat16_changes_neither_the_label_nor_much_of_the_confidence() -> None:
    # ImageNet's own dense layer gives the confidences of a trained network instead of a random head.
    weights = imagenet_weights()
    network = I3DLiteLSTM(classes=1000, head="mean")
    network.backbone.load_state_dict(inflate(weights))
    # The change features of a still picture are zero.
    on_averages = torch.cat([weights["_fc.weight"], torch.zeros(1000, network.backbone.features - CHANNELS)], dim=1)
    network.head.dense.load_state_dict({"weight": on_averages, "bias": weights["_fc.bias"]})
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def probabilities(precision: PrecisionName) -> np.ndarray:
        network = I3DLiteLSTM(classes=1000, head="mean")
        network.load_state_dict(trained)
        return Classifier(network, LITE_PREPROCESSING, device="cpu", precision=precision).probabilities(clips)

    # A ball, a crossword and a clock: drawings of ImageNet classes.
    y, x = np.mgrid[:224, :224] - 112
    ball = np.where((x**2 + y**2 < 70**2)[..., None], [200, 30, 30], [230, 230, 230])
    black = (y // 16 * 7 + x // 16 * 3) % 5 == 0
    crossword = np.where((black | (y % 16 < 1) | (x % 16 < 1))[..., None], [0, 0, 0], [255, 255, 255])
    hands = ((abs(x) < 3) & (y > -72) & (y < 0)) | ((abs(y) < 3) & (x > 0) & (x < 53))
    radius, hour = np.hypot(x, y), np.arctan2(y, x) * 6 / np.pi
    hours = (radius > 75) & (radius < 84) & (hour % 1 < 0.15)
    clock = np.where(((radius < 90) & ~hands & ~hours)[..., None], [250, 250, 250], [20, 20, 20])
    clips = np.stack([np.stack([picture] * 2) for picture in (ball, crossword, clock)]).astype(np.uint8)
    full, half = probabilities("fp32"), probabilities("bf16")
    assert (full.max(axis=1) > 0.2).all()  # The network recognises each drawing.
    assert (half.argmax(axis=1) == full.argmax(axis=1)).all()
    moved = np.abs(half - full).sum(axis=1) / 2
    assert (moved < 0.15).all(), f"bfloat16 moved {moved} of the probability"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n\nprocessor\t: 1\n", torch.bfloat16),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile\n", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", torch.float32),
        ("Features\t: fp asimd bf16\n", torch.float32),
        (None, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_multiplies_it_natively(
    cpuinfo: str | None, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    flags = cpu_flags(path)
    monkeypatch.setattr(tagger.classifier, "cpu_flags", lambda: flags)
    assert choose_precision(torch.device("cpu")) == expected
    assert choose_precision(torch.device("cpu"), "fp32") == torch.float32


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("head", ["lstm", "lstm-last", "mean"])
@pytest.mark.parametrize("architecture", ["i3d-lite-lstm", "cnn3d-lstm"])
def test_on_a_cpu_the_logits_of_features_are_exactly_those_of_the_windows(
    architecture: str, head: str, precision: PrecisionName
) -> None:
    torch.manual_seed(0)
    motion = {"changes": True} if architecture == "i3d-lite-lstm" else {"differences": True}
    network = build_network(architecture, 5, {"head": head, "hidden": 8, **motion})
    classifier = Classifier(network, CNN3D_PREPROCESSING, device="cpu", precision=precision)
    windows = noise(2, 16, 64)
    features = np.concatenate([classifier.features(window[None]).numpy() for window in windows])
    np.testing.assert_array_equal(classifier.logits_of(features), classifier.logits(windows))
