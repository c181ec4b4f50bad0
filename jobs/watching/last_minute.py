"""The labels of the last minute of a live picture, for a bar."""

from collections import deque

from jobs.watching.smoother import Moment
from tagger.windows import TIME_TOLERANCE_S

MINUTE_S = 60.0


class LastMinute:
    """Keeps the moments of the last minute. Its size is bounded by the distance between windows."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()

    def add(self, moment: Moment) -> None:
        """Adds a moment. One that comes a second time replaces the first."""
        if self._moments and self._moments[-1].index == moment.index:
            self._moments.pop()
        self._moments.append(moment)
        while self._moments[0].end_s < moment.end_s - MINUTE_S:
            self._moments.popleft()

    @property
    def until_s(self) -> float:
        """The end of the last moment in seconds of the stream; 0 before there is one."""
        return self._moments[-1].end_s if self._moments else 0.0

    @property
    def stretches(self) -> list[tuple[float, float, str]]:
        """The starts, ends and labels of the moments that have one. Neighbours with one label are merged."""
        found: list[tuple[float, float, str]] = []
        for moment in self._moments:
            if moment.label is None:
                continue
            if found and found[-1][2] == moment.label and moment.start_s <= found[-1][1] + TIME_TOLERANCE_S:
                found[-1] = (found[-1][0], moment.end_s, moment.label)
            else:
                found.append((moment.start_s, moment.end_s, moment.label))
        return found
