"""Standard streams that are closed when a program starts."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from tagger.system.streams import open_closed_streams
open_closed_streams()
with open(sys.argv[1], "w") as file:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        print("printed", file=stream, flush=True)
    file.write(f"{file.fileno() > 2} {len(sys.stdin.read())}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PROGRAM, str(tmp_path / "file")]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert (tmp_path / "file").read_text() == "True 0"


def test_open_streams_stay_as_they_are() -> None:
    program = "from tagger.system.streams import open_closed_streams; open_closed_streams(); print(input())"
    done = subprocess.run([sys.executable, "-c", program], input="hello\n", capture_output=True, text=True, check=True)
    assert done.stdout == "hello\n"
