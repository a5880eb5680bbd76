"""Tasks of unequal size: shares move towards equal ones within their factors."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.documents.modality import balanced


def tasks_of(*counts: int) -> torch.Tensor:
    """Numbers 5, 6, ... mixed."""
    tasks = torch.cat([torch.full((count,), 5 + i) for i, count in enumerate(counts)])
    return tasks[torch.randperm(len(tasks), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((100, 100, 100), [100, 100, 100]),
        ((200, 100, 60), [120, 120, 120]),  # all within the factors: equal shares
        ((1000, 10, 10), [340, 30, 30]),  # 0.34 of the large one, three times the small ones
        ((10_000, 10), [5005, 30]),
        ((2000, 5, 5, 5, 5), [600, 15, 15, 15, 15]),  # 404 / 2000 is below 0.3
        ((1,), [1]),
    ],
)
def test_how_often_each_task_comes(counts: tuple[int, ...], expected: list[int]) -> None:
    tasks = tasks_of(*counts)
    index = balanced(tasks, Draws(0))
    assert torch.equal(index, index.sort().values)
    assert torch.bincount(tasks[index], minlength=5 + len(counts))[5:].tolist() == expected
    for i, count in enumerate(counts):  # no document is left out while another comes twice more
        times = torch.bincount(index, minlength=len(tasks))[tasks == 5 + i]
        assert times.max() - times.min() <= 1
        assert len(times) == count


def test_which_documents_come_is_drawn() -> None:
    tasks = tasks_of(200, 10)
    first = balanced(tasks, Draws(0))
    assert torch.equal(first, balanced(tasks, Draws(0)))
    assert not torch.equal(first, balanced(tasks, Draws(1)))


def test_every_document_of_a_large_task_is_as_likely() -> None:
    """Of 30 documents 16 come (all 32, halved); 400 seeds, 5 standard errors, a false alarm in one of 60,000 runs."""
    tasks = tasks_of(30, 2)
    times = sum(torch.bincount(balanced(tasks, Draws(seed)), minlength=32)[tasks == 5] for seed in range(400))
    p = 16 / 30
    assert ((times / 400 - p).abs() < 5 * (p * (1 - p) / 400) ** 0.5).all()


def test_factors_and_no_tasks() -> None:
    tasks = tasks_of(90, 10)
    assert torch.bincount(tasks[balanced(tasks, Draws(0), most=1.0, least=1.0)])[5:].tolist() == [90, 10]
    assert len(balanced(tasks[:0], Draws(0))) == 0
    for most, least in ((0.5, 0.3), (3.0, 0.0), (3.0, 1.5)):
        with pytest.raises(UsageError, match="around 1"):
            balanced(tasks, Draws(0), most=most, least=least)
