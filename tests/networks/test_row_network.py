"""Autoregressive network of table rows: normalisation, orders, cached steps."""

import itertools

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init
from feller.networks.sequence.ordered_values import (
    SMOOTH_FRACTION,
    STRENGTH,
    OrderedSmoothing,
    smooth_embeddings,
)
from feller.networks.sequence.row_transformer import RowTransformer
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.per_example_gradients import clipped_by_loop
from feller.sampling.autoregressive.token_decoding import log_likelihood
from feller.spaces.table_tokens import CategoryTokenizer, DigitTokenizer, PairConstraint, TableTokens
from feller.training.objectives.next_token_prediction import RowLikelihood
from tests.errors import refuses
from tests.networks.checks import perturb_weights
from tests.oracle import F64

ROWS = TableTokens(
    (CategoryTokenizer(3), DigitTokenizer(7, 22, has_missing=True), CategoryTokenizer(2), CategoryTokenizer(4)),
    (PairConstraint(0, 2, ("10", "01", "11")), PairConstraint(3, 2, ("10", "10", "01", "01"))),
    value_probs=((0.5, 0.2, 0.3), (), (0.9, 0.1), (0.1, 0.2, 0.3, 0.4)),
)
SMOOTH = TableTokens((*ROWS.columns[:3], CategoryTokenizer(4, 3)), ROWS.constraints, ROWS.value_probs)
CODES = torch.tensor([*itertools.product(range(3), range(17), range(2), range(4))])
VALID = (
    ROWS.constraints[0].allowed_mask()[CODES[:, 0], CODES[:, 2]]
    & ROWS.constraints[1].allowed_mask()[CODES[:, 3], CODES[:, 2]]
)
ORDERS = [None, *(torch.tensor(order) for order in ([3, 1, 0, 2], [2, 0, 3, 1], [1, 3, 2, 0], [0, 3, 1, 2]))]


def network(rows: TableTokens = ROWS, *, noise: float = 0.3) -> torch.nn.Module:
    return perturb_weights(RowTransformer(rows, width=16).build((len(rows.vocab_sizes),), {}, Rng(0)), noise)


def chances(made: torch.nn.Module, tokens: Tensor, order: Tensor | None) -> Tensor:
    given = {} if order is None else {"order": order.expand(len(tokens), len(order))}
    logits = made(tokens, torch.zeros(len(tokens)), given)
    return logits.softmax(-1).gather(-1, tokens[..., None])[..., 0].nan_to_num(0.0).prod(1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [ROWS, SMOOTH])
def test_probabilities_of_allowed_rows_sum_to_one(rows: TableTokens, order: Tensor | None) -> None:
    found = chances(network(rows), ROWS.encode(CODES), order)
    assert abs(found.sum().item() - 1) < 1e-12
    assert torch.equal(found > 0, VALID)


def test_forbidden_rows_have_zero_likelihood() -> None:
    """Minus infinity, also where nothing can follow a forbidden token."""
    found = log_likelihood(network(), ROWS.encode(CODES), {})
    assert torch.equal(found == -torch.inf, ~VALID)
    assert abs(found.exp().sum().item() - 1) < 1e-12


def test_a_new_network_has_independent_columns() -> None:
    rows = TableTokens(ROWS.columns, value_probs=ROWS.value_probs)
    found = chances(network(rows, noise=0.0), rows.encode(CODES), None)
    shares = [torch.tensor(own, dtype=F64) for own in ROWS.value_probs if own]
    wanted = shares[0][CODES[:, 0]] * shares[1][CODES[:, 2]] * shares[2][CODES[:, 3]]
    by_row = found.reshape(3, 17, 2, 4)
    assert torch.allclose(by_row.sum(1).flatten(), wanted.reshape(3, 17, 2, 4)[:, 0].flatten(), rtol=1e-6)
    tens = by_row.sum((0, 2, 3))
    each = [*[1 / 4 / 3] * 3, *[1 / 4 / 10] * 10, *[1 / 4 / 3] * 3, 1 / 4]  # 0, 1, 2 or missing, then what may follow
    assert torch.allclose(tens, torch.tensor(each, dtype=F64))


@pytest.mark.parametrize("order", [order for order in ORDERS if order is not None])
@pytest.mark.parametrize("rows", [ROWS, SMOOTH])
def test_cached_steps_equal_the_full_pass(rows: TableTokens, order: Tensor) -> None:
    made, tokens = network(rows), ROWS.encode(CODES[VALID][::7])
    turn = ROWS.token_order(order.expand(len(tokens), 4))
    whole = made(tokens, torch.zeros(len(tokens)), {"order": order.expand(len(tokens), 4)})
    cache, last, before, everyone = made.init_cache(len(tokens)), None, None, torch.arange(len(tokens))
    for number in range(tokens.shape[1]):
        place = turn[:, number]
        logits, cache = made.decode_step(last, before, place, cache)
        may = made.grammar.allowed_at(tokens, turn.argsort(1), place)
        assert torch.allclose(logits.masked_fill(~may, -torch.inf), whole[everyone, place], atol=1e-12)
        last, before = tokens[everyone, place], place


def test_loss_is_the_mean_over_column_orders() -> None:
    made, tokens = network(), ROWS.encode(CODES[VALID][::5])
    plain = RowLikelihood(ROWS, shuffle_prob=0.0)
    example = plain.draw({"x_1": tokens}, Rng(1), made)
    assert torch.allclose(plain.loss(made, example).exp().reciprocal(), chances(made, tokens, None))
    several = RowLikelihood(ROWS, shuffle_prob=0.5, num_orders=3)
    example = several.draw({"x_1": tokens}, Rng(1), made)
    orders = example["given"]["order"]
    alone = [
        -torch.stack([chances(made, row[None], order)[0].log() for order in own]).mean()
        for row, own in zip(tokens, orders, strict=True)
    ]
    assert torch.allclose(several.loss(made, example), torch.stack(alone))


