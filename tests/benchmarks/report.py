"""Measures the page of a large result: its size, the time and memory to make it, and the time until it is shown.

The result is that of ``tests.benchmarks.browse``. Its labels are random, so they are packed worse than those of
footage. The pictures in the page are noise, as large as thumbnails. Headless Chromium shows the page. With ``--result``
it is the page that ``vtag report`` makes of a result that is there, with thumbnails of its videos.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from jobs.browse.report.assemble import Thumbnails, make_page
from jobs.browse.report.gather import ReportData, gather
from jobs.browse.report.moments import strongest_rows
from jobs.browse.segments import open_result
from jobs.cli.command.report_with_progress import write_report
from jobs.storage.location import locate
from tests.benchmarks.browse import make_result
from tests.jobs.browse.report.browser import Page, browser
from training.report.plots import jpeg

SHOWN = """
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return [paint.startTime, performance.now()];
"""


def main() -> None:
    """Makes a result and its page, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="segments of the result")
    parser.add_argument("--per-video", type=int, default=100, help="segments of a video")
    parser.add_argument("--labels", type=int, default=38, help="labels of the model")
    parser.add_argument("--thumbnails", type=int, default=800, help="pictures in the page")
    parser.add_argument("--rounds", type=int, default=3, help="how often the page is opened")
    parser.add_argument("--result", metavar="TAGS", help="a result that is there, instead of a made-up one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.result is not None:
            file = Path(folder, "report.html")
            started = time.perf_counter()
            write_report(open_result(options.result), locate(file), shown=options.result)
            print(f"read, thumbnails and page made in {time.perf_counter() - started:.1f} s")
            show(file, options.rounds)
            return
        tags = str(Path(folder, "tags.parquet"))
        make_result(tags, options, None)
        started = time.perf_counter()
        finished = open_result(tags)
        data = gather(finished)
        gathered_s = time.perf_counter() - started
        thumbnails = made_up_thumbnails(data, options.thumbnails)
        started = time.perf_counter()
        page = make_page(finished, data, thumbnails)
        made_s = time.perf_counter() - started
        pictures = sum(map(len, thumbnails.jpegs))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{len(data.segments):,} segments of {len(data.videos):,} videos: read in {gathered_s:.2f} s, page made "
            f"in {made_s:.2f} s, {len(page) / 1e6:.1f} MB with {pictures / 1e6:.1f} MB of pictures, peak memory "
            f"{peak:.2f} GB"
        )
        file = Path(folder, "report.html")
        file.write_text(page, "utf-8")
        show(file, options.rounds)


def made_up_thumbnails(data: ReportData, count: int) -> Thumbnails:
    """Returns pictures of noise for the strongest moments."""
    rows = strongest_rows(data, count)
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (9, 16, 3), np.uint8)
    picture = jpeg(np.kron(small, np.ones((10, 10, 1), np.uint8)))
    return Thumbnails(rows.tolist(), [picture] * len(rows))


def show(file: Path, rounds: int) -> None:
    """Opens the page ``rounds`` times, filters and scrolls it, and prints the times."""
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as driver:
            page = Page(driver, file.as_uri())
            paint_ms, ready_ms = page.js(SHOWN)
            filter_ms = timed(page, "document.getElementById('f-min').value = 0.6", "f-min")
            sort_ms = timed(page, "document.getElementById('f-sort').value = 'best'", "f-sort")
            scroll_ms = driver.execute_async_script(SCROLL)
            print(
                f"first paint {paint_ms / 1000:.2f} s, timelines at most {ready_ms / 1000:.2f} s; then a filter takes "
                f"{filter_ms:.0f} ms, a sort {sort_ms:.0f} ms, a screen further {scroll_ms:.0f} ms"
            )


def timed(page: Any, change: str, field: str) -> float:
    """Returns the milliseconds after a change of a field of the filters."""
    script = f"""
    {change};
    const begin = performance.now();
    document.getElementById("{field}").dispatchEvent(new Event("input", {{ bubbles: true }}));
    document.body.offsetHeight;
    return performance.now() - begin;
    """
    return float(page.js(script))


SCROLL = """
const done = arguments[0], begin = performance.now();
let screens = 0;
const step = () => {
  if (screens === 20) { done((performance.now() - begin) / screens); return; }
  screens += 1;
  scrollBy(0, innerHeight);
  requestAnimationFrame(step);
};
step();
"""


if __name__ == "__main__":
    main()
