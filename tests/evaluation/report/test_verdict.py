import re

import pytest

from feller.evaluation.quality import EXPLAIN
from feller.evaluation.report.metrics import FACTS, MEASURES, facts, leading, measure, real, why_missing
from feller.evaluation.report.verdict import verdict
from feller.evaluation.report.verdict_thresholds import word_of_bridge

NAN = float("nan")


def plain(text: str) -> str:
    return text.replace("\u202f", " ").replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (
            {"fd_cnn": 1.9, "accuracy": 0.974, "judge_accuracy": 0.989},
            "Good: 97.4 % of the samples are read as the class that was asked for; of real data, 98.9 % are"
            " read right.",
        ),
        (
            {"accuracy": 1.0, "judge_accuracy": 1.0, "distance_ratio": 4.585},
            "Poor: 100 % of the samples are read as the class that was asked for; of real data, 100 % are read right."
            " But samples of a class differ from each other 4.58 times as much as real data.",
        ),
        (
            {"accuracy": 0.5, "judge_accuracy": None, "distance_ratio": 0.905},
            "50.0 % of the samples are read as the class that was asked for.",
        ),
        ({"accuracy": 0.5, "judge_accuracy": None}, "50.0 % of the samples are read as the class that was asked for."),
        (
            {"accuracy": None, "fd_cnn": 1.9, "fd_cnn_floor": 1.2},
            "Poor: The samples are 1.58 times as far from real data as real data are from each other: FD-cnn 1.90, real"
            " against real 1.20.",
        ),
        (
            {"sliced_w": 0.02, "sliced_w_floor": 0.021},
            "Good: The samples are as close to real data as real data are to each other: sliced Wasserstein distance"
            " 0.0200, real against real 0.0210.",
        ),
        (
            {"sliced_w": NAN, "energy": 0.01, "energy_floor": -0.001},
            "The distance of the samples to real data: energy distance 0.0100, real against real −0.00100.",
        ),
        (
            {"sliced_w": 0.02, "sliced_w_floor": None},
            "Between samples and real data the sliced Wasserstein distance is 0.0200; how far real data are from each"
            " other is not known.",
        ),
        (
            {"tv2": 0.02, "tv2_floor": 0.02, "empty": 0.61, "empty_real": 0.02, "clipped": 0.6, "left_out": "a, b"},
            "Poor: The samples are not like the data: 61.0 % of the cells of the samples are empty, of the real table"
            " 2.0 %; other numbers do not see that. Left out of the samples and of these numbers, for noise hid what"
            " they hold: a, b.",
        ),
        (
            {"tv2": 0.02, "tv2_floor": 0.02, "empty": 0.05, "empty_real": 0.02, "clipped": 0.3},
            "Good: The samples are as close to real data as real data are to each other: rows off in two columns 2.0 %,"
            " real rows drawn again 2.0 %. But 30.0 % of the real cells lie beyond what the schema knows and were"
            " clipped.",
        ),
        (
            {"tv2": 0.02, "tv2_floor": 0.02, "clipped": 0.03, "clipped_max": 0.28, "clipped_worst": "wealth"},
            "Good: The samples are as close to real data as real data are to each other: rows off in two columns 2.0 %,"
            " real rows drawn again 2.0 %. But 28.0 % of the real cells of wealth lie beyond what the schema knows and"
            " were clipped.",
        ),
        (
            {"tv2": 0.02, "tv2_floor": 0.02, "clipped": 0.05, "clipped_max": 0.1, "clipped_worst": "wealth"},
            "Good: The samples are as close to real data as real data are to each other: rows off in two columns 2.0 %,"
            " real rows drawn again 2.0 %.",
        ),
        (
            {"tv2": 0.02, "tv2_floor": 0.02, "empty": 0.5, "empty_real": 0.5, "clipped": 0.0},
            "Good: The samples are as close to real data as real data are to each other: rows off in two columns 2.0 %,"
            " real rows drawn again 2.0 %.",
        ),
        ({"nll": 3.2}, "Held-out data have a negative log-likelihood of 3.20 nats per example."),
        ({"fd_cnn": NAN}, "The samples could not be measured: the numbers are not finite."),
        ({"steps": 10, "seconds": NAN}, "How good the samples are was not measured."),
        ({}, "How good the samples are was not measured."),
    ],
)
def test_verdict(numbers: dict[str, float | str | None], text: str) -> None:
    assert plain(verdict(numbers)) == text


