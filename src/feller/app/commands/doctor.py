"""feller doctor."""

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Tell whether feller can work on this machine and in this folder, and how fast; exit with 1 if it cannot."""

    json: bool = False
    """Print what was found as one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.workflows.doctor import examine, lines

        found = examine()
        for line in lines(found):
            print(line, file=sys.stderr if self.json else sys.stdout)
        return found

    def status(self, found: dict[str, Any]) -> int:
        """Return the exit status."""
        return 1 if found["broken"] else 0
