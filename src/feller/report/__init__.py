"""The page that a run leaves behind for people, and the same numbers for programs."""

from feller.report.page import Findings, write_report
from feller.report.verdict import verdict

__all__ = ["Findings", "verdict", "write_report"]
