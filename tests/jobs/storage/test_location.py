import errno
import glob
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs

from jobs.errors import reason
from jobs.storage import file_systems
from jobs.storage.file_systems import StorageError, translate_error
from jobs.storage.location import CHUNK_BYTES, Location, download, is_address, locate
from tests.jobs.s3_server import Bucket

TABLE = pa.table({"number": list(range(1000))})
NAMES = [
    "plain.txt",
    "50% off.txt",
    "a+b=c&d.txt",
    "#1?.txt",
    "%41%2F.txt",
    "café-日本-🎬.txt",
    'it\'s "so".txt',
    "[1]*.txt",
]


@pytest.fixture(params=["a local disk", "a bucket", "fsspec"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """An empty folder on each kind of storage."""
    if request.param == "a local disk":
        yield locate(tmp_path)
    elif request.param == "a bucket":
        yield locate(request.getfixturevalue("bucket").address).child("folder")
    else:
        location = locate(f"memory://{tmp_path}")
        location.create_folder()
        yield location
        location.filesystem.delete_dir(location.path)


@pytest.fixture
def two_attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limits requests to two attempts, so that failures come sooner."""
    monkeypatch.setattr(file_systems, "MAX_ATTEMPTS", 2)
    file_systems.s3_file_system.cache_clear()
    yield
    file_systems.s3_file_system.cache_clear()


def test_files_can_be_written_read_listed_and_deleted(folder: Location) -> None:
    file = folder.child("b.txt")
    assert file.info().type == fs.FileType.NotFound
    assert folder.names() == []
    file.write_text("café")
    folder.child("a.parquet").write_table(TABLE)
    assert file.read_text() == "café"
    assert folder.child("a.parquet").parquet().read() == TABLE
    assert folder.names() == ["a.parquet", "b.txt"]
    assert (file.is_file(), file.is_folder(), file.info().size) == (True, False, 5)
    assert (folder.is_file(), folder.is_folder()) == (False, True)
    assert file.beside("a.parquet") == folder.child("a.parquet")
    file.delete()
    file.delete()
    assert folder.names() == ["a.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_hold_any_character(folder: Location, name: str) -> None:
    file = folder.child(name)
    if isinstance(folder.filesystem, fs.PyFileSystem) and glob.has_magic(name):
        with pytest.raises(OSError, match="pattern"):
            file.write_text(name)
        return
    file.write_text(name)
    assert folder.names() == [name]
    assert locate(str(file)).read_text() == name
    assert (file.name, str(file)) == (name, f"{folder}/{name}")


def test_an_interrupted_write_leaves_the_earlier_file(folder: Location) -> None:
    file = folder.child("tags.parquet")
    for before in ([], ["tags.parquet"]):
        with pytest.raises(KeyboardInterrupt), file.writer(TABLE.schema) as writer:
            writer.write_table(TABLE)
            raise KeyboardInterrupt
        assert folder.names() == before
        file.write_table(TABLE)
    assert file.parquet().read() == TABLE


def test_what_a_paused_job_writes_late_is_not_in_the_file(tmp_path: Path) -> None:
    file = locate(tmp_path / "plan.json")
    with (tmp_path / ".plan.json.tmp").open("w") as paused:
        with file.atomic_write() as temporary:
            temporary.write_text("new")
            paused.write("late and longer")
            paused.flush()
        assert file.read_text() == "new"


def test_an_interrupted_upload_is_completed(bucket: Bucket) -> None:
    file = locate(f"{bucket.address}/big")
    content = os.urandom(1000) * (3 * CHUNK_BYTES // 1000)

    def interrupt() -> None:
        while f"POST /{bucket.name}/big" not in bucket.server.requests:
            time.sleep(0.001)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), file.atomic_write() as temporary:
        temporary.write_bytes(content)
        threading.Thread(target=interrupt, daemon=True).start()
    assert bucket.list() == ["big"]
    assert bucket.get("big") == content


def test_an_upload_that_fails_leaves_the_earlier_object(bucket: Bucket, two_attempts: None) -> None:
    file = locate(f"{bucket.address}/file")
    for size in (6, 3 * CHUNK_BYTES):
        bucket.put("file", b"before")
        bucket.server.fail(50, method="PUT")
        # The new content may be as long as the old. Then only the error shows that it has not arrived.
        with pytest.raises(OSError, match="service fails"), file.atomic_write() as temporary:
            temporary.write_bytes(b"y" * size)
        bucket.server.recover()
        assert bucket.get("file") == b"before"


def test_an_empty_folder_can_be_deleted_and_one_with_files_is_kept(folder: Location) -> None:
    run = folder.child("tags.parquet.run")
    run.create_folder()
    run.child("plan.json").write_text("{}")
    run.delete_empty_folder()
    assert run.names() == ["plan.json"]
    run.child("plan.json").delete()
    run.delete_empty_folder()
    assert folder.names() == []


def test_a_location_can_be_pickled(folder: Location) -> None:
    folder.child("a").write_text("x")
    assert pickle.loads(pickle.dumps(folder)).child("a").read_text() == "x"


def test_a_download_copies_the_content_and_returns_its_size_and_time(folder: Location, tmp_path: Path) -> None:
    file = folder.child("video")
    with file.atomic_write() as temporary:
        temporary.write_bytes(b"v" * (CHUNK_BYTES + 1))
    found = download(file, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"v" * (CHUNK_BYTES + 1)
    assert (found.size, found.mtime_ns) == (CHUNK_BYTES + 1, file.info().mtime_ns)
    with pytest.raises(FileNotFoundError, match="missing"):
        download(folder.child("missing"), tmp_path / "copy")


def test_the_time_of_an_object_is_in_whole_seconds(bucket: Bucket) -> None:
    bucket.put("a")
    assert (locate(f"{bucket.address}/a").info().mtime_ns or 1) % 10**9 == 0


@pytest.mark.parametrize("status", [500, 503])
def test_a_request_that_fails_twice_is_retried(bucket: Bucket, tmp_path: Path, status: int) -> None:
    file = locate(f"{bucket.address}/a")
    for action in (
        lambda: file.write_text("x" * 100),
        lambda: download(file, tmp_path / "copy"),
        file.parent.names,
        file.delete,
    ):
        before = len(bucket.server.requests)
        bucket.server.fail(2, status)
        action()
        assert len(bucket.server.requests) >= before + 3
    assert (tmp_path / "copy").read_text() == "x" * 100


def test_missing_credentials_are_an_error_that_says_where_to_put_them(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.put("a")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = locate(f"{bucket.address}/a")
    for action in (file.info, file.parent.names, lambda: download(file, tmp_path / "a"), lambda: file.write_text("b")):
        with pytest.raises(PermissionError, match="there are no credentials in AWS_ACCESS_KEY_ID") as caught:
            action()
        assert bucket.name in str(caught.value)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert bucket.get("a") == b"x"
    assert locate(f"{bucket.address}/a").read_text() == "x"


def test_missing_credentials_of_a_user_without_a_home_folder_are_the_same_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_error(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", raise_error)
    error = translate_error(OSError("AWS Error ACCESS_DENIED during HeadObject operation: no"), "s3://bucket/a")
    assert "there are no credentials in AWS_ACCESS_KEY_ID" in str(error)


def test_credentials_that_are_refused_are_an_error_that_says_which_are_used(bucket: Bucket) -> None:
    bucket.server.fail(1, 403)
    with pytest.raises(PermissionError) as caught:
        locate(bucket.address).names()
    assert reason(caught.value).startswith("access is denied; credentials are those of AWS_ACCESS_KEY_ID")


def test_profiles_are_used_as_the_aws_command_uses_them(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("[archive]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "archive")
    bucket.put("a")
    assert locate(bucket.address).names() == ["a"]


def test_an_error_names_the_bucket_that_does_not_exist(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such bucket.*no-bucket/a"):
        locate("s3://no-bucket/a").write_text("x")


def test_an_endpoint_that_does_not_answer_is_an_error_after_a_few_attempts(
    bucket: Bucket, two_attempts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1/")
    with pytest.raises(OSError, match=r"[Cc]annot be reached.*connect to") as caught:
        locate(bucket.address).names()
    assert caught.value.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://", r"s3://BUCKET/KEY"),
        ("gs:///x", r"gs://BUCKET/OBJECT"),
        ("what://bucket/x", r"the scheme what:// is unknown"),
        ("sftp://host/x", r"needs another package.*paramiko"),
        ("file://host/x", r"another machine"),
        ("github://x", r"github://x cannot be used"),
        ("s3://bucket/x", r"AWS_ENDPOINT_URL is localhost:9000, which does not begin with http"),
    ],
)
def test_an_address_that_cannot_be_used_is_an_error_of_one_line(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(StorageError, match=message) as caught:
        locate(address)
    assert "\n" not in str(caught.value)


def test_addresses_are_taken_verbatim() -> None:
    assert locate("gs://bucket/a b/50%25 #1?.mp4").path == "bucket/a b/50%25 #1?.mp4"
    assert isinstance(locate("gs://bucket/a").filesystem, fs.GcsFileSystem)
    assert locate("file:///a b/%41").path == "/a b/%41"
    assert locate("file:///a").is_local
    assert [is_address(text) for text in ("s3://b", "abfs://c@d/e", "/a://b", "a/s3://b", "C:/x")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("google::cloud::Status(PERMISSION_DENIED: no)", PermissionError, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("Status(UNAVAILABLE: Could not create a OAuth2 access token)", PermissionError, "No credentials were found"),
        ("Status(UNAVAILABLE: CURL error [6]=Could not resolve hostname)", OSError, "cannot be reached"),
        ("Status(NOT_FOUND: The specified bucket does not exist.)", FileNotFoundError, "No such file"),
        ("something\nunheard of", OSError, "something unheard of"),
    ],
)
def test_errors_of_google_are_translated(text: str, kind: type[OSError], message: str) -> None:
    error = file_systems.translate_error(OSError(text), "gs://bucket/a")
    assert type(error) is kind
    assert message in str(error)
