"""What a model sees of a frame: the whole, the centre, or three crops."""

from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import nn

from tagger.classifier import Classifier
from tagger.clips import read_spans
from tagger.models.registry import ARCHITECTURES, BUILTIN_MODEL
from tagger.preprocessing import VIEWS, Preprocessing, View
from tagger.tagger import find_model
from tagger.video.choose import has_decord
from tagger.video.cutting import choose_first_reader
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import WantedReader
from tagger.windows import Sampling

SAMPLING = Sampling(num_frames=2, sampling_rate=3)
SHAPES = {"16:9": (320, 180), "9:16": (180, 320), "4:3": (320, 240)}
"""Width and height of videos, by their aspect."""

PLACES = ("start", "middle", "end")
"""Places of a mark along the longer side of a picture."""


@pytest.mark.parametrize(
    ("size", "resize", "picture", "scaled"),
    [
        (224, 224, (320, 240), (299, 224)),
        (224, 256, (320, 240), (341, 256)),
        (224, 224, (240, 320), (224, 299)),
        (112, 128, (1920, 1080), (228, 128)),
        (64, 64, (16, 16), (64, 64)),
        (64, 64, (8, 800), (64, 6400)),
        (224, 200, (320, 240), (267, 224)),
    ],
)
def test_for_the_centre_the_shorter_side_is_scaled_and_the_crop_always_fits(
    size: int, resize: int, picture: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert Preprocessing(size, resize).scaled(*picture) == scaled


@pytest.mark.parametrize(("height", "width", "size"), [(6, 10, 4), (7, 10, 4), (4, 4, 4), (5, 4, 4)])
def test_the_crop_is_the_centre(height: int, width: int, size: int) -> None:
    y, x = np.mgrid[:height, :width]
    cropped = Preprocessing(size, size).crop(np.stack([y, x, y], axis=-1))
    assert cropped.shape == (size, size, 3)
    for axis, length in ((0, height), (1, width)):
        before, after = cropped[0, 0, axis], length - 1 - cropped[-1, -1, axis]
        assert before >= 0
        assert 0 <= after - before <= 1


@pytest.mark.parametrize("picture", [(1920, 1080), (1080, 1920), (320, 240), (100, 100), (7, 9)])
def test_the_whole_frame_is_squeezed_to_a_square(picture: tuple[int, int]) -> None:
    whole = Preprocessing(224, 256, view="whole")
    assert whole.scaled(*picture) == (224, 224)
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert np.array_equal(whole.crop(pixels), pixels)


@pytest.mark.parametrize("picture", [(1920, 1080), (1080, 1920), (320, 240), (240, 320), (100, 100), (9, 7)])
def test_three_crops_reach_from_end_to_end_of_the_longer_side_and_lie_side_by_side(picture: tuple[int, int]) -> None:
    three = Preprocessing(64, 72, view="three")
    width, height = three.scaled(*picture)
    assert min(width, height) == 64
    y, x = np.mgrid[:height, :width]
    pixels = three.crop(np.stack([y, x, y], axis=-1))
    assert pixels.shape == three.shape == (64, 192, 3)
    first, middle, last = np.split(pixels, 3, axis=1)
    assert first[0, 0].tolist() == [0, 0, 0]
    assert last[-1, -1].tolist() == [height - 1, width - 1, height - 1]
    assert np.array_equal(middle, Preprocessing(64, 64).crop(np.stack([y, x, y], axis=-1)))


@pytest.mark.parametrize("view", VIEWS)
def test_preprocessing_survives_json(view: View) -> None:
    values = asdict(Preprocessing(112, 128, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), view))
    values["mean"], values["std"] = list(values["mean"]), list(values["std"])
    assert Preprocessing.from_json(values) == Preprocessing(112, 128, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), view)


def test_an_unknown_view_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="view is 'left'; it must be one of whole, centre, three"):
        Preprocessing(view="left")  # type: ignore[arg-type]


def test_without_a_view_it_is_the_centre_as_in_the_models_of_earlier_versions() -> None:
    values = asdict(Preprocessing(112, 128))
    del values["view"]
    assert Preprocessing.from_json(values).view == "centre"


def test_the_built_in_model_and_the_published_models_see_the_centre_and_new_trainings_the_whole() -> None:
    assert find_model().info.preprocessing == BUILTIN_MODEL.preprocessing
    assert BUILTIN_MODEL.preprocessing.view == "centre"
    views = {name: model.preprocessing.view for name, model in ARCHITECTURES.items()}
    assert views == {
        "i3d-kinetics400": "centre",
        "x3d-m-kinetics400": "centre",
        "i3d-lstm": "centre",
        "cnn3d-lstm": "whole",
        "i3d-lite-lstm": "whole",
    }


