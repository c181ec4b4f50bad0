"""The identity of a run: all that its rows depend on, besides the videos.

A run consists of all jobs (starts of a command) until one of them publishes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import tagger
from tagger.windows import Sampling


@dataclass(frozen=True)
class RunIdentity:
    """The model, the sampling (in its JSON form) and the number of labels that rows were made with."""

    model: str
    model_hash: str
    sampling: dict[str, Any]
    top_k: int

    def difference(self, other: "RunIdentity") -> str | None:
        """Names the setting in which ``other`` differs; None when one result can hold the rows of both.

        Models are compared by their hash: a user may give any name to a model.
        """
        if self.model_hash != other.model_hash:
            return f"another model ({other.model}, {other.model_hash[:12]})"
        if self.sampling != other.sampling:
            return f"another sampling ({Sampling(**other.sampling)})"
        if self.top_k != other.top_k:
            return f"another top-k ({other.top_k})"
        assert replace(self, model=other.model) == other
        return None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunIdentity":
        """The inverse of ``to_json``; further entries are ignored. Raises KeyError."""
        return cls(**{name: values[name] for name in ("model", "model_hash", "sampling", "top_k")})


def file_metadata(identity: RunIdentity, run_id: str) -> dict[str, str]:
    """The Parquet metadata of both tables of a result. ``run_id`` is the id of the run that made them."""
    return {
        "vtag.version": tagger.__version__,
        "vtag.model": identity.model,
        "vtag.model_hash": identity.model_hash,
        "vtag.sampling": json.dumps(identity.sampling, sort_keys=True),
        "vtag.top_k": str(identity.top_k),
        "vtag.run": run_id,
    }


def from_metadata(metadata: Mapping[bytes, bytes] | None) -> tuple[RunIdentity, str]:
    """The inverse of ``file_metadata``: the identity and the run. Raises KeyError or ValueError for other metadata."""
    values = {key.decode(): value.decode() for key, value in (metadata or {}).items() if key.startswith(b"vtag.")}
    identity = RunIdentity(
        values["vtag.model"],
        values["vtag.model_hash"],
        json.loads(values["vtag.sampling"]),
        int(values["vtag.top_k"]),
    )
    return identity, values["vtag.run"]
