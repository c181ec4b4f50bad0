"""The slow and obvious reference: decodes every frame of a video with PyAV in sequence and scales it."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tagger.preprocessing import Preprocessing
from tagger.video.pyav_versions import TOLERANT_OPEN_OPTIONS
from tests.tagger.zoo import Specimen
from tests.videos import read_frame_number


@dataclass(frozen=True)
class ReferenceFrame:
    """A frame: its start in seconds from the first frame, the number in its picture, its scaled and cropped pixels."""

    start_s: float
    number: int | None
    pixels: np.ndarray


def decode_all(path: Path, specimen: Specimen, preprocessing: Preprocessing) -> tuple[list[ReferenceFrame], float]:
    """Decodes all frames of the first video stream. Returns them and the end of the last one in seconds."""
    frames = [frame for source in specimen.sources or (path.name,) for frame in _frames(path.with_name(source))]
    times = [frame.pts * float(frame.time_base) if frame.pts is not None else float("nan") for frame in frames]
    starts_s = [time_s - times[0] for time_s in times]
    last_s = float(frames[-1].duration * frames[-1].time_base) or starts_s[-1] - starts_s[-2]
    end_s = starts_s[-1] + last_s
    if not np.all(np.diff(starts_s) > 0):
        # Raw streams have no times, times in AVI are wrong, and times in joined streams start again.
        assert specimen.shown is not None and specimen.end_s is not None
        starts_s, end_s = [start_s for start_s, _ in specimen.shown], specimen.end_s
    turns = specimen.rotation // 90
    stored_width, stored_height = frames[0].width, frames[0].height
    width, height = stored_width * float(specimen.pixel_aspect), float(stored_height)
    scaled = preprocessing.scaled(*((height, width) if turns % 2 else (width, height)))
    scaled = scaled[::-1] if turns % 2 else scaled
    pictures = []
    for frame, start_s in zip(frames, starts_s, strict=True):
        picture = frame.reformat(*scaled, format="gbrp", interpolation="BICUBIC").to_ndarray()
        number = read_frame_number(frame.to_ndarray(format="rgb24")) if specimen.is_legible else None
        upright = np.rot90(picture[:, ::-1] if specimen.is_mirrored else picture, -turns)
        pictures.append(ReferenceFrame(start_s, number, preprocessing.crop(upright)))
    return pictures, end_s


def _frames(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path), **TOLERANT_OPEN_OPTIONS) as container:
        cover = av.stream.Disposition.attached_pic
        stream = next(s for s in container.streams.video if not s.disposition & cover)
        # PyAV would end a stream at an empty packet that has a time.
        packets = (packet for packet in container.demux(stream) if packet.size or packet.dts is None)
        return [frame for packet in packets for frame in packet.decode()]
