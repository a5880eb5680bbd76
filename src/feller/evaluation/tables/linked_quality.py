"""Quality of synthetic linked tables: numbers of children per parent, dependence of children on parents and siblings.

Each distance is between one half of the real persons and as many synthetic persons, and its floor between the two
halves of the real persons: the mean over both halves. It is a mean over the child tables.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.linked_tables import LinkedTables
from feller.evaluation.tables.history_quality import MIN_PAIRS, compared_persons, persons_quality
from feller.evaluation.tables.marginal_distance import total_variations
from feller.evaluation.tables.table_quality import Numbers

DISTANCES = ("children_ks", "parent_child_tv", "sibling_tv", "row_tv2")


@dataclass(frozen=True, eq=False)
class ChildLevels:
    """Levels of the rows of a child table, and of the rows to which they belong."""

    rows: Int64[Tensor, "m k"]
    parents: Int64[Tensor, "m p"]
    """Levels of the parent of each row."""
    parent: Int64[Tensor, " m"]
    """Index of the parent of each row."""
    num_parents: int

    @property
    def counts(self) -> Int64[Tensor, " parents"]:
        """Number of rows of each parent."""
        return self.parent.bincount(minlength=self.num_parents)

    @property
    def siblings(self) -> Int64[Tensor, "pairs two_k"]:
        """Each row together with the next row of the same parent."""
        follows = self.parent[1:] == self.parent[:-1]
        return torch.cat([self.rows[:-1][follows], self.rows[1:][follows]], 1)


def child_levels(modality: LinkedTables, values: Int64[Tensor, "n codes"]) -> list[ChildLevels]:
    """Return the levels of the rows of each child table, siblings after each other."""
    tree, levels = modality.tree(values), modality.levels(values)
    found = []
    for i, above in enumerate(modality.links.parents, 1):
        parent = torch.from_numpy(tree.parents[i])
        found.append(ChildLevels(levels[i], levels[above][parent], parent, len(tree.rows[above])))
    return found


def linked_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> Numbers:
    """Compute metrics of synthetic linked tables against training and held-out persons."""
    if (modality := train.modality.view(LinkedTables)) is None:
        raise InputError("several tables linked by keys", train.modality.display_name)
    numbers = persons_quality(modality, samples, train, held_out)
    groups = compared_persons(samples, train, rng)
    if not groups:
        return numbers
    halves = [child_levels(modality, values) for values in groups]
    by_table = np.stack([_distances([half[i] for half in halves]) for i in range(len(halves[0]))])
    for j, name in enumerate(DISTANCES):
        known = by_table[np.isfinite(by_table[:, j]).all(1), j]
        numbers[name], numbers[f"{name}_floor"] = map(float, known.mean(0)) if len(known) else (None, None)
    worst = int(np.argmax(by_table[:, 0, 0]))
    numbers["children_ks_worst"] = modality.links.children[worst].name
    return numbers


def _distances(halves: list[ChildLevels]) -> Float64[np.ndarray, "distances 2"]:
    """Return each distance of synthetic from real rows, and of the two halves of the real rows."""
    pairs = [(0, 1), (2, 1), (0, 2), (1, 2)]
    k, p = halves[0].rows.shape[1], halves[0].parents.shape[1]
    counts = [half.counts for half in halves]
    tables = {
        "parent_child_tv": (
            [torch.cat([half.parents, half.rows], 1) for half in halves],
            [(a, p + b) for a in range(p) for b in range(k)],
        ),
        "sibling_tv": ([half.siblings for half in halves], [(j, k + j) for j in range(k)]),
        "row_tv2": ([half.rows for half in halves], [(a, b) for b in range(k) for a in range(b)]),
    }
    found = np.full((len(DISTANCES), 4), np.nan)
    found[0] = [_kolmogorov(counts[a], counts[b]) for a, b in pairs]
    for row, name in enumerate(DISTANCES[1:], 1):
        rows, sets = tables[name]
        if sets and min(map(len, rows)) >= MIN_PAIRS:
            found[row] = total_variations(rows, pairs, sorted(sets)).mean(1)
    return np.stack([found[:, [0, 2]].mean(1), found[:, [1, 3]].mean(1)], 1)


def _kolmogorov(one: Int64[Tensor, " n"], other: Int64[Tensor, " m"]) -> float:
    """Return the Kolmogorov distance between two samples of numbers from 0."""
    width = int(max(one.max(), other.max())) + 1
    first, second = (x.bincount(minlength=width).double().cumsum(0) / len(x) for x in (one, other))
    return float((first - second).abs().max())
