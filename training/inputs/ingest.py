"""Bringing clips into the form that a training needs, once for all epochs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.errors import DataSetError
from training import distributed
from training.data.data_set import LabelledClip
from training.inputs.clip_cache import ClipCache
from training.inputs.clip_decoding import decode_clips
from training.inputs.forms import Form

OnClip = Callable[[LabelledClip, str | None], None]
"""Told of each clip that is done, and why it could not be read when it could not."""


@dataclass(frozen=True)
class Ingested:
    """A clip that was brought in: its key in the cache, how many rows its array has, and why it could not be read."""

    key: str
    rows: int
    problem: str | None = None


Known = Mapping[str, Ingested]
"""What has been brought in already, by its key in the cache."""


def ingest(
    clips: Sequence[LabelledClip], form: Form, cache: ClipCache, known: Known | None = None
) -> Iterator[tuple[LabelledClip, Ingested]]:
    """Brings ``clips`` into ``form``, in order; those that are ``known`` or in the cache are not decoded."""
    keys = [cache.key(clip, form) for clip in clips]
    there: list[Ingested | None] = []
    for key in keys:
        found = (known or {}).get(key)
        if found is None and (array := cache.load(key)) is not None:
            found = Ingested(key, len(array))
        there.append(found)
    missing = [clip for clip, found in zip(clips, there, strict=True) if found is None]
    decoded = decode_clips(missing, form.sampling, form.preprocessing)
    for clip, key, found in zip(clips, keys, there, strict=True):
        if found is None:
            read = next(decoded)
            array = form.make(read)
            if read.problem is None:
                cache.save(key, array)
            found = Ingested(key, len(array), read.problem)
        yield clip, found


class ClipStore:
    """The arrays of ``clips`` in one form: out of the cache, or made again where it had no room.

    ``rows`` is how many rows each of them has. Raises DataSetError when none of the clips could be read.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        form: Form,
        cache: ClipCache,
        *,
        on_clip: OnClip = lambda clip, problem: None,
        known: Known | None = None,
    ):
        self.clips, self.form = clips, form
        self._cache = cache
        self._keys: list[str] = []
        rows: list[int] = []
        for clip, found in ingest(clips, form, cache, known):
            self._keys.append(found.key)
            rows.append(found.rows)
            on_clip(clip, found.problem)
        # All workers go through the same items, also when one of them cannot read a clip at the moment.
        self.rows = distributed.from_first(rows)
        if not any(self.rows):
            raise DataSetError("none of the clips could be read")

    def array(self, clip: int) -> np.ndarray:
        """The array of clip number ``clip``."""
        kept = self._cache.load(self._keys[clip])
        if kept is not None:
            return kept
        (decoded,) = decode_clips([self.clips[clip]], self.form.sampling, self.form.preprocessing, threads=1)
        array = self.form.make(decoded)
        if len(array) != self.rows[clip]:
            raise DataSetError(f"{self.clips[clip].path} has changed while it was used for training; train again")
        return array
