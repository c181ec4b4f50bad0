"""Made-up videos to export."""

from collections.abc import Sequence

from hypothesis import strategies as st

from jobs.browse.exporting.exported import ExportedVideo, Span
from jobs.browse.recorded import Recorded

ODD = "He said: \"a, b; c=d #1 \\ <i>&amp;</i> --> 'x'\"\nهرولة 🚴‍♀️"
"""A label with quotes, commas, a line break, markup, an arrow, right-to-left text and an emoji."""

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"',;=#\\<>&\n🚴ه"), min_size=1
).filter(str.strip)
"""Labels: any text without control characters other than line breaks."""


def video(
    *spans: tuple[float, float, str], name: str = "/v/a b.mp4", stream_start_s: float | None = 0.0, fps: float = 30.0
) -> ExportedVideo:
    """A video of 64×48 pixels, and 60 seconds, with spans of the confidence 0.75."""
    about = Recorded(1000, 60.0, stream_start_s, fps, 64, 48)
    return ExportedVideo(name, about, [Span(start_s, end_s, label, 0.75) for start_s, end_s, label in spans])


@st.composite
def videos(draw: st.DrawFn, labels: st.SearchStrategy[str] = NAMES) -> ExportedVideo:
    """Videos with spans of at least a tenth of a second, by start, which may overlap."""
    starts = sorted(draw(st.lists(st.integers(0, 50_000), min_size=1, max_size=5, unique=True)))
    lengths = draw(st.lists(st.integers(100, 9_000), min_size=len(starts), max_size=len(starts)))
    names = draw(st.lists(labels, min_size=len(starts), max_size=len(starts)))
    return video(
        *(
            (start / 1000, (start + length) / 1000, name)
            for start, length, name in zip(starts, lengths, names, strict=True)
        )
    )


def rows(spans: Sequence[Span]) -> list[tuple[float, float, str]]:
    """The start, the end and the label of spans."""
    return [(span.start_s, span.end_s, span.label) for span in spans]
