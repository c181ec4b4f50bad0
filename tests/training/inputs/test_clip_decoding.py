"""A clip that is a part of a video has frames of that part only."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tagger import Preprocessing, Sampling
from tagger.clips import read_spans
from tagger.isolation import decoder_of_this_thread
from tests.training.reads import recorded_reads
from training.data.data_set import LabelledClip
from training.inputs.clip_decoding import DecodedClip, decode_clips

SMALL = Preprocessing(32, 32)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of ten seconds that grows brighter by 20 levels a second."""
    return write_clock(tmp_path_factory.mktemp("clock") / "clock.mp4")


def write_clock(path: Path, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"crf": "1", **options}
        for i in range(300):
            picture = np.full((64, 64, 3), 20 + i * 20 / 30, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def clip(path: Path, start_s: float, end_s: float | None) -> LabelledClip:
    return LabelledClip(path, "a", "g", "manifest", start_s, end_s)


def steps(clock: Path, decoded: DecodedClip) -> np.ndarray:
    """Returns the sample step of the video of each frame, ``[windows, frames]``, which its brightness tells."""
    film = list(read_spans(clock, Sampling(num_frames=1), SMALL))
    levels = np.concatenate([span.clips for span in film]).mean(axis=(1, 2, 3, 4))
    assert (np.diff(levels) > 0).all()
    return np.abs(decoded.windows.mean(axis=(2, 3, 4))[..., None] - levels).argmin(axis=-1)


def decode(*clips: LabelledClip) -> list[DecodedClip]:
    return list(decode_clips(clips, Sampling(), SMALL))


def test_windows_begin_at_the_first_sample_step_of_the_part_and_lie_end_to_end(clock: Path) -> None:
    (decoded,) = decode(clip(clock, 2.0, 7.0))
    assert decoded.problem is None
    # 2.0 s is step 15 and 7.0 s lies between steps 52 and 53. The third window is shifted back to end there.
    assert steps(clock, decoded).tolist() == [list(range(first, first + 16)) for first in (15, 31, 37)]


def test_a_short_part_has_no_frames_from_outside_of_it(clock: Path) -> None:
    short, between_steps = decode(clip(clock, 3.0, 3.5), clip(clock, 4.01, 4.02))
    assert steps(clock, short).tolist() == [[23, 24, 25, 26] + [26] * 12]
    assert steps(clock, between_steps).tolist() == [[31] * 16]


def test_without_an_end_a_part_goes_on_to_the_end_of_the_video(clock: Path) -> None:
    (decoded,) = decode(clip(clock, 7.0, None))
    assert steps(clock, decoded)[:, 0].tolist() == [53, 59]
    assert steps(clock, decoded)[:, -1].tolist() == [68, 74]


def test_parts_and_whole_videos_are_decoded_in_the_given_order(clock: Path) -> None:
    asked = (clip(clock, 6.0, 8.0), clip(clock, 1.0, 3.0), clip(clock, 0.0, None), clip(clock, 4.0, 6.0))
    decoded = decode(*asked)
    assert tuple(each.clip for each in decoded) == asked
    assert [int(steps(clock, each)[0, 0]) for each in decoded] == [45, 8, 0, 30]


def test_parts_of_one_video_that_follow_each_other_are_read_once(clock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = recorded_reads(monkeypatch)
    assert len(decode(clip(clock, 1, 2), clip(clock, 3, 4), clip(clock, 5, 6))) == 3
    assert reads == [clock]


def test_a_part_after_the_end_of_its_video_is_unreadable_and_other_clips_are_read(clock: Path, tmp_path: Path) -> None:
    good, late, missing = decode(clip(clock, 1, 3), clip(clock, 12, 14), clip(tmp_path / "no.mp4", 1, 2))
    assert good.problem is None and len(good.windows) == 1
    assert late.problem == f"{clock} ends before its clip begins, at 12 s" and len(late.windows) == 0
    assert str(tmp_path / "no.mp4") in str(missing.problem)


def test_parts_before_and_after_damage_show_their_own_times(clock: Path, tmp_path: Path) -> None:
    # Each frame is a key frame, so no other frame is lost.
    path = write_clock(tmp_path / "damaged.mp4", g="1")
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    with path.open("r+b") as file:
        for pos, size in packets[90:120]:
            file.seek(pos)
            file.write(bytes(size))
    parts = ((1, 2), (3.1, 3.8), (2, 5), (1, 9), (5, 7.5))
    before, lost, short, across, after = decode(*(clip(path, *part) for part in parts))
    assert before.problem is None and steps(clock, before)[0, 0] == 8
    assert len(lost.windows) == 0 and lost.problem == f"{path} cannot be read where its clip begins, at 3.1 s"
    # Steps 23 to 29 are lost. No window joins frames from before and after them.
    assert len(short.windows) == 0
    assert short.problem == f"{path} is damaged in every window of its clip, which begins at 2 s"
    assert steps(clock, across).tolist() == [list(range(first, first + 16)) for first in (40, 52)]
    assert steps(clock, after).tolist() == [list(range(first, first + 16)) for first in (38, 41)]


def test_clips_that_are_decoded_one_by_one_share_a_decoder_process(clock: Path) -> None:
    decode(clip(clock, 0, None))
    started = decoder_of_this_thread().started
    decode(clip(clock, 0, None))
    assert decoder_of_this_thread().started == started
    assert started > 0
