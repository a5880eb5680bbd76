"""Ranges of examples per process."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from feller.core.distributed import SINGLE, local_range


@dataclass(frozen=True)
class One:
    """One of several, as the engine shares rows."""

    rank: int
    ranks: int

    def local_slice(self, size: int) -> slice:
        return slice(size * self.rank // self.ranks, size * (self.rank + 1) // self.ranks)

    def gather(self, part: object) -> list[object]:
        raise AssertionError


@given(n=st.integers(0, 5000), size=st.integers(1, 700), ranks=st.integers(1, 9))
def test_local_ranges_of_all_ranks_are_the_batches_of_one_process(n: int, size: int, ranks: int) -> None:
    def batches(rows: slice) -> list[tuple[int, int]]:
        return [(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)]

    shared = [batch for rank in range(ranks) for batch in batches(local_range(One(rank, ranks), n, size))]
    assert shared == batches(local_range(SINGLE, n, size)) == batches(slice(0, n))
