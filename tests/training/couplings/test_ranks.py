"""Couplings over several processes."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

from feller.core.pytree import concatenate, leaves
from feller.core.rng import Rng
from feller.training.couplings import GlobalBatchCoupling, MinibatchOT
from tests.training.couplings.pairs import COUPLINGS, SIZE, couple


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_pairs_do_not_depend_on_the_number_of_processes(tmp_path: pathlib.Path, ranks: int) -> None:
    """A batch of 7, so that parts are uneven; every coupling moves somebody, and across the border of the parts."""
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", "0", "--standalone")
    subprocess.run(
        [sys.executable, *launcher, "-m", "tests.training.couplings.pairs", str(tmp_path)],
        cwd=pathlib.Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=240,
    )
    parts, whole = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)], couple(slice(0, SIZE))
    for name in COUPLINGS:
        together = concatenate(*(part[name] for part in parts))
        assert all(torch.equal(a, b) for a, b in zip(leaves(together), leaves(whole[name]), strict=True))
    alone = [couple(slice(SIZE * rank // ranks, SIZE * (rank + 1) // ranks)) for rank in range(ranks)]
    assert any(
        not torch.equal(concatenate(*(part[name] for part in alone))["a"], whole[name]["a"]) for name in COUPLINGS
    )


def test_one_process_equals_minibatch_ot() -> None:
    x_0, x_1 = (Rng(0).stream(name).normal((9, 2)) for name in "ab")
    draw = Rng(0).stream("coupling")
    assert torch.equal(GlobalBatchCoupling()(x_0, x_1, {}, draw), MinibatchOT()(x_0, x_1, {}, draw))
    assert GlobalBatchCoupling().couples_examples
