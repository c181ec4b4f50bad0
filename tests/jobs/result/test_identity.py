"""The identity of a run: what it records, and what it says about another one."""

import json
from dataclasses import replace

from jobs.result.identity import RunIdentity, file_metadata, from_metadata
from tagger import Sampling
from tests.jobs.result.finished import EMBEDDED, IDENTITY

ONLY = replace(EMBEDDED, only={"videos": 2, "ranges": 1300, "sha256": "0123456789abcdef" * 4})


def test_an_identity_survives_json_and_the_metadata_of_a_file() -> None:
    for identity in (IDENTITY, EMBEDDED, ONLY):
        assert RunIdentity.from_json(json.loads(json.dumps(identity.to_json()))) == identity
        metadata = {key.encode(): value.encode() for key, value in file_metadata(identity, "run").items()}
        assert from_metadata(metadata) == (identity, "run")
        assert (b"vtag.only" in metadata) == ("only" in identity.to_json()) == (identity is ONLY)


def test_ranges_are_a_difference() -> None:
    other = replace(ONLY, only={"videos": 2, "ranges": 1300, "sha256": "f" * 64})
    assert ONLY.difference(ONLY) is None
    assert other.difference(ONLY) == "other ranges (--only of 1,300 ranges, 0123456789ab)"
    assert EMBEDDED.difference(ONLY) == "ranges only (--only of 1,300 ranges, 0123456789ab)"
    assert ONLY.difference(EMBEDDED) == "whole videos, without --only"


def test_ranges_are_named_beside_another_sampling() -> None:
    other = replace(EMBEDDED, sampling=Sampling(hop_s=5.0).to_json())
    assert ONLY.difference(other) == "another sampling (16×4 @ 30 fps, hop 5 s) and whole videos, without --only"
    assert other.difference(ONLY) == (
        "another sampling (16×4 @ 30 fps, hop 1 s) and ranges only (--only of 1,300 ranges, 0123456789ab)"
    )
