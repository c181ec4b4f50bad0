"""Prints how many hours of a result show each label, month by month, with pandas: python by_month.py TAGS [CONFIDENCE].

TAGS is what `vtag run --out` was given, a file or a folder. The month is that of the file's modification time.
"""

import sys
from pathlib import Path

import pandas as pd


def main() -> None:
    """Reads both tables, joins them by the video, and prints a table of hours."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    tags, videos = read(sys.argv[1])
    threshold = float(sys.argv[2]) if len(sys.argv) == 3 else 0.5
    certain = tags[tags["confidence"] >= threshold].merge(videos, on="video")
    if certain.empty:
        sys.exit(f"{sys.argv[1]} has no segment with a confidence of {threshold} or more")
    hours = (certain["end_s"] - certain["start_s"]) / 3600
    month = certain["mtime"].dt.strftime("%Y-%m")
    table = hours.groupby([certain["label"].astype(str), month]).sum().unstack(fill_value=0.0)
    table.columns.name = None
    table["all"] = table.sum(axis=1)
    print(table.sort_values("all", ascending=False).rename_axis("hours").round(3).to_string())


def read(out: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the columns that are needed of the segments and of the videos."""
    path = Path(out)
    files = (
        (path, path.with_suffix(".videos.parquet")) if path.suffix == ".parquet" else (path / "tags", path / "videos")
    )
    columns = ["video", "label", "confidence", "start_s", "end_s"], ["video", "mtime"]
    tags, videos = (pd.read_parquet(file, columns=names) for file, names in zip(files, columns, strict=True))
    return tags, videos


if __name__ == "__main__":
    main()
