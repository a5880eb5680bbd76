"""Vector quantisation with EMA updates: nearest codes, averages, reinitialisation, processes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.networks.codebook import vq_ema
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.codebook.vq_ema import EMACodebook, VectorQuantizerEMA
from tests.errors import refuses
from tests.networks.codebook.batch import SIZE, codebook_after_batches
from tests.oracle import F64, close


def normal(name: str, *shape: int) -> torch.Tensor:
    return Rng(0).stream(name).normal(shape, F64)


def begun(settings: VectorQuantizerEMA, name: str = "begin") -> EMACodebook:
    """Return a codebook after one batch."""
    book = settings.build().double()
    book.update(normal(name, 20, 4, settings.dim), Rng(0))
    return book


def test_code_is_the_nearest_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    book, z = begun(VectorQuantizerEMA(num_codes=9, dim=3)), normal("z", 6, 5, 3)
    vectors = book.decode(torch.arange(9))
    expected = [[min(range(9), key=lambda k: (one - vectors[k]).norm().item()) for one in row] for row in z]
    assert book.encode(z).tolist() == expected
    close(book(z)[0], vectors[torch.tensor(expected)].tolist(), 1e-12)
    monkeypatch.setattr(vq_ema, "CHUNK_SIZE", 4)
    assert book.encode(z).tolist() == expected


def test_averages_equal_a_plain_loop() -> None:
    settings = VectorQuantizerEMA(num_codes=4, dim=2, decay=0.9, dead_code_fraction=0.0)
    book = begun(settings)
    count, total = book.cluster_size.tolist(), [torch.tensor(one, dtype=F64) for one in book.embed_avg.tolist()]
    for step in range(5):
        z = normal(f"batch {step}", 10, 3, 2)
        means = [total[k] / count[k] for k in range(4)]
        n, s = [0] * 4, [torch.zeros(2, dtype=F64) for _ in range(4)]
        for one in z.reshape(-1, 2):
            k = min(range(4), key=lambda k: (one - means[k]).square().sum().item())
            n[k] += 1
            s[k] += one
        count = [0.9 * old + 0.1 * new for old, new in zip(count, n, strict=True)]
        total = [0.9 * old + 0.1 * new for old, new in zip(total, s, strict=True)]
        book.update(z, Rng(step))
        close(book.cluster_size, count, 1e-12)
        close(book.decode(torch.arange(4)), [(total[k] / count[k]).tolist() for k in range(4)], 1e-12)
    assert book.encode(z).unique().numel() == 4


def test_codes_are_initialised_from_the_first_batch() -> None:
    book, z = VectorQuantizerEMA(num_codes=6, dim=2).build().double(), normal("z", 5, 4, 2)
    book.update(z, Rng(0))
    away = torch.cdist(book.decode(torch.arange(6)), z.reshape(-1, 2))
    assert away.min(1).values.max() < 1e-12
    assert len({*away.argmin(1).tolist()}) == 6
    close(book.cluster_size, 6 * [20 / 6], 1e-6)
    again, other = (VectorQuantizerEMA(num_codes=6, dim=2).build().double() for _ in range(2))
    again.update(z, Rng(0))
    other.update(z, Rng(1))
    assert torch.equal(again.embed_avg, book.embed_avg)
    assert not torch.equal(other.embed_avg, book.embed_avg)


def test_unused_codes_are_reinitialised() -> None:
    book = begun(VectorQuantizerEMA(num_codes=5, dim=2, decay=0.5, dead_code_fraction=0.1))
    far = torch.tensor([100.0, 100.0], dtype=F64)
    even = 20 * 4 / 5
    book.embed_avg[3], book.cluster_size[3] = even * far, even
    lives = []
    for step in range(4):  # 0.5, 0.25, 0.125, and 0.0625 of an even use
        z = normal(f"batch {step}", 20, 4, 2)
        book.update(z, Rng(step))
        lives.append((book.decode(torch.tensor([3]))[0] - far).norm().item() < 1e-9)
    assert lives == [True, True, True, False]
    assert (z.reshape(-1, 2) - book.decode(torch.tensor([3]))).norm(dim=1).min() < 1e-12
    assert book.cluster_size[3].item() == pytest.approx(even)


def test_fewer_vectors_than_codes() -> None:
    book, z = VectorQuantizerEMA(num_codes=20, dim=2).build().double(), normal("z", 1, 3, 2)
    book.update(z, Rng(0))
    assert torch.cdist(book.decode(torch.arange(20)), z[0]).min(1).values.max() < 1e-12
    close(book(z)[0], z.tolist(), 1e-12)


def test_vectors_are_zero_before_the_first_batch() -> None:
    book, z = VectorQuantizerEMA(num_codes=3, dim=2).build(), torch.ones(2, 4, 2)
    found, apart = book(z)
    assert found.abs().max() == 0
    close(apart, [0.25, 0.25], 1e-6)


def test_commitment_loss_and_its_gradient() -> None:
    """The slope of features is that of what replaces them, and 2 beta (z - e) / (n d) of the commitment."""
    book = begun(VectorQuantizerEMA(num_codes=9, dim=3, commitment_weight=0.7))
    z, weight = normal("z", 6, 5, 3).requires_grad_(), normal("weight", 6, 5, 3)
    found, apart = book(z)
    nearest = book.decode(book.encode(z))
    close(apart, 0.7 * (z.detach() - nearest).square().mean((1, 2)), 1e-12)
    ((found * weight).sum() + apart.sum()).backward()
    close(z.grad, weight + 2 * 0.7 * (z.detach() - nearest) / 15, 1e-12)
    assert not any(True for _ in book.parameters())


def test_state_round_trips() -> None:
    settings = VectorQuantizerEMA(num_codes=5, dim=2)
    book, other = begun(settings), settings.build().double()
    other.load_state_dict(book.state_dict())
    for one in (book, other):
        one.update(normal("next", 4, 3, 2), Rng(5))
    assert all(torch.equal(book.state_dict()[name], value) for name, value in other.state_dict().items())
    assert book.state_dict().keys() == {"cluster_size", "embed_avg"}


@pytest.mark.slow
def test_processes_agree_on_the_codebook(tmp_path: pathlib.Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--standalone")
    subprocess.run(
        [sys.executable, *launcher, "-m", "tests.networks.codebook.batch", str(tmp_path)],
        cwd=pathlib.Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=240,
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole = codebook_after_batches(slice(0, SIZE)).state_dict()
    for name, value in whole.items():
        assert torch.equal(first[name], second[name])
        close(first[name], value.tolist(), 1e-4)  # of numbers up to 100, whose sums have another order


def test_records_and_settings_out_of_range() -> None:
    settings = VectorQuantizerEMA(num_codes=3, dim=2, decay=0.5)
    assert from_dict(Quantizer, json.loads(json.dumps(to_dict(settings)))) == settings
    assert (settings.codebook_size, settings.code_dim, settings.updates_from_batch) == (3, 2, True)
    for wrong in (
        {"num_codes": 0},
        {"dim": 0},
        {"decay": 1.0},
        {"dead_code_fraction": -0.1},
        {"commitment_weight": -1.0},
    ):
        with refuses(UsageError):
            VectorQuantizerEMA(**wrong)
