"""Grades, deciding metrics and cautions of a report."""

import pytest

from feller.evaluation.report.grades import BROKEN, CHANCE, COPIES, FAIR, GOOD, POOR, UNDERTRAINED, USABLE
from feller.evaluation.report.table_verdict import levels
from feller.evaluation.report.verdict import Verdict, judge_numbers, metric_verdict

NAN = float("nan")
JUDGED = {"accuracy": 0.95, "judge_accuracy": 0.97, "accuracy_guess": 0.1, "distance_ratio": 1.0}
TABLE = {"tv1": 0.01, "tv2": 0.055, "tv2_floor": 0.05, "tv2_independent": 0.2}
SHOP = {"children_ks": 0.042, "children_ks_floor": 0.04, "row_tv2": 0.1, "row_tv2_floor": 0.1}
SPARSE = {"tv2": 0.195, "tv2_floor": 0.119, "tv2_independent": 0.169}


@pytest.mark.parametrize(
    ("numbers", "grade"),
    [
        ({**JUDGED, "accuracy": 0.1, "distance_ratio": 1.6}, CHANCE),
        ({**JUDGED, "accuracy": 0.6}, FAIR),
        ({**JUDGED, "distance_ratio": 1.3}, FAIR),
        ({**JUDGED, "distance_ratio": 0.2}, POOR),
        ({**JUDGED, "distance_ratio": 4.6}, POOR),
        (JUDGED, GOOD),
        ({"accuracy": 0.5, "judge_accuracy": None, "distance_ratio": 0.905}, ""),
        ({"accuracy": None, "fd_cnn": 66.2, "fd_cnn_floor": 1.25}, POOR),
        ({"fd_cnn": 1.9, "fd_cnn_floor": 1.2}, POOR),
        ({"sliced_w": 0.105, "sliced_w_floor": 0.1}, GOOD),
        ({"sliced_w": NAN, "energy": 0.01, "energy_floor": -0.001}, ""),
        ({"energy_geodesic": 0.04, "energy_geodesic_floor": 0.03, "nll": -3.0, "nll_baseline": -2.3}, FAIR),
        ({"energy_geodesic": 0.03, "energy_geodesic_floor": 0.03, "nll": 0.97, "nll_baseline": -2.3}, POOR),
        ({"energy_geodesic": 0.0206, "energy_geodesic_floor": 0.0104, "chance_factor": 1.9}, FAIR),
        ({"energy_geodesic": 0.0206, "energy_geodesic_floor": 0.0104, "chance_factor": 1.2}, POOR),
        ({"trigram_distance": 0.858, "trigram_floor": 0.6815}, FAIR),
        ({"crystal_valid": 0.756, "crystal_valid_floor": 0.989}, FAIR),
        ({"crystal_plausible": 0.04, "crystal_plausible_floor": 0.99, "crystal_valid": 0.7}, POOR),
        ({"atom_stability": 0.1777, "atom_stability_floor": 0.99}, POOR),
        ({"bonds_sane": 0.9, "bonds_sane_floor": 0.93}, GOOD),
        ({"ramachandran_favoured": 0.4, "ramachandran_floor": 0.98}, POOR),
        ({"tv2": 0.0534, "tv2_floor": 0.0346, "tv2_independent": 0.0894}, USABLE),
        ({"tv2": 0.0608, "tv2_floor": 0.0481, "tv2_independent": 0.2162}, GOOD),
        ({"tv2": 0.4315, "tv2_floor": 0.3407, "tv2_independent": 0.4222}, POOR),
        ({"tv2": 0.06, "tv2_floor": 0.05, "tv2_independent": 0.05}, USABLE),
        ({"tv2": 0.1, "tv2_floor": 0.05}, POOR),
        (SPARSE, POOR),
        ({**SPARSE, "tv2": 0.155}, POOR),
        ({**SPARSE, "tv2": 0.14}, USABLE),
        ({**SPARSE, "tv2": 0.12}, GOOD),
        ({"tv2": 0.02, "tv2_floor": 0.02, "empty": 0.61, "empty_real": 0.02}, POOR),
        ({"tv2": 0.02, "tv2_floor": 0.02, "empty": 0.05, "empty_real": 0.02}, GOOD),
        ({**TABLE, "impossible": 0.019, "impossible_real": 0.01}, GOOD),
        ({**TABLE, "impossible": 0.05, "impossible_real": 0.01}, USABLE),
        ({**TABLE, "impossible": 0.47, "impossible_real": 0.03}, BROKEN),
        ({**TABLE, "tv2": 0.2, "impossible": 0.47, "impossible_real": 0.03}, BROKEN),
        ({**TABLE, "impossible": 0.47, "impossible_real": 0.47}, GOOD),
        ({**TABLE, "impossible": 0.47, "impossible_real": None}, GOOD),
        ({**TABLE, "copies": 0.5, "copies_excess_low": 0.009}, GOOD),
        ({**TABLE, "copies": 0.5, "copies_excess_low": 0.03}, USABLE),
        (SHOP, GOOD),
        ({**SHOP, "row_tv2": 0.14}, USABLE),
        ({**SHOP, "children_ks": 0.1}, POOR),
        ({**TABLE, "transition_tv": 0.03, "transition_tv_floor": 0.015}, POOR),
        ({**SHOP, "num_rows_ks": 0.2, "num_rows_ks_floor": 0.0}, POOR),  # all real persons have as many rows
        ({**SHOP, "num_rows_ks": 0.004, "num_rows_ks_floor": 0.0}, GOOD),
        ({**SHOP, "persons_copied": 0.03, "persons_copied_held_out": 0.01}, USABLE),
        ({**SHOP, "persons_copied": 0.97, "persons_copied_held_out": None}, GOOD),
        ({"distance_ratio": 1.0}, ""),
        ({"sliced_w": 0.1, "sliced_w_floor": None}, ""),
        ({"nll": 3.2}, ""),
        ({"fd_cnn": NAN}, ""),
        ({}, ""),
        ({"objective": 4.0, "w2": 4.15, "w2_floor": 2.21}, POOR),
        ({"objective": 4.0, "w2": 3.0, "w2_floor": 2.21}, FAIR),
        ({"objective": 4.0, "w2": 2.3, "w2_floor": 2.21, "w2_24": 2.0, "w2_24_floor": 1.0}, POOR),
        ({"objective": 4.0, "w2": 2.3, "w2_floor": 2.21, "inside_paths": 0.06}, POOR),
        ({"objective": 4.0, "w2": 2.3, "w2_floor": 2.21, "last_w2": 9.0, "kept_round": 1.0}, GOOD),
        ({"objective": 4.0, "w2": 2.3, "w2_floor": None}, ""),
        ({"reward": -0.1, "reward_before": -0.4, "solves": 9.0, "validity": 0.0, "validity_before": 0.25}, POOR),
        ({"reward": -0.1, "reward_before": -0.4, "solves": 9.0, "validity": 0.9, "validity_before": 0.9}, ""),
        ({"accuracy": 0.5, "accuracy_constant": 0.4}, ""),
        ({"reconstruction_mse": 0.1, "reconstruction_mse_shrunk": 0.2}, ""),
    ],
)
def test_grades(numbers: dict[str, float | None], grade: str) -> None:
    assert judge_numbers(numbers).grade == grade
    assert judge_numbers(numbers, is_undertrained=True).grade == UNDERTRAINED


