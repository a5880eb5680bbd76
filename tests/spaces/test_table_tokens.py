"""Tokens of table rows: encoding, automata of columns, constraints."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.spaces.table_tokens import CategoryTokenizer, DigitTokenizer, PairConstraint, TableTokens
from tests.errors import refuses


def words(field) -> list[tuple[int, ...]]:
    """Enumerate the words of the automaton."""
    found = [((), 0)]
    for table in field.transitions():
        found = [
            ((*word, token), int(table[state, token]))
            for word, state in found
            for token in range(table.shape[1])
            if table[state, token] >= 0
        ]
    return [word for word, _ in found]


@given(st.integers(-200, 400), st.integers(-200, 400), st.booleans())
def test_digit_tokens_of_integers(a: int, b: int, missing: bool) -> None:
    low, high = sorted((a, b))
    field = DigitTokenizer(low, high, missing)
    codes = torch.arange(field.num_values)
    tokens = field.encode(codes)
    assert torch.equal(field.decode(tokens), codes)
    base = min(low, 0)
    width = len(str(high - base))
    wanted = [tuple(map(int, f"{value - base:0{width}d}")) for value in range(low, high + 1)]
    wanted += [(10, *[0] * (width - 1))] * missing
    assert [*map(tuple, tokens.tolist())] == wanted
    assert sorted(words(field)) == wanted


def test_category_tokens() -> None:
    assert words(CategoryTokenizer(3)) == [(0,), (1,), (2,)]
    assert CategoryTokenizer(3).encode(torch.tensor([2, 0])).tolist() == [[2], [0]]


ROWS = TableTokens(
    (CategoryTokenizer(3), DigitTokenizer(7, 123), CategoryTokenizer(2)), value_probs=((0.2, 0.0, 0.8), (), (0.5, 0.5))
)


def test_rows_round_trip() -> None:
    codes = torch.tensor([*itertools.product(range(3), (0, 1, 92, 93, 116), range(2))])
    tokens = ROWS.encode(codes)
    assert tokens[codes[:, 1] == 93][0].tolist() == [0, 1, 0, 0, 0]
    assert torch.equal(ROWS.decode(tokens), codes)
    assert ROWS.vocab_sizes == (3, 10, 10, 10, 2)


def test_base_samples_columns_independently() -> None:
    codes = ROWS.decode(ROWS.sample_base(20_000, Rng(0).stream("x")))
    assert torch.bincount(codes[:, 0], minlength=3).div(20_000).sub(torch.tensor([0.2, 0.0, 0.8])).abs().max() < 0.012
    assert codes[:, 1].min() == 0
    assert codes[:, 1].max() == 116
    assert torch.corrcoef(codes.T.double())[0, 2].abs() < 0.03


def test_token_order() -> None:
    order = torch.tensor([[2, 1, 0], [1, 0, 2]])
    assert ROWS.token_order(order).tolist() == [[4, 1, 2, 3, 0], [1, 2, 3, 0, 4]]


TWO = (CategoryTokenizer(2), CategoryTokenizer(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CategoryTokenizer(0),
        lambda: DigitTokenizer(5, 4),
        lambda: TableTokens(()),
        lambda: TableTokens((CategoryTokenizer(2),), value_probs=((1.0,),)),
        lambda: TableTokens(TWO, (PairConstraint(0, 1, ("10",)),)),
        lambda: TableTokens(TWO, (PairConstraint(0, 1, ("00", "00")),)),
        lambda: TableTokens((CategoryTokenizer(2), DigitTokenizer(0, 99)), (PairConstraint(0, 1, ("10", "01")),)),
        lambda: TableTokens(TWO, (PairConstraint(0, 2, ("10", "01")),)),
        lambda: TableTokens(
            (CategoryTokenizer(1),) * 3, tuple(PairConstraint(a, b, ("1",)) for a, b in ((0, 1), (1, 2), (2, 0)))
        ),
    ],
    ids=["empty", "bounds", "columns", "probabilities", "strings", "no pair", "digits", "column", "cycle"],
)
def test_invalid_columns_and_constraints_are_refused(make) -> None:
    with refuses(UsageError):
        make()
