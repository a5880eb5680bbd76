"""The account of watched rows, as it is read again."""

import pathlib

import pytest
import torch

from feller.app.workflows.private.leakage_report import read_leakage
from feller.core.errors import InputError
from feller.core.run_folder import Run
from feller.core.safetensors_io import save_tensors

ROWS, TRACES = torch.arange(3), torch.ones(3, dtype=torch.float64)
NOTE = {"coordinates": "4", "steps": "5"}


def test_what_was_written_is_read(tmp_path: pathlib.Path) -> None:
    save_tensors(Run(tmp_path).leakage, {"rows": ROWS, "traces": TRACES}, NOTE)
    found = read_leakage(Run(tmp_path))
    assert found is not None
    assert torch.equal(found.leakage.eta2, TRACES / 4)


@pytest.mark.parametrize(
    ("tensors", "note"),
    [
        ({"rows": ROWS}, NOTE),
        ({"rows": ROWS.double(), "traces": TRACES}, NOTE),
        ({"rows": ROWS[:2], "traces": TRACES}, NOTE),
        ({"rows": ROWS - 1, "traces": TRACES}, NOTE),
        ({"rows": ROWS[:0], "traces": TRACES[:0]}, NOTE),
        ({"rows": ROWS, "traces": -TRACES}, NOTE),
        ({"rows": ROWS, "traces": TRACES * torch.nan}, NOTE),
        ({"rows": ROWS, "traces": TRACES}, {"coordinates": "0", "steps": "5"}),
        ({"rows": ROWS, "traces": TRACES}, {"coordinates": "4", "steps": "many"}),
    ],
)
def test_a_damaged_account_is_refused(tmp_path: pathlib.Path, tensors: dict, note: dict) -> None:
    save_tensors(Run(tmp_path).leakage, tensors, note)
    with pytest.raises(InputError, match="is damaged"):
        read_leakage(Run(tmp_path))
