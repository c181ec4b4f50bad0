"""Places decoded frames in time. Clocks of files stop, restart, and jump, and some have no times at all."""

JOINED_CONTAINERS = frozenset({"mpeg", "mpegts"})
"""Formats whose files can be joined byte by byte. In a joined file the clock jumps, ahead or back."""

JUMP_BACK_S, JUMP_AHEAD_S = 1.0, 10.0
"""Minimum jump of the clock in seconds that counts as a join. FFmpeg also uses 10 s for jumps ahead."""


class Clock:
    """Gives each decoded frame of a video its start, in seconds from the first frame. Starts always grow.

    In a container without joins, only a jump back is a join: a jump ahead is a long pause, if the picture is not
    ``is_live``. ``rate`` is the declared number of frames per second.
    """

    def __init__(self, container: str, rate: float, *, is_live: bool = False):
        self._jumps_ahead = is_live or container in JOINED_CONTAINERS
        self._origin_s: float | None = None
        self._first_s = 0.0
        self._origin_before_s = 0.0
        self._has_times = False
        self._time_s: float | None = None
        self._start_s = 0.0
        self._due_s = 0.0
        self._step_s = self._rate_step_s = 1.0 / rate
        self._restarts = False

    def begin(self, time_s: float | None) -> None:
        """Sets the time in the file at which the video begins, before its first frame."""
        if time_s is not None:
            self._origin_s = self._origin_before_s = self._first_s = time_s
            self._has_times = True
            self._start_s = -self._step_s
            self._due_s = 0.0

    def restart(self) -> None:
        """Lets the next frame follow the last one, whatever its time in the file."""
        self._restarts = True

    def start_s(self, time_s: float | None, duration_s: float | None, *, is_key: bool) -> float:
        """Returns the start of the next frame.

        ``time_s`` is its time in the file, None if it has none. ``duration_s`` is its declared duration.
        """
        start_s = self._placed(time_s, is_key=is_key)
        if time_s is not None and time_s == self._time_s:
            # Durations of frames at one time say nothing.
            duration_s = start_s - self._start_s
        self._has_times = self._has_times or time_s is not None
        self._time_s, self._start_s = time_s, start_s
        self._due_s = start_s + (duration_s or self._step_s)
        return start_s

    def end_s(self) -> float:
        """Returns the end of the last frame, from its duration or the interval before it."""
        return self._due_s

    def until_s(self, time_s: float) -> float:
        """Returns a time in the file in seconds from the first frame."""
        return time_s - (self._origin_s or 0.0)

    def _placed(self, time_s: float | None, *, is_key: bool) -> float:
        if self._origin_s is None:
            self._origin_s = self._origin_before_s = self._first_s = time_s or 0.0
            return 0.0
        if time_s is None:
            # Raw streams have no times, so each frame starts at the end of the last one.
            return self._due_s
        start_s = time_s - self._origin_s
        if self._restarts:
            self._restarts = False
            return self._join(time_s)
        if not self._has_times or self._is_join(start_s - self._start_s, time_s, is_key=is_key):
            # In Matroska frames before 0 have no times. The first frame with a time follows them.
            return self._join(time_s)
        if start_s > self._start_s:
            if start_s - self._start_s > JUMP_BACK_S and self._returns(time_s):
                return self._join(time_s)
            self._step_s = start_s - self._start_s
            return start_s
        # Frames at one time follow each other at the frame rate. Later frames catch up with the clock.
        if time_s == self._time_s:
            return self._due_s
        # The step before is no measure: the last frame may have come too early.
        return self._start_s + min(self._step_s, self._rate_step_s) / 2

    def _is_join(self, jump_s: float, time_s: float, *, is_key: bool) -> bool:
        restarts = is_key and time_s <= self._first_s + self._step_s and jump_s < -2 * self._step_s
        return restarts or jump_s <= -JUMP_BACK_S or (self._jumps_ahead and jump_s >= JUMP_AHEAD_S)

    def _returns(self, time_s: float) -> bool:
        """Checks whether the clock before the last join goes on: a single frame had a wrong time."""
        return abs(time_s - self._origin_before_s - self._start_s) < JUMP_BACK_S

    def _join(self, time_s: float) -> float:
        assert self._origin_s is not None
        self._origin_before_s, self._origin_s = self._origin_s, time_s - self._due_s
        return self._due_s
