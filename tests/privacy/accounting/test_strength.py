"""What an epsilon is worth, in words that promise no more than it does."""

import math

import pytest

from feller.core.errors import UsageError
from feller.privacy.accounting.ledger import describe_weakness, format_exp_epsilon, format_rounded_up
from feller.privacy.marginals.one_way_error import check_budget


@pytest.mark.parametrize(
    ("epsilon", "said"),
    [
        (1.0, "2.72"),
        (4.0, "54.6"),
        (8.0, "2,990"),
        (math.log(999_999), "1,000,000"),
        (22.0, "3.6 billion"),
        (30.0, "11 trillion"),
        (40.0, "10^18"),
        (2_000.0, "10^869"),
        (math.inf, "any number of"),
    ],
)
def test_a_factor_is_rounded_up(epsilon: float, said: str) -> None:
    assert format_exp_epsilon(epsilon) == said


def test_never_below_the_truth() -> None:
    for i in range(1, 300):
        value = 1.037**i
        assert float(format_rounded_up(value, 2).replace(",", "")) >= value * (1 - 1e-9)


def test_words() -> None:
    assert [describe_weakness(epsilon) for epsilon in (4.0, 10.0, 15.0)] == ["", "is weak", "promises next to nothing"]


def test_the_smallest_that_works_is_not_sold_where_it_protects_nobody() -> None:
    with pytest.raises(UsageError, match=r"at least 2\d \(") as few:
        check_budget(4.0, 1e-5, (20, 19, 19, 18, 18), 52)
    assert "promises next to nothing" in str(few.value)
    with pytest.raises(UsageError, match="an epsilon of at least") as many:
        check_budget(0.01, 1e-5, (20, 19, 19, 18, 18), 5_000)
    assert "next to nothing" not in str(many.value)
