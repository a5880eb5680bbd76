"""Functions of both distributions are checked as those of the tests of feller are."""

import tests.shapes  # noqa: F401 (before feller, whose functions it has checked)