COPIED = {**TABLE, "copies": 0.97, "copies_held_out": 0.02, "copies_excess": 0.95, "copies_excess_low": 0.93}


def test_copies_come_first() -> None:
    """A table of copies is as close to real rows as can be; copies outweigh every other grade."""
    for more in ({}, {"impossible": 0.5, "impossible_real": 0.0}, {"tv2": 0.4}):
        for is_undertrained in (False, True):
            verdict = judge_numbers({**COPIED, **more}, is_undertrained=is_undertrained)
            assert verdict.grade == COPIES
            assert verdict.metrics[0] == "copies"
            assert len(verdict.cautions) == 1 + ("impossible" in more)
    assert judge_numbers({**COPIED, "copies_excess_low": 0.03}, is_undertrained=True).grade == UNDERTRAINED
    assert " 97.0" in judge_numbers(COPIED).text(COPIED)


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        ({"leak_score": 0.97, "leak_column": "event"}, 1),
        ({"leak_score": 0.9, "leak_column": "event", "auc_boosted_real": 0.998}, 1),
        ({"leak_score": 0.9, "leak_column": "event", "auc_boosted_real": 0.98}, 0),
        ({"leak_score": None, "leak_column": None}, 0),
    ],
)
def test_target_leakage(numbers: dict[str, float | str | None], count: int) -> None:
    cautions = judge_numbers({**TABLE, **numbers, "told_column": "recid"}).cautions
    assert len(cautions) == count
    assert all("event" in caution and "recid" in caution for caution in cautions)