def test_leading_numbers_leave_out_facts_texts_and_floors_of_others() -> None:
    numbers = {
        "accuracy": 0.9,
        "judge_accuracy": 1.0,
        "judge": None,
        "x": 1.0,
        "x_floor": None,
        "y_floor": 2.0,
        "steps": 3,
    }
    assert leading(numbers) == ["accuracy", "x", "y_floor"]
    assert leading({"judge_accuracy": 1.0, "judge": "digits"}) == ["judge_accuracy"]


def test_every_floor_that_is_missing_has_a_reason() -> None:
    for kind in MEASURES.values():
        assert why_missing(kind.floor or "nearest_ratio", {}, {}) != "it was not measured"
    assert why_missing("nll", {"nll": NAN}, {}).startswith("it came out as no finite number")
    assert why_missing("nll", {"nll": NAN}, {"nll": "the solver diverged"}) == "the solver diverged"


def test_a_floor_is_missing_with_its_number_or_for_want_of_data() -> None:
    both = {"structure_valid": None, "structure_valid_floor": None, "covered": 0.5, "covered_floor": None}
    assert why_missing("structure_valid", both, {}) == "pymatgen is not installed"
    assert why_missing("structure_valid_floor", both, {}) == "pymatgen is not installed"
    assert "held-out" in why_missing("covered_floor", both, {})


def test_a_floor_has_the_form_of_its_number() -> None:
    """A share is one in both rows of a table, and a length has its unit in both."""
    for name, unit, share in (("bonds_sane", "", True), ("ca_distance", "Å", False), ("covered", "", True)):
        kind, floor = measure(name, {}), measure(f"{name}_floor", {})
        assert (kind.unit, kind.is_share) == (floor.unit, floor.is_share) == (unit, share)
        assert floor.label.startswith(kind.label)
    assert measure("ramachandran_floor", {}).is_share


def test_every_number_has_a_label_in_words() -> None:
    for name in EXPLAIN.keys() - {*FACTS}:
        assert "_" not in measure(name, {}).label
        assert any(name in (own, kind.floor) for own, kind in MEASURES.items()), name
    for name, text in EXPLAIN.items():
        assert text.endswith(".")
        assert not re.search(r"None|\^", text), name


def test_floors_of_training_data_are_called_so() -> None:
    numbers = {"atom_stability": 0.5, "atom_stability_floor": 1.0, "compared_with": "training data"}
    assert plain(verdict(numbers)).endswith("of those of real molecules, from the training data, 100 %.")
    assert "training" not in verdict({**numbers, "compared_with": "held-out data"})
    assert real(MEASURES["atom_stability"], numbers) == "real molecules, from the training data"
    assert real(MEASURES["nearest_ratio"], numbers) == "unseen real data"
    assert verdict({"energy": 0.5, "energy_floor": None, "compared_with": "training data"}).startswith(
        "Between samples and training data"
    )


def test_facts() -> None:
    assert plain(facts({"steps": 4000, "seconds": 93.0})) == "4,000 steps in 1 min 33 s"
    assert plain(facts({"steps": 4000.0})) == "4,000 steps"
    assert plain(facts({"seconds": 9.0, "steps": None})) == "9 s"
    assert facts({"seconds": NAN}) == ""


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (
            {"objective": 440.0, "w2": 0.145, "w2_floor": 0.142, "inside_time": 0.003},
            "Good: The paths end as close to real members as these are to each other: distance 0.145, real members"
            " 0.142;"
            " 0.3 % of the time, paths are inside obstacles.",
        ),
        (
            {"objective": 440.0, "w2": 0.3, "w2_floor": 0.1, "inside_time": None},
            "Poor: The paths end 3.00 times as far from real members as these are from each other: distance 0.300, real"
            " members 0.100.",
        ),
        (
            {"objective": 440.0, "w2": 0.145, "w2_floor": 0.142, "inside_paths": 1.0, "inside_time": 0.023},
            "Poor: 100 % of the paths go through an obstacle. The paths end as close to real members as these are to"
            " each other: distance 0.145, real members 0.142.",
        ),
        (
            {"objective": 440.0, "w2": 0.3, "w2_floor": 0.1, "inside_paths": 0.012, "inside_time": 0.001},
            "Poor: The paths end 3.00 times as far from real members as these are from each other: distance 0.300, real"
            " members 0.100; 1.2 % of the paths meet an obstacle.",
        ),
        (
            {"objective": 440.0, "w2": None, "inside_paths": 0.0, "inside_time": 0.0},
            "Whether the paths arrive was not measured; no path meets an obstacle.",
        ),
        ({"objective": 440.0, "w2": None, "w2_floor": None}, "Whether the paths arrive was not measured."),
    ],
)
def test_a_bridge_is_judged_by_its_ends(numbers: dict[str, float | None], text: str) -> None:
    assert plain(verdict(numbers)) == text


