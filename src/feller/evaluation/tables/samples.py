"""How good rows are that a model of a table made."""

import torch

from feller.core.errors import InputError
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.tables.dates import Datetime
from feller.data.tables.modality import Table
from feller.data.tables.numerical import Numerical
from feller.evaluation.tables.quality import Numbers, table_quality
from feller.evaluation.tables.references import code_length_of_unrelated
from feller.evaluation.tables.shape import Rules


def samples_quality(samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws) -> Numbers:
    """Compare rows with those they were learned from and with held-out ones, column by column and together.

    What they are worth is measured by how well the target of the schema is told from the other columns.

    Raises:
        InputError: If the data are no table.
    """
    kind = train.modality
    if not isinstance(kind, Table):
        raise InputError(f"expected a table, got {kind.called}")
    columns = kind.schema.modelled
    made, learned, unseen = (kind.coarse(data.values) for data in (samples, train, held_out))
    numbers = table_quality(
        made,
        learned,
        unseen,
        [len(column.coarse_names) for column in columns],
        ordered=[isinstance(column, Numerical | Datetime) for column in columns],
        target=kind.schema.aim if len(columns) > 1 else None,
        names=[column.name for column in columns],
        rules=rules_of(kind),
        draws=draws,
    )
    if not len(held_out):
        return {**numbers, "nll_baseline": None}
    alone = code_length_of_unrelated(train.values, held_out.values, kind.coarse, kind.counts)
    return {**numbers, "nll_baseline": alone}


def rules_of(kind: Table) -> Rules | None:
    """Return what tells which rows keep the rules of a schema; None where there are none."""
    pairs = [(pair.first, pair.second, torch.from_numpy(pair.allowed)) for pair in kind.schema.pairs]
    if not pairs:
        return None
    return lambda codes: torch.stack([allowed[codes[:, a], codes[:, b]] for a, b, allowed in pairs]).all(0)
