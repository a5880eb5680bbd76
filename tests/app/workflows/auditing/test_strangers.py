"""Rows that are made up to be planted: every cell that may be, none that may not, and nothing of real rows."""

import numpy as np
import pytest
import torch

from feller.app.workflows.auditing.canary_audit import make_canaries
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.batches import split
from feller.data.loading.dataset_reader import read
from feller.data.tables.constraints import violations
from tests.errors import refuses

SCHEMA = """{"columns": {
"job": {"kind": "categorical", "values": ["none", "clerk", "smith"]},
"grade": {"kind": "categorical", "values": ["-", "low", "middle", "high"]}
}, "rules": [{"if": {"job": ["none"]}, "then": {"grade": ["-"]}}]}"""


def test_cells_are_drawn_evenly_and_rules_are_kept(tmp_path):
    """Shares of 3,000 rows within 5 standard deviations of a third; all real rows are alike."""
    (tmp_path / "rows.csv").write_text("job,grade\n" + "clerk,low\n" * 40)
    (tmp_path / "schema.json").write_text(SCHEMA)
    train, held_out = split(read(str(tmp_path / "rows.csv"), schema=str(tmp_path / "schema.json")))
    found = make_canaries(train, held_out, 3_000, Rng(0))
    shares = found.values[:, 0].bincount(minlength=3) / 3_000
    assert (shares - 1 / 3).abs().max() < 5 * 0.0086
    for pair in train.modality.schema.pairs:
        assert not violations(found.values.numpy(), pair).any()
    assert len(train.modality.schema.pairs) == 1
    assert len(found.values.unique(dim=0)) == 9


def test_levels_of_pictures_and_their_classes():
    train, held_out = split(read("example:digits"))
    found = make_canaries(train, held_out, 500, Rng(0))
    assert found.values.dtype == train.values.dtype
    assert found.values.shape[1:] == train.values.shape[1:]
    counts = found.values.flatten().long().bincount(minlength=17)
    assert len(counts) == 17  # levels 0 to 16
    assert (counts / counts.sum() - 1 / 17).abs().max() < 5 * (1 / 17 / counts.sum().item()) ** 0.5
    assert found.given["label"].unique().tolist() == list(range(10))


def test_numbers_lie_in_the_range_of_their_column(tmp_path):
    rows = np.stack([np.linspace(3, 5, 50), np.linspace(-100, 0, 50)], 1)
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b", comments="")
    train, held_out = split(read(str(tmp_path / "rows.csv")))
    found = make_canaries(train, held_out, 400, Rng(0)).values
    assert (found >= train.values.amin(0)).all()
    assert (found <= train.values.amax(0)).all()
    assert torch.corrcoef(found.T.double())[0, 1].abs() < 0.25
    assert found.std(0)[0] == pytest.approx(2 / 12**0.5, rel=0.1)


def test_other_kinds_are_taken_from_what_is_held_out():
    train, held_out = split(read("example:molecules"), 0.1)
    found = make_canaries(train, held_out, 20, Rng(0))
    assert len(found) == 20
    with refuses(UsageError):
        make_canaries(train, held_out, len(held_out) + 1, Rng(0))
