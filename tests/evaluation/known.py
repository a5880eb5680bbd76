"""Names of all numbers that the table of metrics knows."""

from feller.evaluation.metrics import METRICS

KNOWN = {*METRICS, *(row.reference for row in METRICS.values())}
