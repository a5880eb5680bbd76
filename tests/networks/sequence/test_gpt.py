"""GPT: causality, initialisation, packed samples, key-value cache."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks import GPT, count_parameters
from feller.networks.sequence.gpt import GPTNetwork
from tests.errors import refuses
from tests.networks.checks import check_gradients, check_learning, check_record, check_seed, perturb_weights

SYMBOLS = DocumentVocabulary(text=5, codes=4, picture=3)
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def random_network(dtype: torch.dtype = torch.float64) -> GPTNetwork:
    network = GPT(SYMBOLS, width=16, depth=2, heads=2, context=14).build((14,), {}, Rng(0))
    return perturb_weights(network, 0.3).to(dtype)


def test_patch_positions_of_codes() -> None:
    code, text, eos, cut, mask, infill, pad = (
        5,
        1,
        SYMBOLS.eos,
        SYMBOLS.break_token,
        SYMBOLS.mask,
        SYMBOLS.infill,
        SYMBOLS.pad,
    )
    row = [pad, eos, code, code, mask, cut, infill, code, eos]  # a document in front, with a hole that ends it
    squares = [0, 0, 1, 2, 2, 0, 2, 3, 0]  # what opens a fill stands for the code before the hole
    row += [text, mask, cut, code, mask, 8, cut, infill, text, infill, 6, 5, eos]
    squares += [0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 3, 0]
    row += [
        mask,
        cut,
        mask,
        8,
        mask,
        cut,
        mask,
        cut,
        text,
        mask,
        cut,
    ]  # the first picture has two holes, each of one code
    squares += [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    row += [infill, text, infill, 6, infill, 5, infill, 5, 6, 8, infill, text, eos]
    squares += [0, 0, 0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 0]
    network = GPT(SYMBOLS, width=16, heads=2, depth=1, context=60).build((60,), {}, Rng(0)).patch_positions
    assert network is not None
    assert network.positions(torch.tensor([row])).tolist() == [squares]
    for n in range(1, len(row)):
        assert network.positions(torch.tensor([row[:n]])).tolist() == [squares[:n]]
    for n in range(1, len(row)):
        onwards = network.advance(torch.tensor([row[n : n + 1]]), torch.tensor(squares[n - 1 : n]))
        assert onwards is None if row[n] == infill else onwards.tolist() == [squares[n : n + 1]]
    too_many = torch.tensor([[cut, 5, 5, 5, 5, 5]])
    assert network.positions(too_many).tolist() == [[0, 1, 2, 3, 3, 3]]


def test_without_patch_positions() -> None:
    network = GPT(SYMBOLS, width=16, heads=2, depth=1, patch_positions=False).build((12,), {}, Rng(0))
    assert network.patch_positions is None
    x = rows()
    ahead, cache = network.decode_step(x[:, :5], network.init_cache(3, 12))
    torch.testing.assert_close(ahead, answer(network, x)[:, 4])
    assert cache.tokens is None


def rows(n: int = 3, length: int = 12) -> Tensor:
    return Rng(2).stream("rows").randint(SYMBOLS.num_inputs, (n, length))


def answer(network: GPTNetwork, x: Tensor, **given: Tensor) -> Tensor:
    return network(x, torch.zeros(len(x)), given)


def next_symbols(network: nn.Module, x: Tensor, **given: Tensor) -> Tensor:
    """Return the negative log-likelihood of each token given its prefix."""
    return F.cross_entropy(answer(network, x, **given)[:, :-1].flatten(0, 1), x[:, 1:].flatten())


@pytest.mark.parametrize("place", [0, 5, 11])
def test_logits_are_causal(place: int) -> None:
    network, x = random_network(), rows()
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % SYMBOLS.num_inputs
    before, after = answer(network, x), answer(network, other)
    assert before.shape == (3, 12, SYMBOLS.num_outputs)
    torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=1e-13)
    assert ((after - before)[:, place:].abs().amax(2) > 1e-5).all()


def test_rows_are_independent_and_time_is_ignored() -> None:
    network, x = random_network(), rows(5)
    logits = answer(network, x)
    assert torch.equal(network(x, torch.ones(5), {}), logits)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(answer(network, x[order]), logits[order], **CLOSE)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_packed_samples_equal_separate_ones(dtype: torch.dtype, tolerance: float) -> None:
    network, lengths = random_network(dtype), [[4, 9, 1], [14, 2, 3]]
    x = rows(2, 20)
    sample, position = torch.full_like(x, -1), torch.zeros_like(x)
    for row, parts in enumerate(lengths):
        at = 0
        for number, n in enumerate(parts):
            sample[row, at : at + n], position[row, at : at + n] = number, torch.arange(n)
            at += n
    packed = answer(network, x, sample=sample, position=position)
    scale = packed.abs().max()
    assert packed.isfinite().all()
    for row, parts in enumerate(lengths):
        at = 0
        for n in parts:
            alone = answer(network, x[row : row + 1, at : at + n])
            assert (packed[row, at : at + n] - alone[0]).abs().max() < tolerance * scale
            at += n


def test_samples_attend_within_their_number_only() -> None:
    network, x = random_network(), rows(1, 8)
    sample = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    position = torch.arange(8)[None]
    apart = answer(network, x, sample=sample, position=position)
    together = answer(network, x)
    torch.testing.assert_close(apart[:, :3], together[:, :3], **CLOSE)
    assert (apart[:, 3:] - together[:, 3:]).abs().max() > 1e-3
    torch.testing.assert_close(answer(network, x, sample=torch.zeros_like(x)), together, **CLOSE)


@pytest.mark.parametrize("parts", [(1,) * 12, (12,), (1, 4, 1, 6), (9, 3)])
def test_cached_steps_equal_the_full_pass(parts: tuple[int, ...]) -> None:
    network, x = random_network(), rows()
    whole, cache, read = answer(network, x), network.init_cache(3, 12), 0
    for m in parts:
        logits, cache = network.decode_step(x[:, read : read + m], cache)
        read += m
        torch.testing.assert_close(logits, whole[:, read - 1], **CLOSE)
    assert cache.length == 12


@pytest.mark.parametrize("parts", [(7, 1, 1, 1), (3, 5, 2), (10,)])
def test_left_padding_is_ignored(parts: tuple[int, ...]) -> None:
    network, x = random_network(), rows(4, 10)
    skip = torch.tensor([0, 6, 3, 5])
    cache, read = network.init_cache(4, 10, skip), 0
    for m in parts:
        logits, cache = network.decode_step(x[:, read : read + m], cache)
        read += m
        for row, first in enumerate(skip.tolist()):
            if first < read:
                torch.testing.assert_close(logits[row], answer(network, x[row : row + 1, first:read])[0, -1], **CLOSE)
        assert logits.isfinite().all()


@pytest.mark.parametrize("skip", [None, [2, 0, 1, 3, 4, 0, 1, 5]])
def test_cache_select(skip: list[int] | None) -> None:
    network, x = random_network(), rows(8, 17)
    begins = torch.tensor(skip or [0] * 8)
    x[torch.arange(17) < begins[:, None]] = SYMBOLS.pad
    x[x == SYMBOLS.infill] = SYMBOLS.mask  # no row that is malformed so is read on
    _, cache = network.decode_step(x[:, :4], network.init_cache(8, 17, None if skip is None else begins))
    alive = torch.arange(8)
    for i, which in enumerate(([0, 1, 2, 3, 4, 6, 7], [0, 1, 2, 3, 5, 6], [3, 5, 2], [1, 0, 1], [0, 2])):
        cache, alive = cache.select(torch.tensor(which)), alive[which]
        assert (cache.active_rows is None) == (i > 0)
        for place in range(4 + 2 * i, 6 + 2 * i):
            logits, cache = network.decode_step(x[alive, place : place + 1], cache)
        for row, got in zip(alive.tolist(), logits, strict=True):
            seen = x[row : row + 1, begins[row] : place + 1]
            torch.testing.assert_close(got, answer(network, seen)[0, -1], **CLOSE)


def test_selected_rows_may_pass_the_context_of_the_others() -> None:
    network, x = random_network(), rows(8, 20)
    skip = torch.tensor([6, 6, 6, 0, 6, 6, 6, 6])
    x[skip > 0, :6] = SYMBOLS.pad
    _, cache = network.decode_step(x[:, :14], network.init_cache(8, 20, skip))
    which = torch.tensor([0, 1, 2, 4, 5, 6, 7])
    cache = cache.select(which)
    assert cache.active_rows is not None
    logits, cache = network.decode_step(x[which, 14:20], cache)
    for row, got in zip(which.tolist(), logits, strict=True):
        torch.testing.assert_close(got, answer(network, x[row : row + 1, 6:20])[0, -1], **CLOSE)


def test_cached_steps_in_float32() -> None:
    network, x = random_network(torch.float32), rows()
    whole, cache = answer(network, x), network.init_cache(3, 12)
    for i in range(12):
        logits, cache = network.decode_step(x[:, i : i + 1], cache)
        assert (logits - whole[:, i]).abs().max() < 1e-5 * whole.abs().max()
    assert logits.dtype == torch.float32
    assert network.half()(x, torch.zeros(3), {}).dtype == torch.float32


def test_weight_initialisation() -> None:
    """Normal and cut at 3 standard deviations: 0.9866 of the spread is left. Bounds: 6 standard deviations of it."""
    network = GPT.from_size(SYMBOLS, 4).build((512,), {}, Rng(0))
    left = 0.98658
    for name, weight in network.named_parameters():
        if name.endswith(("proj.weight", "fc2.weight")):
            assert not weight.any()
            continue
        spread = 0.0002 if name == "position_embed.weight" else 0.006
        assert weight.abs().max() <= 3 * spread
        assert abs(weight.std().item() / spread - left) < 6 * left / math.sqrt(2 * weight.numel()), name
        assert abs(weight.mean().item()) < 6 * spread / math.sqrt(weight.numel())
    assert not any("bias" in name or "norm" in name for name, _ in network.named_parameters())
    assert network.state_dict().keys() == dict(network.named_parameters()).keys()  # the tied weights are there once


def test_a_new_network_depends_on_the_last_token_and_learns_in_all_its_weights() -> None:
    network = GPT(SYMBOLS, width=16, depth=2, heads=2, context=12).build((12,), {}, Rng(0)).double()
    x = rows(16) % SYMBOLS.num_outputs
    assert network.patch_positions is not None
    h = (
        network.token_embed.weight[x]
        + network.position_embed.weight
        + network.patch_positions(network.patch_positions.positions(x))
    )
    logits = F.layer_norm(h, (16,)) @ network.token_embed.weight[:-1].mT
    torch.testing.assert_close(answer(network, x), logits)
    assert logits.abs().max() < 0.2
    check_learning(network, lambda: next_symbols(network, x), 3)


def test_learns_long_range_dependence() -> None:
    """The third symbol from the end repeats the first: log 4 = 1.39 nats at first."""
    network = GPT(SYMBOLS, width=32, depth=2, heads=2, context=8).build((8,), {}, Rng(0))
    x = Rng(3).stream("x").randint(4, (64, 8))
    x[:, 5] = x[:, 0]
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = F.cross_entropy(answer(network, x)[:, 4], x[:, 5])
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_gradients_per_example() -> None:
    x = rows(3) % SYMBOLS.num_outputs
    sample = torch.tensor([[0] * 12, [0] * 5 + [1] * 7, [0] * 2 + [1] * 6 + [2] * 4])
    position = torch.cat([torch.arange(12)[None], *[torch.zeros(1, 12, dtype=torch.long)] * 2])
    given = {"sample": sample, "position": position}
    check_gradients(
        random_network(), lambda net, x, given: next_symbols(net, x, **given), x, given, rtol=1e-9, atol=1e-12
    )


def test_the_device_follows_the_inputs() -> None:
    away = random_network().to("meta")(rows().to("meta"), torch.zeros(3, device="meta"), {})
    assert away.shape == (3, 12, SYMBOLS.num_outputs)
    assert away.device.type == "meta"


@pytest.mark.parametrize(("dial", "weights"), [(3, 0.33e6), (4, 0.79e6), (6, 2.65e6)])
def test_from_size(dial: int, weights: float) -> None:
    architecture = GPT.from_size(SYMBOLS, dial, 256)
    assert (architecture.width, architecture.depth, architecture.heads) == (32 * dial, dial, dial)
    network = architecture.build((256,), {}, Rng(0))
    blocks = 12_288 * dial**3
    assert count_parameters(network) == blocks + 32 * dial * (SYMBOLS.num_inputs + 256 + SYMBOLS.picture + 1)
    assert abs(blocks / weights - 1) < 0.01


def test_seeds_and_records() -> None:
    architecture = GPT(SYMBOLS, width=8, depth=1, heads=2, context=9)
    check_seed(lambda seed: architecture.build((9,), {}, Rng(seed)))
    check_record(architecture)


def test_invalid_inputs_are_refused() -> None:
    with refuses(UsageError, found="10"):
        GPT(SYMBOLS, width=10)
    with refuses(UsageError):
        GPT(SYMBOLS, depth=0)
    with refuses(UsageError, found="label"):
        GPT(SYMBOLS).build((9,), {"label": 2}, Rng(0))
    with refuses(UsageError, found="(9, 2)"):
        GPT(SYMBOLS).build((9, 2), {}, Rng(0))
    network = random_network()
    with refuses(UsageError, found="15"):
        answer(network, rows(2, 15))
    _, cache = network.decode_step(rows(2, 14), network.init_cache(2, 20))
    with refuses(UsageError, found="15"):
        network.decode_step(rows(2, 1), cache)


def test_empty_batches_and_sequences() -> None:
    network = random_network()
    assert answer(network, rows(0)).shape == (0, 12, SYMBOLS.num_outputs)
    assert answer(network, rows(2, 0)).shape == (2, 0, SYMBOLS.num_outputs)
