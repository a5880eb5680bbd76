"""What people see while a journey goes on; the only place that knows rich. Numbers go to standard output elsewhere."""

import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from feller.journeys.tell import SILENT, Tell

QUIET_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""


class Terminal(Tell):
    """Writes to standard error: a bar on a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._bar: Progress | None = None
        self._task, self._spoke = "", 0.0

    def say(self, text: str) -> None:
        """Write one line."""
        self.console.print(text, markup=False, emoji=False)

    def task(self, name: str) -> None:
        """Begin a bar."""
        self.done()
        self._task, self._spoke = name, time.monotonic()
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=self.console)
            self._bar.add_task(name, total=1.0, text="")
            self._bar.start()

    def progress(self, share: float, text: str = "") -> None:
        """Move the bar, or write a line if the last is some seconds old."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=share, text=text)
        elif time.monotonic() - self._spoke > QUIET_SECONDS:
            self._spoke = time.monotonic()
            self.say(f"{self._task}: {share:4.0%}  {text}")

    def done(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def table(self, numbers: dict[str, object]) -> None:
        """Show names and numbers; what is unknown is left out."""
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column()
        table.add_column()
        for name, value in numbers.items():
            if value is not None:
                table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
        self.console.print(table)


def speaker() -> Tell:
    """Return who speaks: the first process only."""
    return Terminal() if os.environ.get("RANK", "0") == "0" else SILENT


def show(numbers: dict[str, object], tell: Tell) -> None:
    """Show numbers to people."""
    if isinstance(tell, Terminal):
        sys.stdout.flush()
        tell.table(numbers)
