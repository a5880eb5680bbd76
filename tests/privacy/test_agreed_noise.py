"""Noise that several processes agree upon, and the coins that they flip with it."""

import copy
import os

import pytest
import torch

from feller.core.errors import UsageError
from feller.privacy.dp_sgd.poisson_sampling import poisson_batches
from feller.privacy.noise import grid_noise
from feller.privacy.noise.grid_noise import KEY, SecureNoise, SeededNoise, SharedKeyNoise, make_noise
from tests.errors import refuses

SECRET = os.urandom(KEY)
N, SIZE = 500, 60


def test_one_key_and_name_give_one_stream() -> None:
    same = [SharedKeyNoise(SECRET, "coins", 3).random_bytes(100) for _ in range(2)]
    assert same[0] == same[1]
    others = [SharedKeyNoise(SECRET, "coins", 4), SharedKeyNoise(os.urandom(KEY), "coins", 3), SecureNoise()]
    assert len({same[0], *(other.random_bytes(100) for other in others)}) == 4
    with refuses(UsageError, found="5"):
        SharedKeyNoise(b"short", "coins")


def test_a_key_that_is_used_up_is_renewed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes on under another key at the same place in all processes, and does not begin anew."""
    endless = SharedKeyNoise(SECRET, "coins").random_bytes(1000)
    monkeypatch.setattr(grid_noise, "RENEW_BYTES", 100)
    streams = [SharedKeyNoise(SECRET, "coins") for _ in range(2)]
    taken = [b"".join(stream.random_bytes(40) for _ in range(25)) for stream in streams]
    assert taken[0] == taken[1]
    assert taken[0][:80] == endless[:80]
    assert len({taken[0][i : i + 40] for i in range(0, 1000, 40)}) == 25
    assert taken[0][80:120] != endless[80:120]


def test_which_noise_is_chosen() -> None:
    assert isinstance(make_noise(3, "x", key=SECRET), SeededNoise)
    assert isinstance(make_noise(None, "x", key=SECRET), SharedKeyNoise)
    assert isinstance(make_noise(None, "x"), SecureNoise)


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_out_who_one_process_would_take(ranks: int) -> None:
    """Each chosen row once, at its place in the batch of one process, also where there are more than a full batch."""
    rows = {"x_1": torch.arange(N), "given": {}}

    def drawn(cut: slice, steps: int) -> list[torch.Tensor]:
        batch = poisson_batches(copy.copy(rows), SIZE, SharedKeyNoise(SECRET, "coins"))
        return [batch(step, cut)["x_1"] for step in range(steps)]

    whole = drawn(slice(0, SIZE), 40)
    cuts = [slice(SIZE * rank // ranks, SIZE * (rank + 1) // ranks) for rank in range(ranks)]
    parts = [drawn(cut, 40) for cut in cuts]
    assert {len(one) > SIZE for one in whole} == {True, False}  # 40 draws on one side: below 1e-10
    for step, one in enumerate(whole):
        assert torch.equal(torch.cat([part[step] for part in parts]), one)
        for cut, part in zip(cuts, parts, strict=True):
            assert torch.equal(part[step][: cut.stop - cut.start], one[cut])
