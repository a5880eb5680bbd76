"""Pictures of rows have their numbers under them."""

import torch

from feller.data.examples.loaders import EXAMPLES
from feller.evaluation.report.leakage_plots import plot_exposed_rows, plot_reconstructions


def test_the_most_exposed_rows_stand_above_the_least_exposed():
    digits = EXAMPLES["digits"].load("train")
    rows, least = torch.tensor([5, 17, 40, 41]), torch.tensor([3.0, 1.0, 2.0, 9.0])
    found = plot_exposed_rows(digits, rows, least)
    order = digits.values[rows[[1, 2, 0, 3]]]
    lines = [(order[:2], ["1", "2"]), (order[2:], ["3", "9"])]
    expected = plot_reconstructions(digits.modality, lines)
    assert found.tobytes() == expected.tobytes()
    assert plot_exposed_rows(EXAMPLES["moons"].load("train"), rows, least) is None
    assert plot_exposed_rows(digits, rows[:1], least[:1]) is None
