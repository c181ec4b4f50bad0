"""Paths, lists, results and numbers as a user may have or type them by mistake, for test_odd_inputs.py."""

import json
import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.result.identity import RunIdentity
from jobs.result.output import choose_output
from tests.jobs.result.finished import commit_to, make_finished, publish_to

LISTS: Mapping[str, bytes] = {
    "names a missing file": b"/gone/a.mp4\n",
    "byte-order mark": b"\xef\xbb\xbf/gone/a.mp4\n",
    "UTF-16": "/gone/a.mp4\n".encode("utf-16"),
    "UTF-16 without a mark": "/gone/a.mp4\n".encode("utf-16-le"),
    "UTF-16, cut off": "/gone/a.mp4\n".encode("utf-16")[:-1],
    "separated by NUL": b"/gone/a.mp4\0/gone/b.mp4\0",
    "NUL in a line": b"/gone/a\0b.mp4\n/gone/c.mp4\n",
    "not UTF-8": b"/gone/\xff\xfe\x80.mp4\n",
    "quotes": b'"/gone/a.mp4"\n',
    "another machine": b"file:///gone/a.mp4\nfile://other-machine/a.mp4\n",
    "unknown scheme": b"nosuch://a/b.mp4\n",
    "too long": b"/gone/" + b"a" * 5000 + b".mp4\n",
    "empty": b"",
    "blank": b" \n\n#\n",
    "only NUL": b"\0\0\0\0",
}
"""The contents of lists of videos."""

NUMBERS = (
    *("", "-1", "0", "1e308", "1e-320", "9" * 30, "9" * 5000, "nan", "inf", "-inf", "1_000", "½", "²"),
    *("nan%", "1e999%"),
)

TEXTS = ("", " ", "[", "**", "a\nb", "\udcff", ".", "/", "x" * 5000, "🎬")


def make_paths(folder: Path) -> dict[str, str]:
    """Makes files and folders in ``folder``; returns paths by what is odd about them."""
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is a text\n" * 20)
    (folder / "bytes.mp4").write_bytes(bytes(range(256)) * 20)
    (folder / "folder.mp4").mkdir()
    with zipfile.ZipFile(folder / "archive.zip", "w") as file:
        file.writestr("data.pkl", b"\x80\x04N.")
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as unix:
        # The path of a socket must be short.
        here = os.open(folder, os.O_RDONLY)
        unix.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    (folder / "two\nlines.mp4").write_text("text")
    not_utf_8 = os.fsdecode(b"odd-\xff\x80.mp4")
    (folder / not_utf_8).write_text("text")
    pq.write_table(pa.table({"a": [1, 2]}), folder / "other.parquet")
    (folder / "text.parquet").write_text("PAR1 text PAR1")
    (folder / "text.csv").write_text("path,label\n\0,\0\n")
    (folder / "text.safetensors").write_text("text")
    return {
        "missing": str(folder / "missing.mp4"),
        "empty file": str(folder / "empty.mp4"),
        "text": str(folder / "text.mp4"),
        "any bytes": str(folder / "bytes.mp4"),
        "empty folder": str(folder / "folder.mp4"),
        "zip": str(folder / "archive.zip"),
        "below a file": str(folder / "text.mp4/a.mp4"),
        "dangling link": str(folder / "dangling.mp4"),
        "link to itself": str(folder / "loop"),
        "FIFO": str(folder / "pipe.mp4"),
        "socket": str(folder / "socket"),
        "device": "/dev/null",
        "endless device": "/dev/zero",
        "two lines": str(folder / "two\nlines.mp4"),
        "two lines, missing": str(folder / "no\nfile.mp4"),
        "not UTF-8": str(folder / not_utf_8),
        "not UTF-8, missing": str(folder / os.fsdecode(b"gone-\xff.mp4")),
        "too long": str(folder / ("x" * 300 + ".mp4")),
        "much too long": "/x" * 3000,
        "empty text": "",
        "blank": " ",
        "dashes": "--",
        "other Parquet": str(folder / "other.parquet"),
        "text .parquet": str(folder / "text.parquet"),
        "text .csv": str(folder / "text.csv"),
        "text .safetensors": str(folder / "text.safetensors"),
        "unknown scheme": "nosuch://bucket/a.mp4",
        "other machine": "file://other/a.mp4",
        "no bucket": "s3://",
        "home of an unknown user": "~nosuchuser/a.mp4",
    }


JSON: Mapping[str, bytes] = {
    "text": b"text",
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "list": b"[1]",
    "null": b"null",
    "no keys": b"{}",
    "strings": b'{"format": 1, "parts": "abc", "run": "x"}',
    "wrong types": json.dumps(
        {
            "format": 1,
            "parts": [{"number": "x", "videos": None, "segments": []}],
            "run": 1,
            "model": 1,
            "model_hash": 2,
            "sampling": 3,
            "top_k": "x",
        }
    ).encode(),
    "huge number": b'{"format": 1, "parts": [{"number": 1' + b"0" * 5000 + b"}]}",
    "deep": b"[" * 100_000,
    "null format": b'{"format": null}',
}
"""The contents of a manifest, a plan, a lock file or settings, by what is wrong."""


