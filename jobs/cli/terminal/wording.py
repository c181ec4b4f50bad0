"""Text for people: counts, times, rates and file names."""


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: ``1 video``, ``1,204 videos``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clock(seconds: float) -> str:
    """Returns a waiting time: ``0:07``, ``4:12``, ``1:02:03``."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest_s:02}" if hours else f"{minutes}:{rest_s:02}"


def amount(seconds: float) -> str:
    """Returns a length of video, in the unit that fits: ``43 s``, ``12.4 min``, ``1.87 h``."""
    if seconds < 60:
        return f"{significant(seconds)} s"
    return f"{significant(seconds / 60)} min" if seconds < 3600 else f"{significant(seconds / 3600)} h"


def significant(number: float) -> str:
    """Returns a number with two decimals below 10, one below 100, else none: ``0.53``, ``14.2``, ``1,204``."""
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def percent(share: float) -> str:
    """Returns a share between 0 and 1 as a percentage: ``43 %``."""
    return f"{share:.0%}".replace("%", " %")


def printable(text: str) -> str:
    """Returns ``text`` with unprintable characters escaped, such as those of a file name that is not UTF-8."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
