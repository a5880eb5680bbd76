"""The word before all else follows from a rule, for every kind of data."""

import pytest

from feller.report import verdict
from feller.report.word import word


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (
            {"accuracy": 0.1, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 1.6},
            "Reads like guessing",
        ),
        ({"accuracy": 0.6, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 1.0}, "Fair"),
        ({"accuracy": 0.95, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 1.3}, "Fair"),
        ({"accuracy": 0.95, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 0.2}, "Poor"),
        ({"accuracy": 0.95, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 1.0}, "Good"),
        ({"accuracy": None, "fd_cnn": 66.2, "fd_cnn_floor": 1.25}, "Poor"),
        ({"sliced_w": 0.105, "sliced_w_floor": 0.1}, "Good"),
        ({"energy_geodesic": 0.04, "energy_geodesic_floor": 0.03, "nll": -3.0, "nll_baseline": -2.3}, "Fair"),
        ({"energy_geodesic": 0.03, "energy_geodesic_floor": 0.03, "nll": 0.97, "nll_baseline": -2.3}, "Poor"),
        ({"trigram_distance": 0.858, "trigram_floor": 0.6815}, "Fair"),
        ({"crystal_valid": 0.756, "crystal_valid_floor": 0.989}, "Fair"),
        ({"atom_stability": 0.1777, "atom_stability_floor": 0.99}, "Poor"),
        ({"bonds_sane": 0.9, "bonds_sane_floor": 0.93}, "Good"),
        ({"ramachandran_favoured": 0.4, "ramachandran_floor": 0.98}, "Poor"),
        ({"tv2": 0.0534, "tv2_floor": 0.0346, "tv2_independent": 0.0894}, "Usable"),
        ({"tv2": 0.0608, "tv2_floor": 0.0481, "tv2_independent": 0.2162}, "Good"),
        ({"tv2": 0.4315, "tv2_floor": 0.3407, "tv2_independent": 0.4222}, "Poor"),
        ({"tv2": 0.06, "tv2_floor": 0.05, "tv2_independent": 0.05}, "Usable"),
        ({"distance_ratio": 1.0}, ""),
        ({"sliced_w": 0.1, "sliced_w_floor": None}, ""),
        ({}, ""),
    ],
)
def test_one_word(numbers: dict[str, float | None], said: str) -> None:
    assert word(numbers) == said


def test_a_sketch_is_called_one_whatever_its_numbers_are() -> None:
    numbers = {"sliced_w": 0.1, "sliced_w_floor": 0.1}
    assert verdict(numbers).startswith("Good: The samples")
    assert verdict(numbers, "After 16 steps this is a first sketch").startswith("Not yet trained: The samples")


def test_a_likelihood_below_that_of_a_simple_model_is_said() -> None:
    numbers = {"energy_geodesic": 0.03, "energy_geodesic_floor": 0.03, "nll": 0.97, "nll_baseline": -2.31}
    assert "A simple model without a network knows unseen data better: " in verdict(numbers)
    assert "0.970, \u22122.31 nats" in verdict(numbers)
    assert "simple model" not in verdict({**numbers, "nll": -2.4})
