"""The word before all else follows from a rule, for every kind of data."""

from dataclasses import replace

import pytest

from feller.evaluation.report.page import Findings, page, record
from feller.evaluation.report.verdict import verdict
from feller.evaluation.report.verdict_thresholds import word
from tests.evaluation.report.reader import read


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
        ({"crystal_plausible": 0.04, "crystal_plausible_floor": 0.99, "crystal_valid": 0.7}, "Poor"),
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


@pytest.mark.parametrize(
    "numbers",
    [
        {"accuracy": 0.5, "accuracy_constant": 0.4},
        {"reconstruction_mse": 0.1, "reconstruction_mse_shrunk": 0.2},
        {"reward": 1.0, "reward_before": 0.5, "solves": 3},
        {"sliced_w": 0.1, "sliced_w_floor": 0.1},
    ],
)
def test_a_sketch_of_any_kind_is_called_one(numbers: dict[str, float]) -> None:
    assert verdict(numbers, "After 2 steps this is a first sketch").startswith("Not yet trained: ")
    assert not verdict(numbers).startswith("Not yet")


def test_a_sketch_with_a_sentence_of_its_own_is_called_one() -> None:
    """Of documents and of speech."""
    said = "At each place of other pictures it hesitates between 3 of 167 codes."
    found = Findings(title="d", said=said, sketch="After 2 steps this is a first sketch")
    assert record(found)["verdict"] == f"Not yet trained: {said}"
    assert record(replace(found, sketch=""))["verdict"] == said


def test_of_a_long_first_sentence_the_numbers_stand_beneath() -> None:
    numbers = {"tv2": 0.0534, "tv2_floor": 0.0346, "tv2_independent": 0.0894, "tv2_test": 0.06, "tv2_test_floor": 0.04}
    root = read(page(Findings(title="t", numbers=numbers)))
    line, further = root.of("verdict")[0].text, root.of("further")[0].text
    assert line.startswith("Usable: The samples are 1.54 times as far from real data as real data are from each other:")
    assert further.startswith("rows off in two columns")


def test_a_likelihood_below_that_of_a_simple_model_is_said() -> None:
    numbers = {"energy_geodesic": 0.03, "energy_geodesic_floor": 0.03, "nll": 0.97, "nll_baseline": -2.31}
    assert "A simple model without a network knows unseen data better: " in verdict(numbers)
    assert "0.970, \u22122.31 nats" in verdict(numbers)
    assert "simple model" not in verdict({**numbers, "nll": -2.4})
