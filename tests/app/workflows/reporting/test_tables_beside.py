"""Pictures of a table say what its numbers say: all are beside the rows that were learned from."""

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.modalities import tables
from feller.app.workflows.reporting.comparison import SampleComparison
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from feller.evaluation.tables.table_quality import samples_quality

KIND = Table(Schema(tuple(Categorical(name, ("x", "y", "z")) for name in ("a", "b", "c"))))


def rows(seed, n, most):
    """Return rows of three columns, of which the last knows fewer words."""
    codes = (torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([3.0, 3.0, most])).long()
    return Dataset(codes, {}, KIND)


def test_pictures_are_beside_the_rows_of_the_text(monkeypatch):
    made, train, held_out = rows(0, 500, 3), rows(1, 500, 2), rows(2, 60, 1)
    judged = SampleComparison(generated=made, train=train, held_out=held_out, samples=None, data=None)
    numbers = samples_quality(made, train, held_out, Rng(0))
    seen: dict[str, np.ndarray] = {}

    def pairs(errors, names):
        seen["errors"] = errors
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(tables, "pairs_map", pairs)
    captions = [caption for caption, _ in tables.table_figures(judged, dict(numbers))]
    errors = seen["errors"]
    worst = max((errors[i, j], i, j) for i in range(3) for j in range(i))
    assert worst[0] == pytest.approx(numbers["tv2_max"])
    assert np.diag(errors).mean() == pytest.approx(numbers["tv1"])
    assert np.diag(errors).max() == pytest.approx(numbers["tv1_max"])
    floors = [f"{100 * float(numbers[name] or 0):.1f}" for name in ("tv1_floor", "tv2_floor")]
    told = [caption.replace("\u202f", " ") for caption in captions[:2]]
    assert told[0].startswith("Columns, compared with the 500 training rows")
    assert f"{floors[0]} %" in told[0]
    assert told[1].startswith("Total variation of each pair of columns, compared with the 500 training rows")
    assert f"{floors[1]} %" in told[1]
