"""Decoding of table rows: exact conditional probabilities, constraints."""

import pytest
import torch
from scipy.stats import chisquare

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.sampling.autoregressive import row_decoding
from feller.sampling.autoregressive.row_decoding import decode_rows
from tests.errors import refuses
from tests.networks.test_row_network import CODES, ROWS, VALID, chances, network

N = 20_000


def counted(tokens: torch.Tensor) -> torch.Tensor:
    codes = ROWS.decode(tokens)
    number = ((codes[:, 0] * 17 + codes[:, 1]) * 2 + codes[:, 2]) * 4 + codes[:, 3]
    return torch.bincount(number, minlength=len(CODES))


def agrees(found: torch.Tensor, law: torch.Tensor) -> bool:
    assert found[law == 0].sum() == 0
    some = law * found.sum() >= 5
    law = law.detach()
    seen, wanted = found[some].double(), law[some] * found.sum()
    rest = found[~some].sum().double(), law[~some].sum() * found.sum()
    seen, wanted = (torch.cat([a, b[None]]) for a, b in ((seen, rest[0]), (wanted, rest[1])))
    return chisquare(seen[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


def test_row_frequencies_equal_the_model() -> None:
    made = network()
    law = chances(made, ROWS.encode(CODES), None)
    assert agrees(counted(decode_rows(made, N, Rng(0))), law)


@pytest.mark.parametrize("known", [{3: 2}, {1: 5, 2: 0}, {0: 2, 3: 1}])
def test_observed_columns_come_first(known: dict[int, int]) -> None:
    made = network()
    kept_columns = torch.zeros(4, dtype=torch.bool)
    codes = torch.zeros(N, 4, dtype=torch.long)
    for column, value in known.items():
        kept_columns[column], codes[:, column] = True, value
    order = (~kept_columns).long().argsort(dim=0, stable=True)
    law = chances(made, ROWS.encode(CODES), order)
    fits = torch.stack([CODES[:, column] == value for column, value in known.items()]).all(0) & VALID
    law = torch.where(fits, law, 0.0) / law[fits].sum()
    kept = torch.repeat_interleave(kept_columns, torch.tensor(ROWS.tokens_per_column)).expand(N, -1)
    assert agrees(counted(decode_rows(made, N, Rng(1), observed=(ROWS.encode(codes), kept))), law)


@pytest.mark.parametrize("anyhow", [True, False])
def test_imputed_cells_are_not_missing(anyhow: bool) -> None:
    """Code 16 of the second column says so, by the token 10; where it is given, it stays."""
    made, never = network(), torch.tensor([-1, 10, -1, -1, -1])
    codes, kept = torch.zeros(N, 4, dtype=torch.long), torch.tensor([not anyhow, False, False, anyhow])
    codes[:, 0 if not anyhow else 3] = 1
    order = (~kept).long().argsort(dim=0, stable=True)
    known = ROWS.encode(codes), kept.repeat_interleave(torch.tensor(ROWS.tokens_per_column)).expand(N, -1)
    found = decode_rows(
        made, N, Rng(1), observed=known, any_order=anyhow, num_candidates=0 if anyhow else 50, forbidden=never
    )
    fits = VALID & (CODES[:, 0 if not anyhow else 3] == 1) & (CODES[:, 1] != 16)
    law = chances(made, ROWS.encode(CODES), order)
    assert agrees(counted(found), torch.where(fits, law, 0.0) / law[fits].sum())
    codes[:, 1] = 16
    given = (
        torch.tensor([False, True, False, False]).repeat_interleave(torch.tensor(ROWS.tokens_per_column)).expand(N, -1)
    )
    stays = decode_rows(made, 20, Rng(1), observed=(ROWS.encode(codes)[:20], given[:20]), forbidden=never)
    assert (ROWS.decode(stays)[:, 1] == 16).all()


def test_rows_may_observe_different_columns() -> None:
    made, some = network(), CODES[VALID][::3]
    tokens = ROWS.encode(some)
    columns = Rng(0).stream("kept").uniform((len(some), 4)) < 0.5
    kept = columns.repeat_interleave(torch.tensor(ROWS.tokens_per_column), 1)
    found = decode_rows(made, len(some), Rng(1), observed=(tokens, kept))
    assert torch.equal(found[kept], tokens[kept])
    assert (chances(made, found, None) > 0).all()
    part = decode_rows(made, 10, Rng(1, first_example=30), observed=(tokens[30:40], kept[30:40]))
    assert torch.equal(part, found[30:40])


@pytest.mark.slow
@pytest.mark.parametrize(("known", "ways"), [({3: 2}, 0), ({0: 1, 2: 1}, 0), ({3: 2}, 400)])
def test_fixed_order_networks_condition_on_any_columns(known: dict[int, int], ways: int) -> None:
    """Exactly by drawing until it fits, nearly by weighing 400 ways."""
    made, codes, kept_columns = network(), torch.zeros(N, 4, dtype=torch.long), torch.zeros(4, dtype=torch.bool)
    for column, value in known.items():
        kept_columns[column], codes[:, column] = True, value
    n = 1000 if ways else N
    law = chances(made, ROWS.encode(CODES), None)
    fits = torch.stack([CODES[:, column] == value for column, value in known.items()]).all(0) & VALID
    law = torch.where(fits, law, 0.0) / law[fits].sum()
    kept = torch.repeat_interleave(kept_columns, torch.tensor(ROWS.tokens_per_column)).expand(n, -1)
    given = (ROWS.encode(codes[:n]), kept)
    found = decode_rows(made, n, Rng(1), observed=given, any_order=False, num_candidates=ways)
    assert agrees(counted(found), law)
    part = decode_rows(
        made,
        40,
        Rng(1, first_example=300),
        observed=tuple(one[300:340] for one in given),
        any_order=False,
        num_candidates=ways,
    )
    assert torch.equal(part, found[300:340])


def test_conditions_of_low_acceptance_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.sampling.autoregressive.row_decoding.MAX_PROPOSALS", 3)
    tokens = ROWS.encode(torch.tensor([[0, 3, 0, 0]] * 50))
    kept = torch.tensor([False, True, True, False, True]).expand(50, -1)
    with pytest.raises(UsageError) as rare:
        decode_rows(network(), 50, Rng(0), observed=(tokens, kept), any_order=False)
    assert rare.value.argument == "given"


@pytest.mark.parametrize("anyhow", [True, False])
@pytest.mark.parametrize("known", [{}, {3: 1}])
def test_code_weights_reweight_the_rows(known: dict[int, int], anyhow: bool) -> None:
    """Rows beside 3 = 1 are drawn with that column first, or until it comes; either way all weights count."""
    made = network()
    weights, n = {0: torch.tensor([0.2, 0.0, 1.0]), 1: torch.linspace(0, 1, 17)}, 600 if known and not anyhow else 1500
    kept_columns = torch.zeros(4, dtype=torch.bool)
    codes = torch.zeros(n, 4, dtype=torch.long)
    for column, value in known.items():
        kept_columns[column], codes[:, column] = True, value
    order = (~kept_columns).long().argsort(dim=0, stable=True) if anyhow else None
    fits = VALID.clone()
    for column, value in known.items():
        fits &= CODES[:, column] == value
    law = torch.where(fits, chances(made, ROWS.encode(CODES), order), 0.0)
    for column, weight in weights.items():
        law = law * weight[CODES[:, column]]
    kept = torch.repeat_interleave(kept_columns, torch.tensor(ROWS.tokens_per_column)).expand(n, -1)
    odds = {column: lambda some, weight=weight: weight.double()[some] for column, weight in weights.items()}
    found = decode_rows(made, n, Rng(2), observed=(ROWS.encode(codes), kept), any_order=anyhow, code_weights=odds)
    assert agrees(counted(found), law / law.sum())
    part = decode_rows(
        made, 40, Rng(2), observed=(ROWS.encode(codes)[:40], kept[:40]), any_order=anyhow, code_weights=odds
    )
    assert torch.equal(part, found[:40])


def test_several_weighted_columns_come_first_and_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the second column needs rejection: 2 % of rows have the first weighted value, more than the limit allows."""
    monkeypatch.setattr(row_decoding, "MAX_PROPOSALS", 64)
    made, n = network(), 1500
    weights = {2: torch.tensor([0.02, 0.0]), 3: torch.tensor([1.0, 0.5, 0.0, 1.0])}
    law = torch.where(VALID, chances(made, ROWS.encode(CODES), torch.tensor([2, 3, 0, 1])), 0.0)
    for column, weight in weights.items():
        law = law * weight[CODES[:, column]]
    odds = {column: lambda some, weight=weight: weight.double()[some] for column, weight in weights.items()}
    none = torch.zeros(n, 5, dtype=torch.bool)
    found = decode_rows(made, n, Rng(2), observed=(none.long(), none), code_weights=odds)
    assert agrees(counted(found), law / law.sum())


def test_weights_that_exclude_all_values_are_refused_at_once() -> None:
    none = torch.zeros(3, 5, dtype=torch.bool)
    with refuses(UsageError):
        decode_rows(network(), 3, Rng(2), observed=(none.long(), none), code_weights={2: lambda some: some * 0.0})


def test_invalid_observations_are_refused() -> None:
    made, tokens = network(), ROWS.encode(CODES[VALID][:6])
    with refuses(UsageError):
        decode_rows(made, 6, Rng(0), observed=(tokens, torch.tensor([False, True, False, False, False]).expand(6, -1)))
    with refuses(UsageError, row=0, found="9"):
        decode_rows(
            made, 6, Rng(0), observed=(tokens + 9, torch.tensor([True, False, False, False, False]).expand(6, -1))
        )
    wrong = ROWS.encode(torch.tensor([[0, 3, 0, 3]]))
    with refuses(UsageError, row=0):
        decode_rows(made, 1, Rng(0), observed=(wrong, torch.tensor([[True, False, False, False, True]])))


def test_fully_observed_rows_are_kept() -> None:
    made, tokens = network(), ROWS.encode(CODES[VALID][:20])
    assert torch.equal(
        decode_rows(made, 20, Rng(0), observed=(tokens, torch.ones_like(tokens, dtype=torch.bool))), tokens
    )
