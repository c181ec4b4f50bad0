"""``vtag view``: a result in the browser, with videos that play and marks that are kept in a file."""

import contextlib
from pathlib import Path

import click

from jobs.cli.command.options import examples, verbose_option


@click.command(
    short_help="Look at a result in the browser, and mark moments.",
    epilog=examples("vtag view tags.parquet", "vtag view tags.parquet --marks mine.csv --port 8080"),
)
@click.argument("tags")
@click.option(
    "--marks",
    metavar="FILE.csv",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("marks.csv"),
    show_default=True,
    help="File that keeps the marks; marks in it are shown.",
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="a free one",
    help="Port to listen on.",
)
@verbose_option
def view(tags: str, marks: Path, port: int, verbose: bool) -> None:
    """Serve the page of `vtag report` on this machine, until Ctrl-C: videos play from it, and it saves marks itself.

    TAGS is a result of `vtag run`: a file, a folder, or an address. A video that the browser cannot play is shown as a
    preview of the moment, encoded again. The page is for this machine alone: open the address that is printed.
    """
    from jobs.browse.report.assemble import Thumbnails, make_page
    from jobs.browse.report.gather import gather
    from jobs.browse.report.moments import strongest_rows
    from jobs.browse.segments import open_result
    from jobs.browse.view.encoder import Encoder
    from jobs.browse.view.marks_file import MarksFile
    from jobs.browse.view.server import ViewServer
    from jobs.cli.terminal.wording import printable
    from tagger.errors import OutputError, doing

    # A file of marks that cannot be used is refused before a large result is read.
    file = MarksFile(marks)
    with doing("reading", tags):
        finished = open_result(tags)
        data = gather(finished)
        pictures = Thumbnails(strongest_rows(data, len(data.segments)).tolist())
        page = make_page(finished, data, pictures, marks_file=str(marks.absolute()))
    with contextlib.closing(Encoder()) as encoder:
        try:
            server = ViewServer(finished, data, page, file, encoder, port)
        except OSError as error:
            raise OutputError(f"--port {port} cannot be used: {(error.strerror or str(error)).lower()}") from error
        with server:
            click.echo(f"{server.url}\nMarks are kept in {printable(str(marks))}. Ctrl-C ends.")
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