class Redness(nn.Module):
    """A network whose first logit is the largest red value of a clip, and its second zero."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Identity()
        self.head = LargestRed()


class LargestRed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = x[:, 0].flatten(1).amax(dim=1)
        return torch.stack([red, torch.zeros_like(red)], dim=1)


def marked(path: Path, width: int, height: int, place: str | None, codec: str = "libx264") -> Path:
    """Writes a grey video with a red mark at a place along its longer side, or none."""
    picture = np.full((height, width, 3), 60, np.uint8)
    if place is not None:
        along = {"start": 0, "middle": max(width, height) // 2 - 12, "end": max(width, height) - 24}[place]
        across = min(width, height) // 2 - 12
        top, left = (across, along) if width > height else (along, across)
        picture[top : top + 24, left : left + 24] = (250, 60, 60)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def redness(path: Path, preprocessing: Preprocessing, reader: WantedReader = "auto") -> float:
    (span,) = read_spans(path, SAMPLING, preprocessing, reader=reader)
    classifier = Classifier(Redness(), preprocessing, device="cpu", precision="fp32")
    return float(classifier.logits(span.clips)[:, 0].max())


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("aspect", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
def test_a_mark_at_the_edge_reaches_the_network_unless_it_sees_the_centre(
    view: View, aspect: str, reader: WantedReader, tmp_path: Path
) -> None:
    if reader == "decord" and not has_decord():
        pytest.skip("decord has no wheel for this machine")
    preprocessing = Preprocessing(64, 64, mean=(0, 0, 0), std=(1, 1, 1), view=view)
    plain = redness(marked(tmp_path / "plain.mp4", *SHAPES[aspect], None), preprocessing, reader)
    seen = {
        place: redness(marked(tmp_path / f"{place}.mp4", *SHAPES[aspect], place), preprocessing, reader) > plain + 0.1
        for place in PLACES
    }
    is_seen = view != "centre"
    assert seen == {"start": is_seen, "middle": True, "end": is_seen}


@pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")
@pytest.mark.parametrize("aspect", SHAPES)
@pytest.mark.parametrize("view", VIEWS)
def test_readers_give_the_same_pictures(view: View, aspect: str, tmp_path: Path) -> None:
    path = marked(tmp_path / "a.mp4", *SHAPES[aspect], "start")
    preprocessing = Preprocessing(64, 72, view=view)
    (pyav,) = read_spans(path, SAMPLING, preprocessing, reader="pyav")
    (fast,) = read_spans(path, replace(SAMPLING, fast_decode=True), preprocessing)
    (decord,) = read_spans(path, SAMPLING, preprocessing, reader="decord")
    for other, name in ((fast, "pyav-fast"), (decord, "decord")):
        assert other.end is not None and other.end.choice is not None and other.end.choice.decoder == name
        assert other.clips.shape == pyav.clips.shape == (len(pyav.windows), 2, *preprocessing.shape)
        # They scale slightly differently.
        assert np.abs(other.clips.astype(int) - pyav.clips).mean() < 3


@pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")
def test_decord_may_hold_a_third_of_the_windows_when_each_has_three_crops() -> None:
    facts = VideoFacts("webm", "vp9", 320, 240, 30.0, 200.0, 0, 0.0, 0.001, rotation=0, is_truncated=False)
    readers = {
        view: choose_first_reader(facts, Sampling(), Preprocessing(view=view), reader="decord").reason for view in VIEWS
    }
    assert readers["three"] == "too long for decord, which must hold all frames in memory"
    assert readers["whole"] == readers["centre"] != readers["three"]


def noise(n: int, preprocessing: Preprocessing) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 4, *preprocessing.shape), np.uint8)


def test_the_logits_of_three_crops_are_the_mean_of_the_logits_of_each() -> None:
    three = Preprocessing(32, 32, view="three")
    clips = noise(3, three)
    classifiers = {
        preprocessing: Classifier(small_network(), preprocessing, device="cpu", precision="fp32")
        for preprocessing in (three, replace(three, view="centre"))
    }
    together, alone = classifiers.values()
    each = [alone.logits(np.ascontiguousarray(crop)) for crop in np.split(clips, 3, axis=3)]
    assert np.abs(each[0] - each[1]).max() > 0.01
    np.testing.assert_allclose(together.logits(clips), np.mean(each, axis=0), atol=1e-5)
    np.testing.assert_allclose(together.logits(clips, batch_size=2), np.mean(each, axis=0), atol=1e-5)
    features = together.features(clips)
    assert features.shape[:2] == (3, 3)
    for number, crop in enumerate(np.split(clips, 3, axis=3)):
        torch.testing.assert_close(features[:, number], alone.features(np.ascontiguousarray(crop)), atol=1e-5, rtol=0)
    assert together.operations(4) == 3 * alone.operations(4)


def small_network() -> nn.Module:
    from tagger.models.registry import build_network

    torch.manual_seed(0)
    network = build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]})
    with torch.no_grad():
        network.get_parameter("head.dense.weight").mul_(10)
    return network
