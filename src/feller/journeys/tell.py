"""How a journey speaks: to nobody by default, to a terminal where a command asks for it."""


class Tell:
    """Hears what a journey says; this one listens in silence."""

    def say(self, text: str) -> None:
        """Hear one line."""

    def progress(self, share: float, text: str = "") -> None:
        """Hear that a share of the present task is done, and how it stands."""

    def task(self, name: str) -> None:
        """Hear that a task begins; it ends with the next or with `done`."""

    def done(self) -> None:
        """Hear that the present task has ended."""


SILENT = Tell()
