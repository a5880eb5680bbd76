"""Causal transformer and its key-value cache."""

import pytest
import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.networks import CausalTransformer
from feller.networks.sequence.causal_transformer import CausalTransformerNetwork
from tests.networks.checks import perturb_weights

K = 5


def random_network() -> CausalTransformerNetwork:
    return perturb_weights(CausalTransformer(K, width=16, depth=2, heads=2).build((12,), {"label": 3}, Rng(0)))


def batch(n: int = 3, length: int = 12) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    draw = Rng(2).stream("batch")
    return draw.randint(K, (n, length)), draw.uniform((n,), torch.float64), {"label": draw.randint(4, (n,))}


@pytest.mark.parametrize("place", [0, 5, 11])
def test_logits_are_causal(place: int) -> None:
    network = random_network()
    x, t, given = batch()
    other = x.clone()
    other[:, place] = (other[:, place] + 1) % K
    before, after = network(x, t, given), network(other, t, given)
    torch.testing.assert_close(after[:, : place + 1], before[:, : place + 1], rtol=0, atol=1e-13)
    assert ((after - before)[:, place + 1 :].abs().amax(2) > 1e-5).all()


def test_time_and_padding_are_ignored() -> None:
    network = random_network()
    x, t, given = batch()
    logits = network(x, t, given)
    assert torch.equal(network(x, 1 - t, given), logits)
    valid = torch.arange(12).expand(3, 12) < 7
    padded = network(torch.where(valid, x, 0), t, given | {"valid": valid})
    torch.testing.assert_close(padded[:, :7], network(x[:, :7], t, given))
    torch.testing.assert_close(padded[:, :7], logits[:, :7])


@pytest.mark.parametrize("parts", [(1,) * 12, (12,), (1, 4, 1, 6), (9, 3)])
def test_cached_steps_equal_the_full_pass(parts: tuple[int, ...]) -> None:
    network = random_network()
    x, t, given = batch()
    whole = network(x, t, given)
    text = torch.cat([torch.full((3, 1), network.bos_token_id), x[:, :-1]], 1)
    cache, read = network.init_cache(3, 12), 0
    for m in parts:
        logits, cache = network.decode_step(text[:, read : read + m], cache, given)
        read += m
        torch.testing.assert_close(logits, whole[:, read - 1], rtol=1e-10, atol=1e-10)
    assert cache.length == 12


def test_cached_steps_in_float32() -> None:
    network = random_network().float()
    x, t, given = batch()
    whole = network(x, t, given)
    cache, token = network.init_cache(3, 12), torch.full((3, 1), network.bos_token_id)
    for i in range(12):
        logits, cache = network.decode_step(token, cache, given)
        assert (logits - whole[:, i]).abs().max() < 1e-5 * whole.abs().max()
        token = x[:, i : i + 1]


def test_cache_select() -> None:
    network = random_network()
    x, t, given = batch()
    text = torch.cat([torch.full((3, 1), network.bos_token_id), x], 1)
    _, cache = network.decode_step(text[:, :5], network.init_cache(3, 12), given)
    which = torch.tensor([2, 0])
    given = {"label": given["label"][which]}
    logits, _ = network.decode_step(text[which, 5:8], cache.select(which), given)
    torch.testing.assert_close(logits, network(x[which], t[which], given)[:, 7])


def test_the_first_logits_do_not_depend_on_the_tokens() -> None:
    network = random_network()
    x, t, given = batch(1, 1)
    answers = [network(torch.full_like(x, k), t, given) for k in range(K)]
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert network(x, t, {"label": (given["label"] + 1) % 4}).sub(answers[0]).abs().max() > 1e-5
