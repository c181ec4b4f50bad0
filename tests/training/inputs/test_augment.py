"""Random views of a clip differ from each other, and add no motion to it."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.inputs.augment import AUGMENTATIONS, Augmentation, Draw, random_frame_indices, random_view

AUGMENTATION = Augmentation()


def draws(seed: int) -> Draw:
    return random.Random(seed).uniform


@given(frames=st.integers(1, 200), wanted=st.integers(1, 32), seed=st.integers(0, 1000))
def test_frame_indices_are_in_the_clip_in_order_at_about_its_own_rate(frames: int, wanted: int, seed: int) -> None:
    indices = random_frame_indices(frames, wanted, AUGMENTATION, draws(seed))
    assert indices.shape == (wanted,) and indices.min() >= 0 and indices.max() < frames
    steps = indices.diff()
    assert (steps >= 0).all() and (steps <= 2).all()
    if frames > 2 * wanted:
        # No frame is repeated as padding, and the rate is within its bounds.
        assert (wanted - 1) / AUGMENTATION.rate - 1 <= indices[-1] - indices[0] <= (wanted - 1) * AUGMENTATION.rate + 1


def test_views_reach_from_the_first_to_the_last_frame_of_a_clip() -> None:
    seen = torch.cat([random_frame_indices(40, 8, AUGMENTATION, draws(seed)) for seed in range(300)])
    assert set(range(40)) == set(seen.tolist())


@pytest.mark.parametrize("size", [(48, 48), (40, 64), (64, 40), (5, 5)])
def test_a_view_of_a_still_clip_is_still(size: tuple[int, int]) -> None:
    still = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8).expand(6, -1, -1, -1)
    for seed in range(20):
        view = random_view(still, 32, AUGMENTATION, draws(seed))
        assert view.shape == (6, 32, 32, 3) and view.dtype == torch.uint8
        assert (view == view[:1]).all()


def test_views_differ_in_side_part_and_light() -> None:
    # Red grows to the right, green to the bottom.
    ramp = torch.linspace(40, 200, 64)
    picture = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.full((64, 64), 100.0)], dim=-1)
    clip = picture.to(torch.uint8)[None]
    views = torch.stack([random_view(clip, 32, AUGMENTATION, draws(seed))[0] for seed in range(60)]).float()
    to_right = (views[:, :, -1, 0] - views[:, :, 0, 0]).mean(dim=1)
    assert (to_right > 0).any() and (to_right < 0).any(), "mirrored left to right"
    assert ((views[:, -1, :, 1] - views[:, 0, :, 1]).mean(dim=1) > 0).all(), "never upside down"
    assert to_right.abs().max() > 1.3 * to_right.abs().min(), "parts of different sizes"
    assert views[..., 2].mean(dim=(1, 2)).std() > 10, "light"


def test_random_views_of_the_whole_frame_show_most_of_it() -> None:
    ramp = torch.linspace(0, 255, 64)
    clip = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)], dim=-1)
    still = replace(AUGMENTATIONS["whole"], light=0)
    for seed in range(100):
        view = random_view(clip.to(torch.uint8)[None], 32, still, draws(seed))[0].float()
        shown = [view[..., channel].max() - view[..., channel].min() for channel in (0, 1)]
        assert min(shown) > 0.7 * 255, "of each side"
        assert shown[0] * shown[1] > 0.6 * 255**2, "of the area"
