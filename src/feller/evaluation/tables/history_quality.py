"""Quality of synthetic histories: numbers of rows, rows, the step from one row to the next, and copies of persons.

Each distance is between one half of the real persons and as many synthetic persons, and its floor between the two
halves of the real persons: the mean over both halves.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.data.tables.modality import Table
from feller.evaluation.tables.copy_metrics import shuffle_columns
from feller.evaluation.tables.marginal_distance import column_sets, total_variations
from feller.evaluation.tables.table_quality import MIN_HELD_OUT, Numbers

LAGS = (1, 2, 3)
"""Numbers of rows between the two rows whose correlation is compared."""
MIN_PAIRS = 30
"""Minimum number of pairs of rows for a correlation."""


@dataclass(frozen=True, eq=False)
class LevelsOfHistories:
    """Levels (values or bins) of persons and their rows."""

    attributes: Int64[Tensor, "n a"]
    """Attributes of each person; the first is the number of rows."""
    rows: Int64[Tensor, "m k"]
    """Rows of all persons, one person after the other."""
    person: Int64[Tensor, " m"]
    step: Int64[Tensor, " m"]

    def pairs(self, lag: int) -> Int64[Tensor, "p 2 k"]:
        """Return each row together with the row `lag` rows later of the same person."""
        index = torch.arange(max(0, len(self.rows) - lag))
        index = index[self.person[index] == self.person[index + lag]]
        return torch.stack([self.rows[index], self.rows[index + lag]], 1)

    def joined(self, sizes: tuple[int, ...]) -> Int64[Tensor, "m columns"]:
        """Return each row with the attributes of its person and with the row before; `sizes` marks the first rows."""
        before = self.rows.roll(1, 0)
        first = self.step == 0
        before[first] = torch.tensor(sizes)
        return torch.cat([self.attributes[self.person], self.rows, before], 1)


def levels_of(modality: Histories, values: Int64[Tensor, "n codes"]) -> LevelsOfHistories:
    """Return the levels of persons and of their rows."""
    attributes, lengths = modality.split(values)[0], modality.lengths(values)
    person = torch.arange(len(values)).repeat_interleave(lengths)
    step = torch.arange(len(person)) - (lengths.cumsum(0) - lengths)[person]
    rows = modality.rows.to_levels(modality.valid_rows(values))
    if modality.history.order is not None:  # there is no difference from the row before the first one
        rows[step == 0, _names(modality.rows).index(modality.history.order)] = 0
    return LevelsOfHistories(modality.persons.to_levels(attributes), rows, person, step)


def lag_correlations(levels: LevelsOfHistories, ordered: list[int], lag: int) -> Float64[np.ndarray, " k"]:
    """Return the correlation of each ordered column with itself `lag` rows later; NaN with few pairs."""
    pairs = levels.pairs(lag)[..., ordered].double().numpy()
    if len(pairs) < MIN_PAIRS:
        return np.full(len(ordered), np.nan)
    first, second = pairs[:, 0] - pairs[:, 0].mean(0), pairs[:, 1] - pairs[:, 1].mean(0)
    scale = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return np.divide((first * second).sum(0), scale, out=np.full(len(ordered), np.nan), where=scale > 0)


def histories_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> Numbers:
    """Compute metrics of synthetic histories against training and held-out histories."""
    if (modality := train.modality.view(Histories)) is None:
        raise InputError("a table with several rows per person", train.modality.display_name)
    numbers = persons_quality(modality, samples, train, held_out)
    groups = compared_persons(samples, train, rng)
    if not groups:
        return numbers
    halves = [levels_of(modality, values) for values in groups]
    for name, distance in _distances(modality, rng).items():
        values = [(distance(halves[0], halves[i]), distance(halves[j], halves[i])) for i, j in ((1, 2), (2, 1))]
        numbers[name], numbers[f"{name}_floor"] = (_mean(column) for column in zip(*values, strict=True))
    numbers |= _marginals(modality, halves, rng.fold_in("marginals"))
    return numbers


def _mean(values: tuple[float, ...]) -> float | None:
    return None if any(np.isnan(values)) else float(np.mean(values))


def persons_quality(modality: Histories, samples: Dataset, train: Dataset, held_out: Dataset) -> Numbers:
    """Compute the mean numbers of rows per person, and the fractions of copied persons."""
    enough = len(held_out) >= MIN_HELD_OUT
    return {
        "valid": 1.0,
        "num_rows_mean": _mean_rows(modality, samples.values),
        "num_rows_mean_real": _mean_rows(modality, train.values),
        "persons_copied": _copied(modality, samples.values, train.values),
        "persons_copied_held_out": _copied(modality, held_out.values, train.values) if enough else None,
    }


def compared_persons(samples: Dataset, train: Dataset, rng: Rng) -> list[Tensor]:
    """Return as many synthetic persons as there are in either half of the real persons, and the two halves.

    The persons are in random order; the list is empty if there are fewer than two.
    """
    real, made = _shuffled(train.values, rng.fold_in("real")), _shuffled(samples.values, rng.fold_in("synthetic"))
    size = min(len(real) // 2, len(made))
    return [] if size < 2 else [made[:size], real[:size], real[len(real) // 2 :][:size]]


def _shuffled(values: Tensor, rng: Rng) -> Tensor:
    return values[torch.randperm(len(values), generator=rng.stream("order").shared_generator())]


def _mean_rows(modality: Histories, values: Tensor) -> float:
    return modality.lengths(values).double().mean().item()


def _copied(modality: Histories, values: Tensor, train: Tensor) -> float:
    """Return the fraction of persons with at least two rows all of whose values and bins are those of a real person."""
    rows = [row.tobytes() for row in values[modality.lengths(values) > 1].numpy()]
    known = {row.tobytes() for row in train.numpy()}
    return sum(row in known for row in rows) / max(1, len(rows))


def _distances(modality: Histories, rng: Rng) -> dict[str, Callable[[LevelsOfHistories, LevelsOfHistories], float]]:
    """Return the distances between histories, by name of the metric."""
    columns = modality.rows.schema.modelled
    ordered = [j for j, column in enumerate(columns) if column.is_ordered]

    def num_rows(one: LevelsOfHistories, other: LevelsOfHistories) -> float:
        counts = [item.attributes[:, 0].bincount(minlength=len(columns)).numpy() for item in (one, other)]
        width = max(map(len, counts))
        first, second = (np.pad(count, (0, width - len(count))).cumsum() / count.sum() for count in counts)
        return float(np.abs(first - second).max())

    def transitions(one: LevelsOfHistories, other: LevelsOfHistories) -> float:
        pairs = [item.pairs(1).flatten(1) for item in (one, other)]
        if min(map(len, pairs)) < MIN_PAIRS:
            return float("nan")
        sets = [(j, j + len(columns)) for j in range(len(columns))]
        return float(total_variations(pairs, [(0, 1)], sets).mean())

    def correlation(lag: int) -> Callable[[LevelsOfHistories, LevelsOfHistories], float]:
        def distance(one: LevelsOfHistories, other: LevelsOfHistories) -> float:
            difference = np.abs(lag_correlations(one, ordered, lag) - lag_correlations(other, ordered, lag))
            return float(np.nanmean(difference)) if np.isfinite(difference).any() else float("nan")

        return distance

    lags = {f"lag{lag}_difference": correlation(lag) for lag in LAGS} if ordered else {}
    return {"num_rows_ks": num_rows, "transition_tv": transitions, **lags}


def _marginals(modality: Histories, halves: list[LevelsOfHistories], rng: Rng) -> Numbers:
    """Return total variations of single columns and of pairs, over attributes, rows and the rows before."""
    sizes = tuple(len(column.level_names) for column in modality.rows.schema.modelled)
    tables = [levels.joined(sizes) for levels in halves]
    count = min(map(len, tables))
    numbers: Numbers = {}
    if count < MIN_HELD_OUT:
        return numbers
    for k in (1, 2):
        sets = column_sets(tables[0].shape[1], k, rng)
        results = []
        for i, j in ((1, 2), (2, 1)):
            compared = [tables[0], tables[j], tables[i], shuffle_columns(tables[i], rng)]
            results.append(total_variations(compared, [(0, 2), (1, 2), (3, 2)], sets))
        for suffix, *tvs in zip(("", "_floor", "_independent"), *results, strict=True):
            numbers[f"tv{k}_half{suffix}"] = sum(tv.mean().item() for tv in tvs) / len(tvs)
        tv = np.mean([result[0] for result in results], 0)
        names = [*_names(modality.persons), *_names(modality.rows)]
        names = [*names, *(f"{name} before" for name in _names(modality.rows))]
        numbers[f"tv{k}_max"], numbers[f"tv{k}_worst"] = (
            tv.max().item(),
            " × ".join(names[c] for c in sets[tv.argmax()]),
        )
    return numbers


def _names(table: Table) -> list[str]:
    return [column.name for column in table.schema.modelled]
