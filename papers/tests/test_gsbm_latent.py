"""Latent paths: slerp, and the cost of the states of each pair."""

import math

import pytest
import torch
from tests.oracle import F64, close, f64

from feller.control.bridges.costs import Zero, check
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller_papers.gsbm.latent import NearLatentPath, slerp

X_0, X_1 = (Rng(0).stream(name).normal((4, 3), F64) for name in ("a", "b"))


def test_slerp() -> None:
    a, b = f64(1, 0, 0, 2, 1, 1).reshape(3, 2), f64(0, 1, 0, -2, 2, 2).reshape(3, 2)
    found = slerp(a, b, 1 / 3)
    close(found, [[math.cos(math.pi / 6), math.sin(math.pi / 6)], [0, 2 / 3], [4 / 3, 4 / 3]], 1e-9)
    for t, end in ((0.0, X_0), (1.0, X_1)):
        close(slerp(X_0, X_1, t), end.tolist(), 1e-12)
    unit = slerp(X_0 / X_0.norm(dim=1, keepdim=True), X_1 / X_1.norm(dim=1, keepdim=True), 0.3)
    close(unit.norm(dim=1), [1.0] * 4, 1e-12)


def test_each_state_beside_the_way_of_its_pair(monkeypatch) -> None:
    monkeypatch.setattr("feller_papers.gsbm.latent.BATCH_SIZE", 5)
    cost = (2.0 * NearLatentPath(lambda x: 3 * x, lambda z: z / 3 + 1, frames=201) + Zero()).bind_pairs(X_0, X_1)
    times = f64(0, 0.137, 0.5, 1)
    x = Rng(0).stream("x").normal((4, 12, 3), F64)
    found = cost(x, times[:, None])
    for k, t in enumerate(times):
        way = (slerp(3 * X_0, 3 * X_1, t) / 3 + 1).repeat_interleave(3, 0)
        close(found[k], (2 * (x[k] - way).abs().mean(1)).tolist(), 1e-3)
    one_each = cost(x[0, ::3], times)
    close(one_each, [cost(x[:1, ::3], t[None, None])[0, k].item() for k, t in enumerate(times)], 1e-9)


def test_gradients_reach_the_states_alone() -> None:
    weight = torch.ones(1, dtype=F64, requires_grad=True)
    cost = NearLatentPath(lambda x: x * weight, lambda z: z * weight).bind_pairs(X_0, X_1)
    x = Rng(0).stream("x").normal((2, 8, 3), F64).requires_grad_()
    (slope,) = torch.autograd.grad(cost(x, f64(0.2, 0.6)[:, None]).sum(), x)
    close(slope.abs(), torch.full((2, 8, 3), 1 / 3).tolist(), 1e-7)


def test_what_it_needs() -> None:
    cost = NearLatentPath(lambda x: x, lambda z: z)
    with pytest.raises(UsageError, match="ask for_pairs"):
        cost(X_0, f64(0.5))
    assert check(cost, X_0, f64(0.5)) is cost
    with pytest.raises(InputError, match="cost is nan"):
        check(NearLatentPath(lambda x: x, lambda z: z * math.nan), X_0, f64(0.5))
    with pytest.raises(UsageError, match="states of 4 pairs, as many of each; found 6"):
        cost.bind_pairs(X_0, X_1)(torch.zeros(6, 3, dtype=F64), f64(0.5))
    with pytest.raises(UsageError, match="2 frames"):
        NearLatentPath(lambda x: x, lambda z: z, frames=1)
