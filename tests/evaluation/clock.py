"""A clock for tests of time limits."""


class Clock:
    """A clock that work moves on by a fixed time per example or completion."""

    def __init__(self, pace: float) -> None:
        self.pace, self.now, self.done = pace, 0.0, 0

    def monotonic(self) -> float:
        return self.now

    def work(self, n: int) -> None:
        self.now += self.pace * n
        self.done += n
