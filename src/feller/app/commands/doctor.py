"""Command `feller doctor`."""

import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check the installation, and measure the speed of the hardware; exit with status 1 if feller cannot work."""

    json: bool = False
    """Print one JSON object as the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.workflows.doctor import diagnose, lines

        findings = diagnose()
        for line in lines(findings):
            print(line, file=sys.stderr if self.json else sys.stdout)
        return findings

    def status(self, findings: dict[str, Any]) -> int:
        return 1 if findings["broken"] else 0
