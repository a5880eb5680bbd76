"""A network that rehearsed holds the law of the rows that it saw, whatever it held before."""

import torch

from feller.app.workflows.private.pretrain_on_marginals import pretrain_on_rows
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.sequence.row_transformer import RowTransformer
from feller.privacy.marginals import MarginalModel
from feller.spaces.table_tokens import CategoryTokenizer, TableTokens
from feller.training.engine import get_engine
from feller.training.objectives.next_token_prediction import RowLikelihood
from feller.training.optimizer import TrainConfig
from tests.errors import refuses

COUNTS = (3, 2, 4)
SPACE = TableTokens(tuple(CategoryTokenizer(count) for count in COUNTS))
TRAINING = TrainConfig(lr=1e-2, warmup=20, grad_clip_norm=1e6, batch_size=1024, steps=150)


def law():
    """A chain in which each column leans strongly on the one before."""
    generator = torch.Generator().manual_seed(0)
    tables = [2 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 2), (2, 4))]
    return MarginalModel(COUNTS, ((0, 1), (1, 2)), tuple(tables), 1.0)


def every_row():
    return torch.cartesian_prod(*(torch.arange(count) for count in COUNTS))


def network():
    return RowTransformer(SPACE, width=16, depth=1, heads=2).build((3,), {}, Rng(0))


@torch.no_grad()
def apart(made):
    """Return the Kullback-Leibler divergence of the network's law from the chain, exactly, in nats."""
    codes = every_row()
    true = law().log_likelihood(codes)
    told = -RowLikelihood(SPACE, 0.0).loss(made, {"x_t": codes, "t": torch.zeros(len(codes)), "given": {}}).double()
    return (true.exp() * (true - told)).sum()


def test_the_law_is_learned_and_two_rehearsals_are_alike(monkeypatch):
    monkeypatch.setattr("feller.app.workflows.private.pretrain_on_marginals.STEPS", 120)
    rows = law().sample(50_000, Rng(1))
    first, second = network(), network()
    before = apart(first).item()
    for one in (first, second):
        pretrain_on_rows(one, RowLikelihood(SPACE, 0.0), rows, TRAINING, Rng(2), get_engine())
    assert before > 0.5
    assert apart(first).item() < 0.01
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_no_rows_are_refused():
    with refuses(UsageError, found="none"):
        pretrain_on_rows(network(), RowLikelihood(SPACE, 0.0), every_row()[:0], TRAINING, Rng(0), get_engine())