def flip(content: bytes) -> bytes:
    """Returns ``content`` with every seventh byte changed, but not its first and last bytes."""
    changed = bytearray(content)
    for at in range(4, len(changed) - 8, 7):
        changed[at] ^= 0x55
    return bytes(changed)


def write_other_columns(file: Path) -> None:
    """Writes a Parquet file that is no part of a result."""
    pq.write_table(pa.table({"video": ["/v/a.mp4"], "x": [1]}), file)


REPLACE: Mapping[str, Callable[[Path, bytes], object]] = {
    "text": lambda file, content: file.write_text("text"),
    "empty": lambda file, content: file.touch(),
    "cut": lambda file, content: file.write_bytes(content[:-20]),
    "flipped": lambda file, content: file.write_bytes(flip(content)),
    "other columns": lambda file, content: write_other_columns(file),
    "folder": lambda file, content: file.mkdir(),
    "FIFO": lambda file, content: os.mkfifo(file),
}
"""Writes something else to the path of a Parquet file, by what it is."""


def damage(file: Path, how: str) -> None:
    """Replaces a Parquet file as ``REPLACE`` says."""
    content = file.read_bytes()
    file.unlink()
    REPLACE[how](file, content)


def make_results(folder: Path, identity: RunIdentity) -> dict[str, str]:
    """Makes results and run folders of ``identity`` in ``folder``, each damaged in one way.

    Returns their paths by the damage.
    """
    folder.mkdir()
    found = {}

    # All are copies of two, of a folder and of one file: a publication takes many times as long as a copy.
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    for original in ("t", "t.parquet"):
        publish_to(originals / original, [make_finished("/v/a.mp4"), make_finished("/v/b.mp4")], identity=identity)

    def publish(name: str, ending: str = "") -> Path:
        path = folder / (name.replace(" ", "-") + ending)
        if ending:
            for table in ("", ".videos"):
                shutil.copy(originals / f"t{table}.parquet", path.with_suffix(f"{table}.parquet"))
        else:
            shutil.copytree(originals / "t", path)
            # As in the original, a part is one file with two names.
            for table in ("tags", "videos"):
                part = path / f"{table}/part-00000.parquet"
                part.unlink()
                part.hardlink_to(path / f"parts/part-00000.{table}.parquet")
        found[name] = str(path)
        return path

    for name, content in JSON.items():
        (publish(f"manifest: {name}") / "manifest.json").write_bytes(content)
        for file in ("plan", "lock"):
            run_folder = Path(f"{publish(f'{file}: {name}', '.parquet')}.run")
            run_folder.mkdir()
            # The version of a plan is 2.
            (run_folder / f"{file}.json").write_bytes(content.replace(b'"format": 1', b'"format": 2'))
    manifest = publish("manifest: folder") / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    for file in ("plan", "lock"):
        Path(f"{publish(f'{file}: folder', '.parquet')}.run/{file}.json").mkdir(parents=True)
    Path(f"{publish('run folder: file', '.parquet')}.run").touch()
    Path(f"{publish('run folder: dangling link', '.parquet')}.run").symlink_to(folder / "nowhere")
    (publish("beside another file") / "extra.txt").touch()
    for how in REPLACE:
        for table in ("tags", "videos"):
            part = next((publish(f"{table} of a folder: {how}") / table).glob("*.parquet"))
            damage(part, how)
            single = publish(f"{table} in one file: {how}", ".parquet")
            damage({"tags": single, "videos": single.with_name(f"{single.stem}.videos.parquet")}[table], how)
            interrupted = folder / f"interrupted-{table}-{how.replace(' ', '-')}.parquet"
            commit_to(choose_output(interrupted), [make_finished("/v/a.mp4")], identity=identity)
            damage(Path(f"{interrupted}.run") / f"part-000000.{table}.parquet", how)
            found[f"{table} of a run folder: {how}"] = str(interrupted)
    for name, part_name in (("gap", "part-000009"), ("huge number", f"part-{'9' * 20}")):
        out = folder / f"{name.replace(' ', '-')}.parquet"
        commit_to(choose_output(out), [make_finished("/v/a.mp4")], identity=identity)
        for table in ("tags", "videos"):
            shutil.move(f"{out}.run/part-000000.{table}.parquet", f"{out}.run/{part_name}.{table}.parquet")
        found[f"parts of a run folder: {name}"] = str(out)
    return found


def make_run_folders(folder: Path) -> dict[str, str]:
    """Makes run folders of ``vtag train`` in ``folder``, each damaged in one way; returns their paths by the damage."""
    folder.mkdir()
    found = {}
    settings = {
        **JSON,
        "no settings": b'{"is": "a training run of vtag"}',
        "settings of wrong types": b'{"is": "a training run of vtag", "finished": "x", "settings": [1]}',
    }
    for name, content in settings.items():
        run_folder = folder / name.replace(" ", "-")
        run_folder.mkdir()
        (run_folder / "settings.json").write_bytes(content)
        found[f"settings: {name}"] = str(run_folder)
    (folder / "of-a-folder/settings.json").mkdir(parents=True)
    found["settings: folder"] = str(folder / "of-a-folder")
    return found
