"""Application of edits to sequences."""

import torch

from feller.paths.edits.apply_edits import Edits, apply_edits
from feller.spaces.sequences import Sequences

SPACE = Sequences(5, 6)  # padding is 5, the mask 6


def edited(
    x: list[int], counts: list[int], inserted: list[int], deleted: list[int], substituted: dict[int, int], masks: bool
) -> list[int]:
    places = torch.arange(7)[None]
    edits = Edits(
        torch.tensor([[*counts, *[0] * (7 - len(counts))]]),
        torch.tensor(inserted, dtype=torch.long),
        torch.isin(places, torch.tensor(deleted, dtype=torch.long)),
        torch.isin(places, torch.tensor(sorted(substituted), dtype=torch.long)),
        torch.tensor([substituted[place] for place in sorted(substituted)], dtype=torch.long),
    )
    row = torch.tensor([[*x, *[5] * (6 - len(x))]])
    return apply_edits(row, edits, SPACE, inserts_masks=masks)[0].tolist()


def test_insertions_go_into_their_gaps() -> None:
    assert edited([1, 2], [1, 0, 1], [3, 4], [], {}, False) == [3, 1, 2, 4, 5, 5]
    assert edited([], [1], [0], [], {}, False) == [0, 5, 5, 5, 5, 5]


def test_deletions_and_substitutions_with_insertions_beside_them() -> None:
    assert edited([1, 2, 3], [0, 1, 0, 0], [4], [1], {3: 0}, False) == [4, 2, 0, 5, 5, 5]


def test_any_number_of_masks() -> None:
    assert edited([1, 2], [2, 1, 0], [0, 0], [], {}, True) == [6, 6, 1, 6, 2, 5]


def test_insertions_beyond_the_maximum_length_are_left_out() -> None:
    assert edited([1, 2, 3, 4], [2, 0, 0, 0, 3], [0, 0], [], {}, True) == [6, 6, 1, 2, 3, 4]
    assert edited([1, 2, 3, 4, 0, 1], [1, 0, 0, 1], [2, 2], [], {}, False) == [1, 2, 3, 4, 0, 1]
