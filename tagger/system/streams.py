"""Standard streams that were closed when the program started."""

import os
import sys


def open_closed_streams() -> None:
    """Opens ``/dev/null`` in place of standard input, output and error, where these are closed (``vtag … >&-``).

    Otherwise the next file that is opened gets the number of the closed stream, and with it all that is printed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # Gets the lowest number that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
