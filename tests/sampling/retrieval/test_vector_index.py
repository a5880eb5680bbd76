"""Inner product search: exact and by faiss."""

import importlib.util
import sys

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.sampling.retrieval.vector_index import ExactIndex, FaissIndex, VectorIndex
from tests.errors import refuses
from tests.oracle import close

with_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs faiss")


def vectors(n: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(Rng(seed).stream("vectors").normal((n, 16)), dim=1)


def check(index: VectorIndex, n: int = 500, k: int = 7) -> None:
    memory, queries = vectors(n), vectors(20, 1)
    scores, which = index.build(memory)(queries, k)
    expected = (queries @ memory.T).sort(1, descending=True)
    close(scores, expected.values[:, :k], 1e-5)
    assert torch.equal(which, expected.indices[:, :k])


@pytest.mark.parametrize("block", [1, 3, 7, 499, 500, 10_000])
def test_exact_index_in_blocks(block: int) -> None:
    check(ExactIndex(block))
    check(ExactIndex(block), n=7, k=7)


@with_faiss
def test_faiss_agrees() -> None:
    check(FaissIndex())
    check(FaissIndex(nlist=10, nprobe=10))


@with_faiss
def test_faiss_with_few_probes_has_high_recall() -> None:
    memory, queries = vectors(500), vectors(20, 1)
    _, which = FaissIndex(nlist=10, nprobe=5).build(memory)(queries, 5)
    _, exact = ExactIndex().build(memory)(queries, 5)
    assert (which[:, :, None] == exact[:, None]).any(2).float().mean() > 0.6


def test_missing_faiss_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with refuses(UsageError):
        FaissIndex().build(vectors(3))


def test_records_and_settings_out_of_range() -> None:
    for index in (ExactIndex(7), FaissIndex(3, 2)):
        assert from_dict(VectorIndex, to_dict(index)) == index
    with refuses(UsageError, argument="block", found="0"):
        ExactIndex(0)
    with refuses(UsageError, argument="nlist", found="-1"):
        FaissIndex(-1)
