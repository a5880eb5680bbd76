"""Convolutional image tokenizer: shapes, codes, training."""

import json
from dataclasses import replace

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read
from feller.networks import FSQ, ConvTokenizer, NetworkConfig, Quantizer, VectorQuantizerEMA
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objectives.autoencoding import AutoencodingLoss
from feller.training.optimizer import TrainConfig
from tests.errors import refuses
from tests.oracle import close

SMALL = ConvTokenizer(factor=2, width=16, blocks=1, quantizer=FSQ((4, 3)))
BOTH = [FSQ((5, 4)), VectorQuantizerEMA(num_codes=20, dim=4)]


def network(settings: ConvTokenizer = SMALL, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0):
    """Return a network with nonzero weights."""
    made = settings.build(shape, {}, Rng(seed))
    for i, weight in enumerate(made.parameters()):
        weight.data += 0.1 * Rng(seed).stream("weight", i).normal(weight.shape)
    return made


@pytest.mark.parametrize(
    ("factor", "shape", "grid"),
    [(2, (1, 8, 8), (4, 4)), (4, (3, 32, 24), (8, 6)), (8, (3, 16, 64), (2, 8)), (4, (1, 28, 28), (7, 7))],
)
@pytest.mark.parametrize("quantiser", BOTH)
def test_shapes(quantiser: Quantizer, factor: int, shape: tuple[int, int, int], grid: tuple[int, int]) -> None:
    made = network(ConvTokenizer(factor, 16, 1, quantiser), shape)
    x = Rng(0).stream("x").normal((3, *shape))
    made.update_codebook(x, Rng(0))
    codes = made.encode(x)
    assert made.grid == grid
    assert codes.shape == (3, grid[0] * grid[1])
    assert codes.dtype == torch.int64
    assert 0 <= codes.min() <= codes.max() < quantiser.codebook_size
    answer = made(x, torch.zeros(3), {"label": torch.zeros(3)})
    assert answer["state"].shape == x.shape
    assert answer["apart"].shape == (3,)
    close(made.decode(codes), answer["state"].tolist(), 1e-4)


def test_codes_are_in_raster_order() -> None:
    """Code 5 of a grid of 8 x 4 is in the second row and the second column: there, above all, its picture changes."""
    made = network(ConvTokenizer(2, 16, 0, FSQ((8, 8))), (1, 16, 8))
    codes = torch.zeros(1, 32, dtype=torch.long)
    codes[0, 5] = 63
    change = (made.decode(codes) - made.decode(torch.zeros_like(codes))).abs()[0, 0]
    rows, columns = (change > change.max() / 2).nonzero().T
    assert 0 <= rows.min() <= rows.max() <= 5  # two convolutions of 3 x 3 reach a cell, or two, around
    assert 0 <= columns.min() <= columns.max() <= 5


def test_a_new_network_decodes_to_zero() -> None:
    for quantiser in BOTH:
        made = replace(SMALL, quantizer=quantiser).build((1, 8, 8), {"label": 3}, Rng(0))
        assert made(Rng(0).stream("x").normal((2, 1, 8, 8)), torch.zeros(2), {})["state"].abs().max() == 0


def test_weights_come_from_the_seed_and_ignore_conditions() -> None:
    first, again, other = (SMALL.build((1, 8, 8), {}, Rng(seed)).state_dict() for seed in (0, 0, 1))
    labelled = SMALL.build((1, 8, 8), {"label": 10}, Rng(0)).state_dict()
    assert all(torch.equal(first[name], again[name]) and torch.equal(first[name], labelled[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_rows_are_independent() -> None:
    made, x = (
        network(ConvTokenizer(2, 16, 2, FSQ((8, 5)))).double(),
        Rng(0).stream("x").normal((5, 1, 8, 8), torch.float64),
    )
    whole = made(x, torch.zeros(5), {})["state"]
    close(torch.cat([made(one[None], torch.zeros(1), {})["state"] for one in x]), whole.tolist(), 1e-9)


def test_all_weights_are_trained() -> None:
    for quantiser in BOTH:
        made = network(replace(SMALL, quantizer=quantiser))
        x = Rng(0).stream("x").normal((8, 1, 8, 8))
        made.update_codebook(x, Rng(0))
        answer = made(x, torch.zeros(8), {})
        ((answer["state"] - x).square().mean() + answer["apart"].mean()).backward()
        assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in made.parameters())


def test_codebook_is_updated_in_training_mode_only() -> None:
    x = Rng(0).stream("x").normal((4, 1, 8, 8))
    made = network(replace(SMALL, quantizer=BOTH[1]))
    before = {name: value.clone() for name, value in made.named_buffers()}
    made.eval().update_codebook(x, Rng(0))
    assert all(torch.equal(before[name], value) for name, value in made.named_buffers())
    made.train().update_codebook(x, Rng(0))
    assert not any(torch.equal(before[name], value) for name, value in made.named_buffers())
    assert not list(network().named_buffers())


DATA = read("example:digits")
STATES = DATA.modality.encode(DATA.values)


def trained(quantiser: Quantizer, steps: int, seed: int = 0):
    """Train a tokenizer of digits; return it and its losses."""
    training = TrainConfig(batch_size=64, steps=steps, lr=3e-3, warmup=10, ema_decay=0.9)
    settings = ConvTokenizer(2, 16, 1, quantiser)
    learner = make_train_state(settings.build((1, 8, 8), {}, Rng(seed)), training)
    rule = AutoencodingLoss(Euclidean((1, 8, 8)))
    feed = batch_loader(DATA, training.batch_size, Rng(seed))
    found = [report.loss.item() for report in train(learner, rule, feed, training, rng=Rng(seed), engine=get_engine())]
    learner.ema.copy_to(learner.network)
    return learner.network.eval(), found


@pytest.mark.parametrize("quantiser", [FSQ((8, 5)), VectorQuantizerEMA(num_codes=40, dim=8)])
def test_learns_to_reconstruct_digits(quantiser: Quantizer) -> None:
    """40 codes a cell of 2 x 2 pixels beat its mean colour, which is right but for the variance inside of cells."""
    made, losses = trained(quantiser, 100)
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        error = (made.decode(made.encode(STATES)) - STATES).square().mean()
    small = torch.nn.functional.avg_pool2d(STATES, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert error < 0.5 * (small - STATES).square().mean()
    assert len(made.encode(STATES).unique()) > 20


def test_records_and_settings_out_of_range() -> None:
    for quantiser in BOTH:
        settings = replace(SMALL, quantizer=quantiser)
        assert from_dict(NetworkConfig, json.loads(json.dumps(to_dict(settings)))) == settings
    for factor in (0, 1, 3, 6):
        with refuses(UsageError):
            ConvTokenizer(factor)
    for wrong in ({"width": 4}, {"blocks": -1}):
        with refuses(UsageError):
            ConvTokenizer(**wrong)
    with refuses(UsageError):
        ConvTokenizer(4).build((1, 8, 6), {}, Rng(0))
    with refuses(UsageError, found="(8,)"):
        ConvTokenizer(4).build((8,), {}, Rng(0))
