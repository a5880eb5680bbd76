"""Warnings of small budgets, kept so that the page of a private fit can say them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from feller.privacy.marginals.one_way_error import SmallBudget


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what small budgets are warned of meanwhile, instead of showing it; other warnings go on as they are.

    The list is complete when the context ends.
    """
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield told
    for one in caught:
        if issubclass(one.category, SmallBudget):
            told.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
