"""An attack that reads rows better than is possible is an alarm; pictures of rows have their numbers under them."""

import torch

from feller.app.workflows.auditing.audit_page import said
from feller.data.examples.loaders import EXAMPLES
from feller.evaluation.report.leakage_plots import exposed_picture, reconstructions_picture
from feller.privacy.accounting.dp_events import Subsampled
from feller.privacy.accounting.ledger import Ledger

LEDGER = Ledger((Subsampled("training", 1.0, 0.1, 10),), 1e-5, 100)


def test_reading_rows_below_a_bound_is_an_alarm() -> None:
    assert said(LEDGER, {"epsilon": 3.0, "inversion_below": 1.0}).startswith("ALARM: rows are read from private")
    assert "ALARM" not in said(LEDGER, {"epsilon": 3.0, "inversion_below": 0.0})
    assert "ALARM" not in said(LEDGER, {"epsilon": 3.0})


def test_the_most_exposed_rows_stand_above_the_least_exposed() -> None:
    digits = EXAMPLES["digits"].load("train")
    rows, least = torch.tensor([5, 17, 40, 41]), torch.tensor([3.0, 1.0, 2.0, 9.0])
    found = exposed_picture(digits, rows, least)
    assert found is not None
    order = digits.values[rows[[1, 2, 0, 3]]]
    lines = [(order[:2], ["1", "2"]), (order[2:], ["3", "9"])]
    expected = reconstructions_picture(digits.modality, lines)
    assert found.tobytes() == expected.tobytes()
    assert exposed_picture(EXAMPLES["moons"].load("train"), rows, least) is None
    assert exposed_picture(digits, rows[:1], least[:1]) is None
