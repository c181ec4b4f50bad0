"""The merge gives the same rows as a slow and obvious one with dictionaries."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.result.merge import TableFiles, merge
from jobs.storage.location import locate
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.rows import tags_table, videos_table
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.jobs.result.finished import make_finished


def write(folder: Path, number: int, videos: list[FinishedVideo], row_group_size: int | None = None) -> TableFiles:
    source = TableFiles(locate(folder / f"{number}.tags.parquet"), locate(folder / f"{number}.videos.parquet"))
    tags = tags_table(videos)
    if number % 2:
        # As in a result of an older vtag.
        tags = tags.drop_columns(["ood_score"])
    pq.write_table(tags, source.tags.path, row_group_size=row_group_size)
    pq.write_table(videos_table(videos), source.videos.path, row_group_size=row_group_size)
    return source


def merged(
    sources: list[TableFiles],
    keep: list[str] | None = None,
    drop: list[str] | None = None,
    range_rows: int = 100_000,
) -> tuple[pa.Table, pa.Table]:
    kept, dropped = (None if names is None else pa.array(names, pa.string()) for names in (keep, drop))
    ranges = list(merge(sources, keep=kept, drop=dropped, range_rows=range_rows))
    videos = pa.concat_tables([VIDEOS_SCHEMA.empty_table(), *(found.videos for found in ranges)])
    tags = pa.concat_tables([TAGS_SCHEMA.empty_table(), *(found.tags for found in ranges)])
    return videos, tags


# Characters of one to four bytes: names are compared by their bytes.
NAMES = st.text("ab/é日🎬", min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sources=st.lists(st.dictionaries(NAMES, st.text("xyz", max_size=4), max_size=12), max_size=5),
    range_rows=st.integers(4, 40),
    row_group_size=st.integers(1, 8),
    keeps=st.booleans(),
    drops=st.booleans(),
)
def test_every_video_is_there_once_as_the_last_source_has_it(
    sources: list[dict[str, str]], range_rows: int, row_group_size: int, keeps: bool, drops: bool, tmp_path: Path
) -> None:
    written = [
        write(tmp_path, number, [make_finished(name, labels) for name, labels in source.items()], row_group_size)
        for number, source in enumerate(sources)
    ]
    last: dict[str, str] = {}
    for source in sources:
        last |= source
    keep = sorted(last, reverse=True)[::2] if keeps else None
    drop = sorted(last)[::3] if drops else None
    expected = {
        name: labels
        for name, labels in last.items()
        if (keep is None or name in keep) and (drop is None or name not in drop)
    }

    videos, tags = merged(written, keep, drop, range_rows)
    in_order = [make_finished(name, expected[name]) for name in sorted(expected)]
    assert videos.equals(videos_table(in_order))
    assert tags.equals(tags_table(in_order))


def test_memory_is_bounded_by_ranges_of_about_the_requested_size(tmp_path: Path) -> None:
    names = [f"/v/{number:04d}.mp4" for number in range(600)]
    random.Random(0).shuffle(names)
    sources = [
        write(tmp_path, number, [make_finished(name, "abc") for name in names[100 * number : 100 * number + 100]])
        for number in range(6)
    ]
    sizes = [found.tags.num_rows + found.videos.num_rows for found in merge(sources, range_rows=240)]
    assert sum(sizes) == 600 * 4
    assert len(sizes) >= 5 and max(sizes) <= 2 * 240


def test_each_row_has_the_number_of_its_source(tmp_path: Path) -> None:
    first = write(tmp_path, 0, [make_finished("a"), make_finished("b")])
    second = write(tmp_path, 1, [make_finished("b", "x")])
    (found,) = merge([first, second])
    assert found.sources.tolist() == [0, 1]


def test_rows_that_do_not_fit_their_videos_are_not_merged(tmp_path: Path) -> None:
    source = write(tmp_path, 0, [make_finished("a"), make_finished("b")])
    pq.write_table(tags_table([make_finished("a")]), source.tags.path)
    with pytest.raises(OutputError, match=r"0\.tags\.parquet: the rows do not fit .* vtag verify"):
        list(merge([source]))


@pytest.mark.parametrize("table", ["tags", "videos"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, table: str) -> None:
    source = write(tmp_path, 0, [make_finished("/v/a.mp4")])
    file = tmp_path / f"0.{table}.parquet"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(OutputError, match=rf"{file.name} cannot be read: .*run the same command again"):
        merged([source])
    file.unlink()
    with pytest.raises(OutputError, match=f"{file.name} cannot be read: it is missing"):
        merged([source])


def test_nothing_merges_to_nothing(tmp_path: Path) -> None:
    assert list(merge([])) == []
    videos, tags = merged([write(tmp_path, 0, [])])
    assert (videos.num_rows, tags.num_rows) == (0, 0)