def test_levels() -> None:
    assert levels({"energy": 0.1}, GOOD) == []
    found = levels(TABLE, USABLE)
    assert [level.grade for level in found if level.is_current] == [USABLE]
    assert {GOOD, USABLE, POOR, BROKEN, COPIES, UNDERTRAINED} == {level.grade for level in found}


@pytest.mark.parametrize(
    ("numbers", "metrics"),
    [
        ({**JUDGED, "fd_cnn": 1.0, "distance_ratio": 4.6}, ("accuracy", "fd_cnn", "distance_ratio")),
        ({**SPARSE, "tv2_test": 0.4}, ("tv2", "tv2_independent", "tv2_test")),
        ({**SPARSE, "empty": 0.61, "empty_real": 0.02}, ("empty", "tv2", "tv2_independent", "tv2_test")),
        ({"energy": 0.03, "energy_floor": 0.03, "nll": 0.97, "nll_baseline": -2.3}, ("energy", "nll")),
        ({"nll": 3.2}, ("nll",)),
        ({"objective": 4.0, "w2": 2.3, "w2_24": 2.0, "w2_24_floor": 1.0}, ("w2_24", "w2", "inside_paths", "objective")),
        ({"residual": 3.24, "residual_before": 8.1, "noise": 0.0}, ("residual", "noise")),
        ({"mae": 0.7, "mae_constant": 1.7, "r2": 0.5}, ("mae", "r2")),
        ({"mae_a": 0.7, "mae_constant_a": 1.7, "mae_b": 0.5, "mae_constant_b": 1.0}, ("mae_a", "mae_b")),
        ({"reward": 2.0, "reward_before": 1.0, **JUDGED}, ("bounded", "reward", "validity", "accuracy", "fd_cnn")),
        ({}, ()),
    ],
)
def test_metrics_of_the_verdict(numbers: dict[str, float | None], metrics: tuple[str, ...]) -> None:
    assert judge_numbers(numbers).metrics == metrics


@pytest.mark.parametrize(
    ("numbers", "count"),
    [
        ({"tv2": 0.02, "tv2_floor": 0.02, "clipped": 0.05, "clipped_max": 0.1, "clipped_worst": "wealth"}, 0),
        ({"tv2": 0.02, "tv2_floor": 0.02, "clipped": 0.03, "clipped_max": 0.28, "clipped_worst": "wealth"}, 1),
        ({"tv2": 0.02, "clipped": 0.3, "left_out": "a, b", "numbers_off": "income"}, 3),
        ({"energy": 0.0206, "energy_floor": 0.0104, "chance_factor": 1.9}, 1),
        ({"energy": 0.0206, "energy_floor": 0.0104, "chance_factor": 1.2}, 0),
        ({"objective": 4.0, "w2": 2.3, "last_w2": 9.0, "kept_round": 1.0}, 1),
        ({"tv2": 0.02, "n": 99}, 1),
        ({"tv2": 0.02, "n": 100}, 0),
        ({"reward": 1.0, "n": 4, "solves": 9.0}, 0),  # steered samples
        ({"reward": 1.0, "n": 4}, 1),
        ({**JUDGED, "judge_accuracy": 0.48}, 1),
        ({**JUDGED, "judge_accuracy": 0.48, "n": 30}, 2),
    ],
)
def test_cautions(numbers: dict[str, float | str], count: int) -> None:
    assert len(judge_numbers(numbers).cautions) == count


def test_doubts_stand_next_to_the_grade() -> None:
    numbers = {**JUDGED, "accuracy": 0.3, "judge_accuracy": 0.48, "n": 30}
    verdict = judge_numbers(numbers)
    assert len(verdict.doubts) == 2
    assert verdict.text(numbers).startswith(f"{verdict.grade} ({', '.join(verdict.doubts)}): class accuracy 30.0")
    assert all(number in doubt for number, doubt in zip(("48.0", "30"), verdict.doubts, strict=True))
    assert judge_numbers({**JUDGED, "n": 100}).doubts == ()
    assert judge_numbers({"energy": 0.0206, "energy_floor": 0.0104, "chance_factor": 1.9}).doubts == (
        "few examples, Good to Poor",
    )
    clipped = {"tv2": 0.02, "tv2_floor": 0.02, "clipped": 0.03, "clipped_max": 0.28, "clipped_worst": "wealth"}
    assert judge_numbers(clipped).doubts == ()


