"""The ``vtag`` command line. Each command is a thin layer over a function that a script can call as well.

A command's module is imported only when the command is used or listed. Heavy packages (torch, Ray, PyAV) are imported
only when the command runs, so ``vtag --help`` answers at once.
"""

import click

from jobs.cli.command.lazy_group import LazyGroup
from jobs.cli.command.versions import print_versions

COMMANDS = {
    "run": "jobs.cli.run:run",
    "watch": "jobs.cli.watch:watch",
    "demo": "jobs.cli.demo:demo",
    "verify": "jobs.cli.verify:verify",
    "compact": "jobs.cli.compact:compact",
    "events": "jobs.cli.questions.events:events",
    "search": "jobs.cli.questions.search:search",
    "similar": "jobs.cli.questions.similar:similar",
    "clusters": "jobs.cli.questions.clusters:clusters",
    "uncertain": "jobs.cli.questions.uncertain:uncertain",
    "cut": "jobs.cli.questions.cut:cut",
    "export": "jobs.cli.questions.export:export",
    "import": "jobs.cli.questions.import_:import_",
    "report": "jobs.cli.questions.report:report",
    "view": "jobs.cli.questions.view:view",
    "teach": "jobs.cli.teach:teach",
    "relabel": "jobs.cli.relabel:relabel",
    "probe": "jobs.cli.probe:probe",
    "models": "jobs.cli.models:models",
    "train": "jobs.cli.train:train",
    "evaluate": "jobs.cli.evaluate:evaluate",
    "compare": "jobs.cli.compare:compare",
    "bench": "jobs.cli.bench:bench",
}

EPILOG = """\b
Exit status:
  0    success
  1    error
  2    wrong usage
  3    finished, but some videos failed or were read only in part
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP
  129  ended by force, 9 s after SIGHUP
  143  ended by force, 9 s after SIGTERM
"""


@click.group(
    cls=LazyGroup,
    targets=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=print_versions,
    help="Show the versions of vtag and of the packages that it needs, and exit.",
)
def main() -> None:
    """Tells you what happens in your video archive: one row per segment, in Parquet.

    \b
    Try it:       vtag demo
    Your videos:  vtag run /videos --out tags.parquet
    Your model:   vtag train /clips --model i3d-lite-lstm --out model.safetensors

    `vtag COMMAND --help` describes each command and ends with examples.
    """
