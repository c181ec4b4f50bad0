"""A job whose reader has gone, in a separate process."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

PROGRAM = """
import sys
import jobs.cluster.ray_driver, jobs.tagging.run
from tests.jobs.tagging.killed import DriverWithoutRay

class Driver(DriverWithoutRay):
    def start(self): pass
    def close(self): pass

jobs.cluster.ray_driver.RayDriver = Driver
from jobs.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("options", [["--json"], []], ids=["json", "lines"])
def test_the_job_goes_on_when_the_reader_of_its_output_is_gone(options: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "videos"
    archive.mkdir()
    for number in range(50):
        (archive / f"{number}.mp4").write_text("ab")
    command = [sys.executable, "-c", PROGRAM, "run", str(archive), "--out", str(tmp_path / "t.parquet"), *options]
    log = tmp_path / "log"
    with log.open("w") as other:
        streams = (subprocess.PIPE, other) if options else (other, subprocess.PIPE)
        process = subprocess.Popen(command, stdout=streams[0], stderr=streams[1])
        reader = process.stdout or process.stderr
        assert reader is not None
        reader.readline()
        reader.close()
        process.wait(120)
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 100
    assert "cannot be written" not in log.read_text()
    assert "Traceback" not in log.read_text()