def test_shuffle_prob() -> None:
    tokens = ROWS.encode(CODES)
    for share in (0.0, 0.25, 1.0):
        orders = RowLikelihood(ROWS, shuffle_prob=share).draw({"x_1": tokens.repeat(10, 1)}, Rng(0))["given"]
        if not share:
            assert not orders
            continue
        in_turn = (orders["order"] == torch.arange(4)).all(-1).double().mean().item()
        assert abs(in_turn - (1 - share + share / 24)) < 0.02


def test_settings_out_of_range_are_refused() -> None:
    with refuses(UsageError):
        RowTransformer(ROWS, width=10, heads=4)
    with refuses(UsageError, found="(4,)"):
        RowTransformer(ROWS).build((4,), {}, Rng(0))
    with refuses(UsageError, argument="shuffle_prob", found="1.5"):
        RowLikelihood(ROWS, shuffle_prob=1.5)


@pytest.mark.parametrize("serialisations", [1, 3])
@pytest.mark.parametrize("rows", [ROWS, SMOOTH])
def test_ghost_clipping_equals_a_loop(rows: TableTokens, serialisations: int) -> None:
    made, tokens = network(rows), ROWS.encode(CODES[VALID][::20])
    objective = RowLikelihood(ROWS, shuffle_prob=0.5, num_orders=serialisations)
    example = objective.draw({"x_1": tokens}, Rng(1), made)
    found = clipped_by_ghost(objective.loss, made, example, 0.5)
    wanted = clipped_by_loop(objective.loss, made, example, 0.5)
    assert torch.allclose(found.norms, wanted.norms, rtol=1e-10)
    assert found.norms.max() > 0.5
    for name, value in wanted.sums.items():
        assert torch.allclose(found.sums[name], value, rtol=1e-9, atol=1e-12), name


ORDERED = TableTokens(
    (CategoryTokenizer(3), CategoryTokenizer(9, num_ordered=8), DigitTokenizer(7, 22), CategoryTokenizer(5, 5)),
    (PairConstraint(0, 1, ("1" * 9, "1" * 4 + "0" * 5, "1" * 9)),),
    value_probs=((0.5, 0.2, 0.3), (0.3, 0.1, 0.2, 0.1, 0.05, 0.05, 0.1, 0.05, 0.05), (), (0.4, 0.3, 0.1, 0.1, 0.1)),
)


def test_a_new_network_has_the_marginals_of_ordered_values() -> None:
    rows = TableTokens(ORDERED.columns, value_probs=ORDERED.value_probs)
    logits = network(rows, noise=0.0)(torch.zeros(1, 5, dtype=torch.long), torch.zeros(1), {})[0]
    for place, probs in ((0, rows.value_probs[0]), (1, rows.value_probs[1]), (4, rows.value_probs[3])):
        torch.testing.assert_close(logits[place].softmax(-1)[: len(probs)], torch.tensor(probs, dtype=logits.dtype))


def test_a_gradient_step_on_an_ordered_value_moves_its_neighbours_most() -> None:
    smoothing = OrderedSmoothing(ORDERED).double()
    logits = torch.zeros(5, 10, dtype=torch.float64, requires_grad=True)
    smoothing(logits)[1, 3].backward()
    step = logits.grad
    assert step is not None
    assert (step[[0, 2, 3, 4]] == 0).all()
    assert (step[1, 8:] == 0).all()  # the missing cell has no neighbours
    assert step[1, 3] > step[1, 4] > step[1, 5] > step[1, 6] > step[1, 7] > 0
    assert step[1, 3] > step[1, 2] > step[1, 1] > step[1, 0] > 0


def test_smoothing_shares_weights_with_a_total_of_the_strength() -> None:
    """Rows of B Bᵀ sum to about 4, so that a shift of all ordered logits is multiplied by about 5."""
    smoothing = OrderedSmoothing(TableTokens((CategoryTokenizer(40, 40),))).double()
    shifted = smoothing(torch.ones(1, 40, dtype=torch.float64))[0]
    assert abs(shifted.mean().item() - (1 + STRENGTH)) < 0.1


def test_smoothing_of_one_position_is_that_of_all_positions() -> None:
    smoothing = OrderedSmoothing(ORDERED).double()
    logits = torch.randn(2, 5, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = smoothing(logits)
    same, mixed = torch.tensor([1, 1]), torch.tensor([4, 1])
    torch.testing.assert_close(smoothing(logits[:, 1], same), expected[:, 1])
    torch.testing.assert_close(smoothing(logits[[0, 1], mixed], mixed), expected[[0, 1], mixed])
    torch.testing.assert_close(smoothing.invert(expected[0]), logits[0])


def test_embeddings_of_neighbours_are_similar() -> None:
    weight = torch.randn(sum(ORDERED.vocab_sizes), 512, generator=torch.Generator().manual_seed(0))
    before = weight.clone()
    with seeded_init(Rng(0)):
        smooth_embeddings(weight, ORDERED)
    assert torch.equal(weight[:3], before[:3])
    assert torch.equal(weight[11:-5], before[11:-5])  # the missing cell and the digits
    values = weight[3:11]
    found = torch.corrcoef(values)
    assert found[0, 1] > found[0, 2] > found[0, 4] > found[0, 7] - 0.1
    assert 0.7 < found[0, 1] < SMOOTH_FRACTION
    assert abs(values.std().item() - 1) < 0.1
