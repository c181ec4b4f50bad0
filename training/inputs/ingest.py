"""Ingests clips: decodes them and makes the arrays that a training needs, once for all epochs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tagger.clips import VideoEnd
from tagger.errors import DataSetError
from training import distributed
from training.data.data_set import LabelledClip
from training.inputs.clip_cache import ClipCache
from training.inputs.clip_decoding import DecodedClip, decode_clips
from training.inputs.forms import Form, Windows

OnClip = Callable[[LabelledClip, str | None], None]
"""A callback for each clip that is done. The second argument is the error of an unreadable clip, else None."""


@dataclass(frozen=True)
class Ingested:
    """An ingested clip: its key in the cache, the number of rows of its array, and the error if it was unreadable."""

    key: str
    rows: int
    problem: str | None = None


IngestedClips = Mapping[str, Ingested]
"""Clips that have been ingested before, by key in the cache."""


def ingest(
    clips: Sequence[LabelledClip], form: Form, cache: ClipCache, ingested: IngestedClips | None = None
) -> Iterator[tuple[LabelledClip, Ingested]]:
    """Ingests ``clips`` in ``form``, in order; clips that are in ``ingested`` or in the cache are not decoded."""
    keys = [cache.key(clip, form) for clip in clips]
    results: list[Ingested | None] = []
    for key in keys:
        found = (ingested or {}).get(key)
        if found is None and (array := cache.load(key)) is not None:
            found = Ingested(key, len(array))
        results.append(found)
    missing = [clip for clip, found in zip(clips, results, strict=True) if found is None]
    decoded = decode_clips(missing, form.sampling, form.preprocessing)
    for clip, key, found in zip(clips, keys, results, strict=True):
        if found is None:
            read = next(decoded)
            array = form.make(read)
            if read.problem is None:
                cache.save(key, array)
            found = Ingested(key, len(array), read.problem)
        yield clip, found


def clip_arrays(
    clips: Sequence[LabelledClip], form: Form, cache: ClipCache
) -> Iterator[tuple[LabelledClip, np.ndarray, str | None]]:
    """Yields each clip, its array in ``form``, and the error if it was unreadable, in order.

    Arrays that are not in the cache are made of windows that are in it, or else of the decoded video, and saved.
    """
    windows = Windows(form.sampling, form.preprocessing)
    keys = [(cache.key(clip, form), cache.key(clip, windows)) for clip in clips]
    is_cached = [any(cache.load(key) is not None for key in of_clip) for of_clip in keys]
    missing = [clip for clip, cached in zip(clips, is_cached, strict=True) if not cached]
    decoded = decode_clips(missing, form.sampling, form.preprocessing)
    for clip, (key, windows_key), cached in zip(clips, keys, is_cached, strict=True):
        array, problem = cache.load(key) if cached else None, None
        if array is None:
            kept = cache.load(windows_key) if cached else None
            if kept is not None:
                read = DecodedClip(clip, kept, VideoEnd("ok", len(kept)))
            else:
                # A clip may have been removed from the cache in the meantime.
                read = next(decode_clips([clip], form.sampling, form.preprocessing) if cached else decoded)
            array, problem = form.make(read), read.problem
            if problem is None:
                cache.save(key, array)
        yield clip, array, problem


class ClipStore:
    """The arrays of ``clips`` in one form, from the cache; arrays for which it had no room are made again.

    ``rows`` is the number of rows of each array. Raises DataSetError when none of the clips could be read.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        form: Form,
        cache: ClipCache,
        *,
        on_clip: OnClip = lambda clip, problem: None,
        ingested: IngestedClips | None = None,
    ):
        self.clips, self.form = clips, form
        self._cache = cache
        self._keys: list[str] = []
        rows: list[int] = []
        for clip, found in ingest(clips, form, cache, ingested):
            self._keys.append(found.key)
            rows.append(found.rows)
            on_clip(clip, found.problem)
        # All workers must use the same items, even when one of them cannot read a clip at the moment.
        self.rows = distributed.broadcast(rows)
        if not any(self.rows):
            raise DataSetError("none of the clips could be read")

    def array(self, index: int) -> np.ndarray:
        """Returns the array of clip number ``index``."""
        kept = self._cache.load(self._keys[index])
        if kept is not None:
            return kept
        (decoded,) = decode_clips([self.clips[index]], self.form.sampling, self.form.preprocessing, threads=1)
        array = self.form.make(decoded)
        if len(array) != self.rows[index]:
            raise DataSetError(f"{self.clips[index].path} has changed while it was used for training; train again")
        return array
