"""Filling in: what is known stays, what is not is drawn."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.models.generation import Generation, Known
from feller.networks.sequence.causal_transformer import Decoder
from feller.paths import Affine, Autoregressive, Mixture, Product
from feller.paths.path import Given
from feller.paths.processes import Characteristics, hold
from feller.sampling.sampler_config import Sampling
from feller.spaces import Euclidean, MaskSource, Tokens, UniformSource
from feller.spaces import Product as ProductSpace


class Sure(nn.Module):
    """Says that every token is the symbol 2."""

    nulls: dict[str, int] = {}  # noqa: RUF012 - nothing to be without

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x_t: Tensor, t: Tensor, given: Given) -> Tensor:
        logits = torch.tensor([0.0, 0.0, 30.0, 0.0])
        return logits.expand(*x_t.shape, 4)


def of_mixture(source: Any) -> Generation:
    """Draw five of four symbols, all 2."""
    return Generation(
        path=Mixture(source=source),
        space=Tokens(4, (5,), source),
        network=Sure(),
        sampling=Sampling("euler", 8),
        draws=Draws(0),
    )


@pytest.mark.parametrize("source", [MaskSource(), UniformSource()])
def test_known_tokens_stay(source) -> None:
    kept = torch.tensor([[True, False, True, False, False]]).expand(3, -1)
    known = Known(torch.tensor([[3, 0, 1, 0, 0]]).expand(3, -1), kept)
    about = of_mixture(source)
    ((_, x_1),) = about.ends(3, {}, known=known)
    assert x_1.tolist() == [[3, 2, 1, 2, 2]] * 3


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("source", [MaskSource(), UniformSource()])
def test_no_text_ends_before_what_is_known(source, guidance: float) -> None:
    """Symbol 2, of which the network is sure, ends a text: what is behind a gap would be lost with it."""
    known = Known(torch.tensor([[3, 0, 1, 0, 0]]), torch.tensor([[True, False, True, False, False]]))
    about = of_mixture(source)
    seeds = [replace(about, guidance=guidance, end=2, draws=Draws(seed)) for seed in range(30)]
    filled = [next(one.ends(1, {}, known=known))[1][0].tolist() for one in seeds]
    assert {(row[0], *row[2:]) for row in filled} == {(3, 1, 2, 2)}
    assert {row[1] for row in filled} == {0, 1, 3}


@pytest.mark.parametrize("symbol", [4, -1, 99])
def test_known_tokens_are_symbols_of_the_data(symbol: int) -> None:
    """The mask, 4 here, is none: kept, it would be in the sample."""
    known = Known(torch.tensor([[symbol, 0]]), torch.tensor([[True, False]]))
    source = MaskSource()
    path, space = Mixture(source=source), Tokens(4, (2,), source)
    about = Generation(path=path, space=space, network=Sure(), sampling=Sampling("euler", 2), draws=Draws(0))
    with pytest.raises(UsageError, match=f"{symbol} is known.* from 0 to 3"):
        next(about.ends(1, {}, known=known))


def test_known_tokens_of_a_law_token_after_token() -> None:
    network = Decoder(4, width=16, depth=1, heads=2).build((5,), {}, Draws(0))
    known = Known(torch.tensor([[3, 0, 1, 0, 0]]), torch.tensor([[True, False, True, False, False]]))
    about = Generation(
        path=Autoregressive(), space=Tokens(4, (5,)), network=network, sampling=Sampling("euler", 5), draws=Draws(0)
    )
    ((_, x_1),) = about.ends(1, {}, known=known)
    assert x_1[0, 0] == 3
    assert x_1[0, 2] == 1


def test_numbers_are_not_filled_in() -> None:
    known = Known(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool))
    about = Generation(path=Affine(), space=Euclidean((2,)), network=Sure(), sampling=Sampling(), draws=Draws(0))
    with pytest.raises(UsageError, match="symbols"):
        next(about.ends(1, {}, known=known))


def test_nothing_happens_where_it_is_held() -> None:
    known = torch.tensor([[True, False]])
    now = hold(lambda x, t: Characteristics(x + 1, torch.ones_like(x)), known)(torch.zeros(1, 2), torch.zeros(1))
    assert now.velocity.tolist() == [[0, 1]]
    assert now.diffusion.tolist() == [[0, 1]]


class Beside(Sure):
    """Answers for a number and a token that the number is what the token says: 10 times it."""

    def forward(self, x_t: dict[str, Tensor], t: dict[str, Tensor], given: Given) -> dict[str, Tensor]:
        self.times.append({name: time[0].item() for name, time in t.items()})
        logits = 30 * torch.nn.functional.one_hot((x_t["number"][:, :1] / 10).round().long().clamp(0, 3), 4)
        goal = torch.where(x_t["token"] < 4, 10.0 * x_t["token"], 5.0)
        return {"number": (goal - x_t["number"]) / (1 - t["number"][:, None]), "token": logits.float()}


@pytest.mark.parametrize("leaf", ["number", "token"])
def test_a_leaf_that_is_given_stands_still_while_the_others_are_drawn(leaf: str) -> None:
    network = Beside()
    network.times = []
    about = Generation(
        path=Product({"number": Affine(), "token": Mixture(source=MaskSource())}),
        space=ProductSpace({"number": Euclidean((1,)), "token": Tokens(4, (1,), MaskSource())}),
        network=network,
        sampling=Sampling("euler", 8),
        draws=Draws(0),
    )
    fixed = {"number": torch.tensor([[20.0], [30.0]]), "token": torch.tensor([[2], [3]])}
    ((_, x_1),) = about.ends(2, {}, fixed={leaf: fixed[leaf]})
    assert torch.equal(x_1["token"], fixed["token"])
    torch.testing.assert_close(x_1["number"], fixed["number"])
    other = {"number": "token", "token": "number"}[leaf]
    assert [time[leaf] for time in network.times] == [1.0] * 8
    assert [time[other] for time in network.times] == [i / 8 for i in range(8)]
