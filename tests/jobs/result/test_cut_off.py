"""A publication into a bucket that is cut off after any of its requests, and repeated."""

import json

import pyarrow as pa
import pytest

from jobs.result.identity import RunIdentity
from jobs.result.ledger import committed_parts, remove
from jobs.result.output import Output, choose_output
from jobs.result.publish import publish
from jobs.result.published import read_result
from jobs.result.verify import verify
from jobs.storage.location import locate
from tagger.errors import OutputError
from tests.jobs.result.embedded import check_embeddings
from tests.jobs.result.finished import EMBEDDED, IDENTITY, commit_to, make_finished, publish_to
from tests.jobs.s3_server import Bucket

OLD = "aabc"
NEW = "xyb"


def labels(addresses: list[str]) -> str:
    """Returns the labels of all segments, sorted by video."""
    rows = pa.concat_tables([locate(address).parquet().read(columns=["video", "label"]) for address in addresses])
    return "".join(rows.sort_by("video")["label"].to_pylist())


def objects(bucket: Bucket, prefix: str) -> dict[str, bytes]:
    return {key: bucket.get(key) for key in bucket.list() if key.startswith(prefix) and not key.endswith("/")}


def publish_run(output: Output, identity: RunIdentity, run_id: str) -> None:
    """Publishes the run in the run folder. It prunes the video c."""
    drop = pa.array(["/v/c.mp4"])
    publish(output, identity, run_id, read_result(output), committed_parts(output.run_folder), drop=drop)


@pytest.mark.slow
@pytest.mark.parametrize(("out", "least"), [("t.parquet", 5), ("result", 12)])
@pytest.mark.parametrize("identity", [IDENTITY, EMBEDDED], ids=["without embeddings", "with embeddings"])
def test_a_publication_that_is_cut_off_anywhere_shows_the_old_or_the_new_result_and_is_completed_when_repeated(
    bucket: Bucket, out: str, least: int, identity: RunIdentity
) -> None:
    address = f"{bucket.address}/{out}"
    publish_to(address, [make_finished("/v/a.mp4", "aa"), make_finished("/v/b.mp4", "b")], identity=identity)
    publish_to(address, [make_finished("/v/c.mp4", "c")], identity=identity)
    output = choose_output(address)
    ledger = commit_to(output, [make_finished("/v/a.mp4", "xy", mtime_ns=2)], identity=identity)
    before = objects(bucket, "")
    yesterday = bucket.get("result/manifest.json") if output.is_folder else b""

    def listed(manifest: bytes) -> str:
        return labels([f"{address}/{part['tags_file']}" for part in json.loads(manifest)["parts"]])

    def shown() -> str:
        keys = list(objects(bucket, f"{out}/tags/")) if output.is_folder else [out]
        return labels([f"{bucket.address}/{key}" for key in keys])

    def check_readers() -> None:
        """Checks what readers see of the bucket that was cut off."""
        if not output.is_folder:
            assert shown() in (OLD, NEW)
            return
        manifest = bucket.get("result/manifest.json")
        assert listed(yesterday) == OLD
        assert listed(manifest) == (OLD if manifest == yesterday else NEW)
        assert manifest != yesterday or shown() == OLD

    for writes in range(100):
        for key in objects(bucket, ""):
            bucket.delete(key)
        for key, content in before.items():
            bucket.put(key, content)
        bucket.server.writes_left = writes
        try:
            publish_run(output, identity, ledger.run_id)
            is_over = True
        except OutputError:
            is_over = False
        bucket.server.recover()
        if is_over:
            break
        check_readers()
        publish_run(output, identity, ledger.run_id)
        check_readers()
        assert shown() == NEW, f"after {writes} requests"
        remove(output.run_folder)
        assert verify(address).problem is None, f"after {writes} requests"
        assert identity.embeddings is None or check_embeddings(address) == len(NEW)
        assert not [key for key in bucket.list() if key.endswith(".tmp")], "no unfinished object is left"
    assert least <= writes < 100
