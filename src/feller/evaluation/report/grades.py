"""Grades of reports, from best to worst, and their thresholds."""

GOOD, USABLE, FAIR, POOR, CHANCE = "Good", "Usable", "Fair", "Poor", "At chance level"
"""Grades from best to worst; for tables, "Usable" replaces "Fair"."""
BROKEN, COPIES = "Broken", "Copies real rows"
"""Grades of tables with impossible rows, and of tables with copies of training rows."""
UNDERTRAINED = "Undertrained"
"""Grade of an undertrained run, unless its samples are copies."""
WORST_FIRST = (COPIES, BROKEN, CHANCE, POOR, FAIR, USABLE, GOOD)
GOOD_RATIO, FAIR_RATIO = 1.1, 1.5
"""Maximum ratio of a distance to its reference for the grades good and fair."""
GOOD_FRACTION, FAIR_FRACTION = 0.9, 0.5
"""Minimum position on the scale from guessing (0) to the reference (1) for the grades good and fair."""
MAX_LOST_CELLS = 0.1
"""Fraction of cells above which lost cells affect the verdict. Lost cells are the clipped cells of the real table, or
the empty cells of the synthetic table in excess of the fraction of empty cells in the real table."""
