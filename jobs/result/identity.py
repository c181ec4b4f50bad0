"""The identity of a run: all that its rows depend on, besides the videos.

A run consists of all jobs (starts of a command) until one of them publishes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import tagger
from tagger.windows import Sampling

RELABELLED = frozenset({"vtag.version", "vtag.model", "vtag.model_hash", "vtag.top_k"})
"""Metadata of the tags that need not be those of the tables beside them.

A run writes all tables of a result with the same metadata. ``vtag relabel`` then replaces the tags alone: they name the
new model, and keep the id of the run that made the other tables. So the model of a result is the one that its tags
name.
"""

NO_EMBEDDINGS = "no embeddings"
"""The difference of a run without embeddings to one with them."""


@dataclass(frozen=True)
class RunIdentity:
    """The model, the sampling (in its JSON form) and the number of labels that rows were made with.

    ``embeddings`` is the JSON form of ``ModelSource.embeddings`` when the rows have embeddings, else None. ``only`` is
    what ``recorded_ranges`` of jobs/archive/selection.py gives when only ranges of videos were tagged, else None.
    """

    model: str
    model_hash: str
    sampling: dict[str, Any]
    top_k: int
    embeddings: dict[str, Any] | None = None
    only: dict[str, Any] | None = None

    @property
    def embedding_size(self) -> int | None:
        """The number of values of an embedding; None when the rows have no embeddings."""
        return None if self.embeddings is None else self.embeddings["size"]

    def difference(self, other: "RunIdentity") -> str | None:
        """Names the setting in which ``other`` differs; None when one result can hold the rows of both.

        Other ranges are named beside another setting. Models are compared by their hash: a user may give any name to a
        model.
        """
        return " and ".join(filter(None, (self._other_setting(other), self._other_ranges(other)))) or None

    def _other_setting(self, other: "RunIdentity") -> str | None:
        if self.model_hash != other.model_hash:
            return f"another model ({other.model}, {other.model_hash[:12]})"
        if self.sampling != other.sampling:
            return f"another sampling ({Sampling(**other.sampling)})"
        if self.top_k != other.top_k:
            return f"another top-k ({other.top_k})"
        if self.embeddings != other.embeddings:
            return NO_EMBEDDINGS if other.embeddings is None else "embeddings of another version of vtag"
        assert replace(self, model=other.model, only=other.only) == other
        return None

    def _other_ranges(self, other: "RunIdentity") -> str | None:
        if self.only == other.only:
            return None
        if other.only is None:
            return "whole videos, without --only"
        ranges = f"--only of {other.only['ranges']:,} ranges, {other.only['sha256'][:12]}"
        return f"ranges only ({ranges})" if self.only is None else f"other ranges ({ranges})"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunIdentity":
        """The inverse of ``to_json``; further entries are ignored. Raises KeyError."""
        required = {name: values[name] for name in ("model", "model_hash", "sampling", "top_k")}
        return cls(**required, embeddings=values.get("embeddings"), only=values.get("only"))


def file_metadata(identity: RunIdentity, run_id: str) -> dict[str, str]:
    """The Parquet metadata of all tables of a result. ``run_id`` is the id of the run that made them."""
    metadata = {
        "vtag.version": tagger.__version__,
        "vtag.model": identity.model,
        "vtag.model_hash": identity.model_hash,
        "vtag.sampling": json.dumps(identity.sampling, sort_keys=True),
        "vtag.top_k": str(identity.top_k),
        "vtag.run": run_id,
    }
    if identity.embeddings is not None:
        metadata["vtag.embeddings"] = json.dumps(identity.embeddings, sort_keys=True)
    if identity.only is not None:
        metadata["vtag.only"] = json.dumps(identity.only, sort_keys=True)
    return metadata


def from_metadata(metadata: Mapping[bytes, bytes] | None) -> tuple[RunIdentity, str]:
    """The inverse of ``file_metadata``: the identity and the run. Raises KeyError or ValueError for other metadata."""
    values = _vtag_entries(metadata)
    identity = RunIdentity(
        values["vtag.model"],
        values["vtag.model_hash"],
        json.loads(values["vtag.sampling"]),
        int(values["vtag.top_k"]),
        json.loads(values["vtag.embeddings"]) if "vtag.embeddings" in values else None,
        json.loads(values["vtag.only"]) if "vtag.only" in values else None,
    )
    return identity, values["vtag.run"]


def belongs_beside(table: Mapping[bytes, bytes] | None, tags: Mapping[bytes, bytes] | None) -> bool:
    """Checks whether a table of videos or embeddings belongs to tags, by the metadata of both.

    They are of the same run, and of the same sampling and embeddings. The model may differ: see ``RELABELLED``.
    """
    first, second = (_vtag_entries(metadata) for metadata in (table, tags))
    return all(first.get(name) == second.get(name) for name in (first.keys() | second.keys()) - RELABELLED)


def _vtag_entries(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items() if key.startswith(b"vtag.")}