def test_what_explains_is_judged_beside_any_samples() -> None:
    known = {"residual": 3.24, "residual_before": 8.1, "noise": 0.0}
    told = "What the samples would measure differs from what was observed by 3.24"
    assert plain(verdict(known)) == f"{told}, where any samples of the model differ by 8.10; 0 would be exact."
    assert plain(verdict({**known, "noise": 0.5})).endswith("differ by 8.10; the noise of 0.500 would be right.")
    assert plain(verdict({"residual": 3.24, "noise": 0.0})) == f"{told}; 0 would be exact."


def test_what_tuning_did_to_classes_stands_beside_the_base() -> None:
    numbers = {"accuracy": 0.772, "accuracy_before": 0.802, "judge_accuracy": 0.986}
    said = plain(verdict({"reward": 2.0, "reward_before": 1.0, **numbers}))
    assert said.endswith(
        "77.2 % of the samples are read as the class that was asked for; before tuning, 80.2 % were; of real data,"
        " 98.6 % are read right."
    )
    assert leading(numbers) == ["accuracy", "accuracy_before"]
    assert measure("accuracy_before", numbers).label == "read as asked before tuning"


def test_ends_stand_beside_their_floor() -> None:
    numbers = {"w2": 0.3, "w2_floor": 0.1, "objective": 2.0, "inside_time": None}
    assert leading(numbers) == ["w2", "objective", "inside_time"]
    assert real(measure("w2", numbers), numbers) == "real members"
    assert why_missing("inside_time", numbers, {}) == "no cost has obstacles"


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ({"w2": 4.15, "w2_floor": 2.21}, "Poor"),
        ({"w2": 5.41, "w2_floor": 2.21}, "Poor"),
        ({"w2": 3.0, "w2_floor": 2.21}, "Fair"),
        ({"w2": 2.3, "w2_floor": 2.21, "w2_24": 2.0, "w2_24_floor": 1.0}, "Poor"),
        ({"w2": 2.3, "w2_floor": 2.21, "inside_paths": 0.06}, "Poor"),
        ({"w2": 2.3, "w2_floor": 2.21, "last_w2": 9.0, "kept_round": 1.0}, "Good"),
        ({"w2": 2.3, "w2_floor": None}, ""),
    ],
)
def test_the_word_for_a_bridge_is_by_its_worst_population(numbers: dict[str, float | None], word: str) -> None:
    assert word_of_bridge(numbers) == word
    assert verdict({"objective": 4.0, **numbers}).startswith(f"{word}: " if word else "The paths end")


def test_a_first_sketch_of_a_bridge_is_called_so_first() -> None:
    numbers = {"objective": 440.0, "w2": 0.3, "w2_floor": 0.1}
    assert verdict(numbers, "After 1 round this is a first sketch").startswith("Not yet trained: The paths end 3.00")


def test_a_reward_of_invalid_samples_is_no_success() -> None:
    numbers = {"reward": -0.1, "reward_before": -0.4, "improved": 1.0, "solves": 9.0}
    broken = {**numbers, "validity": 0.0, "validity_before": 0.25}
    assert verdict(broken).startswith("Poor: ")
    assert "valid" in verdict(broken)
    assert verdict(broken, "After 3 steps").startswith("Not yet trained: ")
    assert not verdict({**numbers, "validity": 0.9, "validity_before": 0.9}).startswith("Poor: ")
    assert "valid" not in verdict(numbers)
