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
        from feller.app.workflows.doctor import diagnose, lines

        findings = diagnose()
        for line in lines(findings):
            print(line, file=sys.stderr if self.json else sys.stdout)
        return findings

    def status(self, findings: dict[str, Any]) -> int:
        """Return the exit status."""
        return 1 if findings["broken"] else 0
