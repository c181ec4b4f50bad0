"""The work of the Ray driver for ``vtag run``: spreads the videos over the machines and sends back the rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from jobs.archive.gone import can_be_opened
from jobs.archive.video import Video, existing_paths
from jobs.cluster.nodes import check_nodes, decoding_nodes, nodes_where
from jobs.cluster.ray_driver import SendEvent
from jobs.cluster.ray_session import RaySession
from jobs.tagging.decode_trial import DecodeDevice, should_use_nvdec
from jobs.tagging.decoding import OutOfReachError
from jobs.tagging.pipeline import Workers, choose_workers, tag_videos
from tagger.tagger import ModelSource
from tagger.video.readers.reader import WantedReader
from tagger.windows import Part, Sampling

if TYPE_CHECKING:
    from tagger.classifier import DeviceName, PrecisionName


@dataclass(frozen=True)
class TaggingSettings:
    """Settings for tagging: fields of ``RunConfig`` with the same names. ``top_k`` is at most the number of labels.

    ``embeddings``: the result has embeddings, whether or not this command asked for them.
    """

    device: "DeviceName"
    decode_device: DecodeDevice
    reader: WantedReader
    actors: int | None
    top_k: int
    batch_size: int | None
    precision: "PrecisionName"
    embeddings: bool = False


@dataclass(frozen=True)
class CutOff:
    """The ids of ``nodes`` that cannot reach the videos. The chunk ends with it, before all its videos are read."""

    nodes: frozenset[str]


def tag_archive(
    session: RaySession,
    send_event: SendEvent,
    videos: Sequence[Video],
    numbers: Sequence[int],
    source: ModelSource,
    sampling: Sampling,
    settings: TaggingSettings,
    workers: Workers | None = None,
    avoided: Collection[str] = (),
    parts: Mapping[int, Sequence[Part]] = MappingProxyType({}),
) -> None:
    """Tags ``videos``, a chunk of a job. Sends the Workers, then tables of SEGMENTS_SCHEMA as they come back.

    ``numbers`` are the numbers of the videos in the job's list of videos to tag. ``workers`` are those of the chunk
    before; for the first chunk they are chosen here. ``tag_videos`` describes the tables and the errors. Raises
    JobError when a machine of the cluster cannot do its part when the job begins.

    When a node cannot reach the videos, the last event is CutOff. Raises OutOfReachError when no node can.
    """
    workers = workers or _workers(session, videos, source, sampling, settings)
    send_event(workers)
    tables = tag_videos(
        videos,
        source,
        sampling,
        workers,
        numbers=numbers,
        reader=settings.reader,
        avoided=avoided,
        parts=parts,
        top_k=settings.top_k,
        batch_size=settings.batch_size,
        precision=settings.precision,
        embeddings=settings.embeddings,
    )
    try:
        for table in tables:
            send_event(table)
    except OutOfReachError as error:
        others = decoding_nodes() - set(avoided) - {error.node}
        able = nodes_where(can_be_opened, error.video, others)
        if not able:
            raise
        send_event(CutOff(frozenset({error.node} | others - able)))


def _workers(
    session: RaySession, videos: Sequence[Video], source: ModelSource, sampling: Sampling, settings: TaggingSettings
) -> Workers:
    check_nodes(existing_paths(videos))
    wanted = session.cpus, session.gpus, settings.device, settings.actors
    workers = choose_workers(*wanted)
    preprocessing = source.info.preprocessing
    nvdec = should_use_nvdec(videos, sampling, preprocessing, workers, wanted=settings.decode_device, gpus=session.gpus)
    return choose_workers(*wanted, nvdec=True) if nvdec else workers
