"""Helper processes end with their parent."""

import signal
import subprocess
import sys

CLOSED_BEFORE = """
import socket
from tagger.system.end_with_parent import end_with_parent

parent, helper = socket.socketpair()
parent.close()
end_with_parent(helper.fileno())
print("alive")
"""


def test_a_helper_whose_parent_has_ended_before_it_began_ends() -> None:
    done = subprocess.run([sys.executable, "-c", CLOSED_BEFORE], capture_output=True)
    assert (done.returncode, done.stdout) == (-signal.SIGIO, b"")
