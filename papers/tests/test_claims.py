"""Selection and order of claims, and their formatting."""

import pytest

from feller.core.errors import UsageError
from feller_papers import claims as claims_module
from feller_papers.claims import FAILS, HOLDS, Claim, untestable

BEYOND = (untestable("a cluster", "1", "needs one"),)


def true(setting: int) -> list[Claim]:
    """Return a claim that holds."""
    return [Claim("true", "1", str(setting), "1 seed", HOLDS)]


def false(setting: int) -> list[Claim]:
    """Return a claim that fails."""
    return [Claim("false", "1", str(setting), "1 seed", FAILS)]


def test_claims_come_one_after_the_other() -> None:
    claims = claims_module.tested((true, false), 3, "", BEYOND)
    assert next(claims).claim == "true"
    assert [claim.claim for claim in claims] == ["false", "a cluster"]
    assert [claim.ours for claim in claims_module.tested((true, false), 3, "test_claims.fal", BEYOND)] == ["3"]
    with pytest.raises(UsageError, match=r"test_claims\.true"):
        claims_module.tested((true, false), 3, "tree", BEYOND)  # before any is asked for


def test_formatting_of_seeds_and_numbers() -> None:
    assert claims_module.seeds_of((0,)) == claims_module.spread_of([2.5]) == "1 seed"
    assert claims_module.seeds_of((0, 1, 2)) == "3 seeds"
    assert claims_module.spread_of([1.0, 3.0]) == "2 seeds, 1 to 3"
    assert claims_module.numbers_of((4, 0.5, 1.0)) == "4, 0.5, 1"
