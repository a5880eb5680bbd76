"""Warnings of our own code are kept for the page, those of others go on."""

import warnings

import pytest

from feller.app.workflows.private.table_schema import capture_warnings
from feller.privacy.marginals.one_way_error import check_budget


def test_a_small_budget_is_kept_and_not_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with capture_warnings() as told:
            check_budget(0.5, 1e-5, (10, 10), 1000)
    assert len(told) == 1
    assert "total variation" in told[0]


def test_warnings_of_others_go_on() -> None:
    with pytest.warns(UserWarning, match="of another"), capture_warnings() as told:
        warnings.warn("of another", stacklevel=1)
    assert told == []
