"""Training inputs: features are computed once, random views depend on a seed, and the cache changes no result."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tagger import Classifier, DataSetError, Preprocessing, Sampling
from tagger.models.registry import CNN3D_PREPROCESSING, build_network
from tagger.preprocessing import View
from tagger.video.readers.reader import PIXEL_VERSION
from tests.training.trees import ucf101_tree, write_clip
from training import read_data_set
from training.data.data_set import LabelledClip
from training.inputs.augment import AUGMENTATIONS
from training.inputs.clip_cache import ClipCache
from training.inputs.forms import Features, Film, Windows
from training.inputs.ingest import ClipStore
from training.inputs.sources import FeatureSource, PixelSource, ViewSource


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledClip, ...]:
    return read_data_set(ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=2)).clips


class CountingClassifier(Classifier):
    calls = 0

    def features(self, clips: np.ndarray) -> torch.Tensor:
        self.calls += 1
        return super().features(clips)


LABELS = ["Across", "Down"]


def features(
    clips: tuple[LabelledClip, ...],
    cache: Path,
    seed: int = 0,
    preprocessing: Preprocessing = CNN3D_PREPROCESSING,
) -> tuple[FeatureSource, int]:
    torch.manual_seed(seed)
    backbone = CountingClassifier(build_network("cnn3d-lstm", 2), preprocessing, device="cpu")
    store = ClipStore(clips, Features(Sampling(), preprocessing, backbone, mirrored=True), ClipCache(cache))
    return FeatureSource(store, LABELS), backbone.calls


def test_a_window_has_plain_and_mirrored_features_and_only_training_uses_the_mirrored_ones(
    clips: tuple[LabelledClip, ...], tmp_path: Path
) -> None:
    source, calls = features(clips, tmp_path)
    everything = torch.arange(len(source.targets.labels))
    assert calls == 2 * len(everything)
    plain = source.inputs(everything, None)
    assert torch.equal(plain, source.inputs(everything, None))
    drawn = torch.stack([source.inputs(everything, str(seed)) for seed in range(8)])
    is_plain = (drawn == plain).all(dim=-1).all(dim=-1)
    assert is_plain.any() and not is_plain.all()


def test_cached_features_are_not_computed_again(clips: tuple[LabelledClip, ...], tmp_path: Path) -> None:
    first, calls = features(clips, tmp_path)
    again, calls_again = features(clips, tmp_path)
    assert calls > 0 and calls_again == 0
    everything = torch.arange(len(first.targets.labels))
    assert torch.equal(first.inputs(everything, None), again.inputs(everything, None))
    assert torch.equal(first.targets.labels, again.targets.labels)


def test_other_weights_or_preprocessing_do_not_use_the_same_features(
    clips: tuple[LabelledClip, ...], tmp_path: Path
) -> None:
    features(clips, tmp_path)
    assert features(clips, tmp_path, seed=1)[1] > 0
    assert features(clips, tmp_path, preprocessing=replace(CNN3D_PREPROCESSING, resize=120))[1] > 0


def test_parts_of_one_video_have_features_of_their_own(clips: tuple[LabelledClip, ...], tmp_path: Path) -> None:
    parts = (replace(clips[0], end_s=0.5), replace(clips[0], start_s=0.5))
    first, calls = features(parts, tmp_path)
    again, calls_again = features(parts, tmp_path)
    assert calls > 0 and calls_again == 0
    both = torch.arange(2)
    assert torch.equal(first.inputs(both, None), again.inputs(both, None))
    assert not torch.equal(*first.inputs(both, None))


def test_a_clip_that_cannot_be_read_is_reported_and_has_no_windows(
    clips: tuple[LabelledClip, ...], tmp_path: Path
) -> None:
    broken = LabelledClip(tmp_path / "broken.mp4", "Down", "9", "file")
    broken.path.write_bytes(b"not a video")
    reported: list[tuple[LabelledClip, str | None]] = []
    store = ClipStore(
        (broken, clips[0]),
        Windows(Sampling(), CNN3D_PREPROCESSING),
        ClipCache(tmp_path / "cache"),
        on_clip=lambda clip, problem: reported.append((clip, problem)),
    )
    assert set(PixelSource(store, LABELS, CNN3D_PREPROCESSING).targets.videos.tolist()) == {1}
    assert reported[0][0] == broken and "broken.mp4" in str(reported[0][1])
    assert reported[1] == (clips[0], None)


def test_a_store_without_readable_clips_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    clip = LabelledClip(tmp_path / "x.mp4", "Down", "1", "file")
    with pytest.raises(DataSetError, match="none of the clips could be read"):
        ClipStore([clip], Windows(Sampling(), CNN3D_PREPROCESSING), ClipCache(tmp_path / "cache"))


def random_views(
    clips: tuple[LabelledClip, ...], cache: ClipCache, frames: int = 8, view: View = "whole"
) -> ViewSource:
    preprocessing = replace(CNN3D_PREPROCESSING, view=view)
    store = ClipStore(clips, Film(Sampling(), preprocessing), cache)
    return ViewSource(store, LABELS, preprocessing, AUGMENTATIONS[view], frames=frames)


def test_with_a_full_cache_clips_are_decoded_again_with_the_same_result(
    clips: tuple[LabelledClip, ...], tmp_path: Path
) -> None:
    everything = torch.arange(len(clips))
    roomy = random_views(clips, ClipCache(tmp_path / "roomy"))
    one = next((tmp_path / "roomy").iterdir()).stat().st_size
    narrow = random_views(clips, ClipCache(tmp_path / "narrow", max_bytes=2 * one + 100))
    assert len(list((tmp_path / "roomy").iterdir())) == len(clips)
    assert len(list((tmp_path / "narrow").iterdir())) == 2
    assert torch.equal(roomy.inputs(everything, "1"), narrow.inputs(everything, "1"))


def test_a_random_view_depends_only_on_the_clip_and_the_seed(clips: tuple[LabelledClip, ...], tmp_path: Path) -> None:
    source = random_views(clips, ClipCache(tmp_path))
    everything = torch.arange(len(clips))
    first, again, other = (source.inputs(everything, seed) for seed in ("1", "1", "2"))
    assert torch.equal(source.inputs(everything[2:], "1"), first[2:])
    assert first.shape == (len(clips), 3, 8, CNN3D_PREPROCESSING.size, CNN3D_PREPROCESSING.size)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_film_has_each_step_of_a_clip_once(tmp_path: Path) -> None:
    # Two windows of 16 frames, of which the second is shifted back by 14 steps.
    clip = LabelledClip(write_clip(tmp_path / "short.mp4", "Down", 1, frames=72), "Down", "1", "file")
    cache = ClipCache(tmp_path)
    film = ClipStore((clip,), Film(Sampling(), CNN3D_PREPROCESSING), cache).array(0)
    windows = ClipStore((clip,), Windows(Sampling(), replace(CNN3D_PREPROCESSING, size=128)), cache).array(0)
    assert np.array_equal(film[:16], windows[0]) and np.array_equal(film[2:], windows[1])


def test_a_random_view_shows_no_frame_for_long(tmp_path: Path) -> None:
    clip = LabelledClip(write_clip(tmp_path / "short.mp4", "Down", 1, frames=72), "Down", "1", "file")
    source = random_views((clip,), ClipCache(tmp_path))
    for seed in range(60):
        view = source.inputs(torch.tensor([0]), str(seed))[0]
        still = (view[:, 1:] == view[:, :-1]).flatten(2).all(dim=2).all(dim=0)
        # At 4/5 of the speed, one frame in five is shown twice.
        assert still.sum() <= 2


@pytest.mark.parametrize(("view", "tolerance"), [("centre", 0), ("whole", 0.05), ("three", 0.05)])
def test_without_a_seed_a_view_is_what_the_tagger_sees(tmp_path: Path, view: View, tolerance: float) -> None:
    preprocessing = replace(CNN3D_PREPROCESSING, view=view)
    paths = [write_clip(tmp_path / f"{label}.mp4", label, 1, frames=72) for label in LABELS]
    clips = tuple(LabelledClip(path, path.stem, "1", "file") for path in paths)
    cache = ClipCache(tmp_path / "cache")
    views = random_views(clips, cache, 16, view)
    store = ClipStore(clips, Windows(Sampling(), preprocessing), cache)
    pixels = PixelSource(store, LABELS, preprocessing)
    first = torch.from_numpy(np.unique(pixels.targets.videos, return_index=True)[1])
    seen, expected = views.inputs(torch.arange(len(clips)), None), pixels.inputs(first, None)
    assert seen.shape == expected.shape
    # A film is scaled once more, except for the centre, which is cropped. A pixel is between -2 and 2 here.
    assert (seen - expected).abs().mean() <= tolerance
    assert torch.equal(views.targets.labels, pixels.targets.labels[first])


def test_a_random_view_of_three_crops_is_of_any_one_of_them(tmp_path: Path) -> None:
    clip = LabelledClip(tmp_path / "wide.mp4", "Down", "1", "file")
    # The left third of the picture is red, the middle green, the right blue.
    picture = np.zeros((64, 192, 3), np.uint8)
    for third in range(3):
        picture[:, 64 * third : 64 * third + 64, third] = 200
    with av.open(str(clip.path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 192, 64, "yuv420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    source = random_views((clip,), ClipCache(tmp_path / "cache"), view="three")
    views = torch.cat([source.inputs(torch.tensor([0]), str(seed)) for seed in range(40)])
    size = CNN3D_PREPROCESSING.size
    assert views.shape == (40, 1, 3, 8, size, size)
    colours = views.mean(dim=(1, 3, 4, 5))
    strongest = colours.sort(dim=1)
    assert set(strongest.indices[:, 2].tolist()) == {0, 1, 2}
    assert (strongest.values[:, 2] - strongest.values[:, 1] > 1).all(), "of one crop only"
    every = source.inputs(torch.tensor([0]), None)
    assert every.shape == (1, 3, 3, 8, size, size)
    assert every.mean(dim=(3, 4, 5))[0].argmax(dim=1).tolist() == [0, 1, 2]


def test_arrays_of_another_pixel_version_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Classifier(build_network("cnn3d-lstm", 2), CNN3D_PREPROCESSING, device="cpu")
    forms = [
        Windows(Sampling(), CNN3D_PREPROCESSING),
        Film(Sampling(), CNN3D_PREPROCESSING),
        Features(Sampling(), CNN3D_PREPROCESSING, backbone, mirrored=True),
    ]
    before = [form.identity for form in forms]
    monkeypatch.setattr("training.inputs.forms.PIXEL_VERSION", PIXEL_VERSION + 1)
    again = [*forms[:2], Features(Sampling(), CNN3D_PREPROCESSING, backbone, mirrored=True)]
    assert all(form.identity != old for form, old in zip(again, before, strict=True))