def test_text() -> None:
    text = judge_numbers({**JUDGED, "fd_cnn": 1.9}).text({**JUDGED, "fd_cnn": 1.9})
    assert text.startswith(f"{GOOD}: class accuracy 95.0")
    assert "(real data 97.0" in text
    assert "FD-cnn 1.90" in text
    assert judge_numbers({}).text({}) == "Not measured"
    assert Verdict(UNDERTRAINED).text({}) == UNDERTRAINED


STEERED = {"reward": -0.1, "reward_before": -0.4, "bounded_before": 0.1, "bounded": 0.3, "bounded_target": 0.4}
TUNED = {"reward": 1.5, "reward_before": 1.0, "reward_tilted": 2.0}


@pytest.mark.parametrize(
    ("name", "numbers", "verdict"),
    [
        ("accuracy", JUDGED, GOOD),
        ("fd_cnn", {"fd_cnn": 4.0, "fd_cnn_floor": 1.0}, POOR),
        ("fd_cnn", {**JUDGED, "fd_cnn": 4.0, "fd_cnn_floor": 1.0}, ""),  # accuracy decides the grade
        ("distance_ratio", {"distance_ratio": 0.8}, FAIR),
        ("w2_24", {"objective": 4.0, "w2_24": 2.0, "w2_24_floor": 1.9}, GOOD),
        ("reward", STEERED, "better than before"),
        ("reward", {**STEERED, "reward": -0.4}, "as before"),
        ("bounded", {**STEERED, "bounded_progress": 0.96}, "target reached"),
        ("bounded", {**STEERED, "bounded_progress": 0.66}, "66.0\u202f% of the way"),
        ("bounded", {**STEERED, "bounded_progress": -0.1}, "target not nearer"),
        ("reward", TUNED, "50.0\u202f% of the way"),
        ("reward", {**TUNED, "reward": 2.1}, "target reached"),
        ("residual", {"residual": 9.0, "residual_before": 8.0}, "worse than unconditional samples"),
        (
            "forecast_rmse",
            {"forecast_rmse": 0.4, "forecast_rmse_seasonal": 0.5, "forecast_rmse_ar": 0.3},
            "worse than autoregression",
        ),
        ("source_size", {"source_size": 1.05}, "matches"),
        ("source_size", {"source_size": 1.5}, "differs"),
        ("nll", {"nll": 1.0, "nll_baseline": 2.0}, "better than model without a network"),
        ("kl", {"kl": 3.0}, ""),
        ("fd_cnn", {"fd_cnn": None}, ""),
    ],
)
def test_metric_verdict(name: str, numbers: dict[str, float | None], verdict: str) -> None:
    assert metric_verdict(name, numbers) == verdict


@pytest.mark.parametrize("name", ["tv2", "tv2_half"])
def test_the_verdict_of_a_table_has_one_distance(name: str) -> None:
    numbers = {name: 0.148, f"{name}_floor": 0.154, f"{name}_independent": 0.193, "tv2_test": 0.111}
    text = judge_numbers(numbers).text(numbers)
    assert [text.count(number) for number in ("14.8", "15.4", "19.3", "11.1")] == [1, 1, 1, 0]


def test_the_verdict_of_a_bounded_reward_begins_with_the_quantity() -> None:
    assert judge_numbers(STEERED).metrics[0] == "bounded"


def test_distances_of_persons_decide_a_grade() -> None:
    numbers = {**SHOP, "children_ks": 0.1, "persons_copied": 0.5, "persons_copied_held_out": 0.0}
    verdict = judge_numbers(numbers)
    assert verdict.grade == COPIES
    assert verdict.metrics[:2] == ("persons_copied", "children_ks")
    assert len(verdict.cautions) == 1
    assert [level.is_current for level in levels(numbers, COPIES)] == [False, False, False, True, False]
    assert levels({"nll": 3.0}, "") == []
