"""Tests of ``tagger.cuda``. Tests that need a GPU are skipped without one. The decisions are tested everywhere."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import tagger.classifier
from jobs.tagging.pipeline import WINDOWS_PER_CALL, windows_per_call
from tagger.classifier import PRECISIONS, Classifier, PrecisionName
from tagger.cuda import (
    MAX_BATCH_CLIPS,
    ClipUploader,
    RecordedStep,
    best_batch_size,
    find_batch_size,
    record_if_faster,
)
from tagger.model_file import ModelInfo
from tagger.models.fast import flat, operators
from tagger.models.fast.fused import fuse
from tagger.models.registry import CNN3D_PREPROCESSING, build_network
from tagger.preprocessing import View
from tagger.tagger import load_model
from tagger.windows import Sampling
from tests.tagger.models.fast.test_fused import NETWORKS, a_backbone
from tests.tagger.test_classifier import a_cnn3d, noise

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(
    ("fixed_s", "each_s", "expected"),
    [
        # A clip takes the same time in any batch.
        (0.0, 1.0, 1),
        # Half of the time of one clip is fixed: 32 are 3 % faster than 16, and 16 are 6 % faster than 8.
        (1.0, 1.0, 16),
        # All of the time is fixed.
        (100.0, 0.0, 32),
    ],
)
def test_the_smallest_batch_is_taken_that_is_nearly_the_fastest(fixed_s: float, each_s: float, expected: int) -> None:
    assert find_batch_size(lambda size: fixed_s + each_s * size, max_size=32) == expected


def test_a_call_has_more_than_one_batch_so_that_the_next_is_copied_while_one_is_computed() -> None:
    assert WINDOWS_PER_CALL >= 2 * MAX_BATCH_CLIPS


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory.",
        "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_a_batch_that_does_not_fit_into_memory_ends_the_search(words: str) -> None:
    tried = []

    def seconds(size: int) -> float:
        tried.append(size)
        if size > 4:
            raise RuntimeError(words)
        return 1.0

    assert find_batch_size(seconds, max_size=32) == 4
    assert tried == [1, 2, 4, 8]


def test_an_error_is_raised_when_a_single_clip_does_not_fit() -> None:
    def seconds(size: int) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        find_batch_size(seconds)


def test_on_a_gpu_full_batches_use_the_recorded_step_and_the_rest_the_plain_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = a_cnn3d()
    clips = noise(7, 4, 32)
    expected, _, plain_embeddings = classifier.classify_and_embed(clips, 3)
    made: list[tuple[int, ...]] = []
    used: list[int] = []

    def recorded(step, shape, device):  # type: ignore[no-untyped-def]
        made.append(shape)

        def fast(pixels: torch.Tensor) -> torch.Tensor:
            used.append(len(pixels))
            if len(pixels) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return step(pixels)

        return fast

    monkeypatch.setattr(tagger.classifier, "best_batch_size", lambda *_: 6)
    monkeypatch.setattr(tagger.classifier, "record_if_faster", recorded)
    # The test has no GPU, so only the device's name changes.
    monkeypatch.setattr(classifier, "device", torch.device("cuda"))
    for _ in range(2):
        np.testing.assert_allclose(classifier.probabilities(clips), expected, atol=1e-6)
    assert used == [6, 3, 3, 3, 3]
    assert made == [(6, 4, 32, 32, 3), (3, 4, 32, 32, 3)]
    # Embeddings are outputs of another step, which is recorded as well.
    for _ in range(2):
        probabilities, _, embeddings = classifier.classify_and_embed(clips)
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        np.testing.assert_allclose(embeddings, plain_embeddings, atol=1e-3)
    assert used[5:] == [3, 3, 3, 3]
    assert made[2:] == [(3, 4, 32, 32, 3)]


@pytest.mark.parametrize(("view", "clips"), [("whole", 16), ("three", 5)])
def test_two_of_the_largest_batches_fit_into_a_call_of_an_actor(
    view: View, clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]})
    classifier = Classifier(network, replace(CNN3D_PREPROCESSING, view=view))
    asked: list[int] = []

    def measured(step, clip_shape, device, max_size):  # type: ignore[no-untyped-def]
        asked.append(max_size)
        return max_size

    monkeypatch.setattr(tagger.classifier, "best_batch_size", measured)
    monkeypatch.setattr(classifier, "device", torch.device("cuda"))
    classifier._auto_batch_size((16, 112, 112, 3))
    assert asked == [clips]
    info = ModelInfo("cnn3d-lstm", ("walk",) * 5, Sampling(), classifier._preprocessing)
    assert 2 * clips <= windows_per_call(info, "cuda")


@needs_gpu
def test_uploaded_clips_are_unchanged_over_many_batches() -> None:
    upload = ClipUploader(torch.device("cuda"))
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (size, 4, 32, 32, 3), dtype=np.uint8) for size in (3, 5, 1, 8, 2, 8, 8)]
    uploaded = [upload(batch) for batch in batches]
    for batch, pixels in zip(batches, uploaded, strict=True):
        np.testing.assert_array_equal(pixels.cpu().numpy(), batch)


@needs_gpu
@torch.inference_mode()
def test_a_recorded_step_computes_what_the_step_computes() -> None:
    network = build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]})
    classifier = Classifier(network, CNN3D_PREPROCESSING, device="cuda", precision="fp32")
    batches = [torch.from_numpy(noise(4, 4, 32) // divisor).cuda() for divisor in (1, 2)]
    recorded = RecordedStep(classifier._step, torch.zeros_like(batches[0]))
    for batch in batches:
        torch.testing.assert_close(recorded(batch), classifier._step(batch), atol=1e-4, rtol=1e-4)
    assert 1 <= best_batch_size(classifier._step, (4, 32, 32, 3), classifier.device) <= MAX_BATCH_CLIPS
    fastest = record_if_faster(classifier._step, tuple(batches[0].shape), classifier.device)
    torch.testing.assert_close(fastest(batches[0]), classifier._step(batches[0]), atol=1e-4, rtol=1e-4)


@needs_gpu
def test_a_step_that_cannot_be_recorded_is_used_unrecorded() -> None:
    def step(pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float() * float(pixels.sum().item())  # Waits for the GPU, which is not allowed in a recording.

    device = torch.device("cuda", torch.cuda.current_device())
    assert record_if_faster(step, (1, 2, 4, 4, 3), device) is step
    # The failed recording does not affect later steps.
    assert best_batch_size(step, (2, 4, 4, 3), device) >= 1


@needs_gpu
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.2), ("fp16", 0.03)])
@torch.inference_mode()
def test_a_gpu_computes_what_a_cpu_computes(name: str, precision: PrecisionName, tolerance: float) -> None:
    backbone, clip = a_backbone(name)
    expected = backbone(clip)
    on_gpu = fuse(copy.deepcopy(backbone).cuda()).to(PRECISIONS[precision], memory_format=torch.channels_last_3d)
    clip = clip.cuda().contiguous(memory_format=torch.channels_last_3d)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), operators.tuning():
        actual = on_gpu(clip).float().cpu()
    assert (actual - expected).norm() <= tolerance * expected.norm()


@needs_gpu
@pytest.mark.parametrize("batch_size", [None, 2, 3])
def test_probabilities_of_a_gpu_are_those_of_a_cpu(batch_size: int | None) -> None:
    tagger = load_model()
    exact = load_model(device="cpu", precision="fp32")
    clips = noise(7, 16, 224)
    expected = exact.classifier.probabilities(clips)
    np.testing.assert_allclose(tagger.classifier.probabilities(clips, batch_size), expected, atol=0.05)
    probabilities, _, embeddings = tagger.classifier.classify_and_embed(clips, batch_size)
    np.testing.assert_allclose(probabilities, expected, atol=0.05)
    similarities = (embeddings.astype(np.float32) * exact.classifier.classify_and_embed(clips)[2]).sum(axis=1)
    np.testing.assert_allclose(similarities, 1, atol=0.02)


@needs_gpu
@torch.inference_mode()
def test_the_fast_operators_work_on_this_gpu() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    backbone, clip = a_backbone("i3d-kinetics400")
    network = fuse(backbone.to(device)).to(torch.bfloat16, memory_format=torch.channels_last_3d)
    probed = operators.conv2d_relu, operators.linear_relu, flat.max_pool2d
    for operator in probed:
        operator.works.clear()
    network(clip.to(device, torch.bfloat16).contiguous(memory_format=torch.channels_last_3d))
    for operator in probed:
        assert any(operator.works.values())
