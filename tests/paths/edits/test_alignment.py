"""Alignments: both sequences are recovered, and the shortest one has as many edits as the Levenshtein distance."""

import pytest
import torch

from feller.paths.edits.alignment import Alignment, LeftAlignment, ShortestAlignment
from feller.spaces.sequences import compact
from tests.paths.edits.exact import padded, unpadded


def levenshtein(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    row = list(range(len(b) + 1))
    for i, token in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (token != other))
    return row[-1]


def random_sequences(n: int, seed: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 8, (n,), generator=generator)
    return [tuple(torch.randint(3, (int(length),), generator=generator).tolist()) for length in lengths]


@pytest.mark.parametrize("alignment", [LeftAlignment(), ShortestAlignment()])
def test_alignments_keep_both_sequences(alignment: Alignment) -> None:
    x_0, x_1 = (padded(random_sequences(200, seed), 7, 3) for seed in (0, 1))
    z_0, z_1 = alignment(x_0, x_1, 3)
    assert z_0.shape == z_1.shape
    for z, x in ((z_0, x_0), (z_1, x_1)):
        assert torch.equal(torch.nn.functional.pad(compact(z, 3), (0, 14), value=3)[:, :7], x)


def test_the_shortest_alignment_has_the_fewest_edits() -> None:
    first, second = (random_sequences(200, seed) for seed in (2, 3))
    z_0, z_1 = ShortestAlignment()(padded(first, 7, 3), padded(second, 7, 3), 3)
    edits = (z_0 != z_1).sum(1).tolist()
    assert edits == [levenshtein(a, b) for a, b in zip(first, second, strict=True)]
    assert unpadded(z_0[0], 3) == first[0]
