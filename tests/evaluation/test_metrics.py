"""The table of metrics: labels, references, reasons to be missing."""

import math
from collections import Counter

import pytest
import torch

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.points.euclidean_points import Points
from feller.evaluation.document_metrics import consensus_text
from feller.evaluation.metrics import (
    DETAIL,
    DIRECTIONS,
    FACT,
    MAIN,
    METRICS,
    TRAINED,
    VARIANTS,
    explanation,
    main_metrics,
    metric,
    reference_value,
    replace_by_labels,
    why_missing,
)
from feller.evaluation.tuning_metrics import condition_groups, sample_diversity, tilted_reward

NAN = float("nan")


def test_rows_are_well_formed() -> None:
    for name, row in {**METRICS, **{name: row for name, _, row in VARIANTS}}.items():
        assert "_" not in row.label.replace("inversion_error", ""), name
        assert row.label[0].islower() or row.label[:2].isupper() or row.label[0].isupper(), name
        assert row.better in ("", *DIRECTIONS), name
        assert row.place in (MAIN, DETAIL, FACT), name
        assert not (row.reference and row.level is not None), name
        assert row.help == "" or row.help.endswith("."), name
        assert not row.missing.endswith("."), name
        assert row.reference != name


@pytest.mark.parametrize("name", ["bonds_sane", "ca_distance", "covered", "auc_boosted", "psnr", "copies"])
def test_references(name: str) -> None:
    own, other = metric(name), metric(metric(name).reference)
    assert (own.unit, own.is_percent) == (other.unit, other.is_percent)
    assert other.label.startswith(own.label)
    assert other.place == DETAIL
    assert own.text(0.5) == other.text(0.5)


def test_unknown_metrics() -> None:
    numbers = {"my_score": 1.0, "my_score_floor": 2.0, "y_floor": 3.0, "steps": 4, "worst": "a"}
    assert metric("my_score", numbers).label == "my score"
    assert reference_value("my_score", numbers) == ("real data", 2.0)
    assert main_metrics(numbers) == ["my_score", "y_floor"]


def test_main_metrics() -> None:
    numbers = {
        "accuracy": 0.9,
        "judge_accuracy": 1.0,
        "judge": None,
        "fd_cnn": 1.0,
        "fd_cnn_floor": None,
        "tv2_max": 0.1,
    }
    assert main_metrics(numbers) == ["accuracy", "fd_cnn"]
    assert main_metrics({"judge_accuracy": 1.0}) == ["judge_accuracy"]


def test_metrics_depend_on_other_numbers() -> None:
    assert metric("accuracy", {"accuracy_constant": 0.4}).reference == "accuracy_constant"
    assert metric("accuracy", {}).reference == "judge_accuracy"
    assert metric("copies", {"tv1": 0.1}).label != metric("copies", {}).label
    assert metric("copies_held_out", {"copies": 0.1, "tv1": 0.1}).reference == ""


def test_series_of_columns_and_times() -> None:
    numbers = {"mae_b_c": 0.1, "mae_constant_b_c": 0.2, "r2_b_c": 0.3, "w2_24": 0.6, "w2_24_floor": 0.5, "w2": 2.0}
    assert main_metrics(numbers) == ["mae_b_c", "r2_b_c", "w2_24", "w2"]
    assert metric("mae_b_c", numbers).label == "mean absolute error, b_c"
    assert reference_value("mae_b_c", numbers) == (METRICS["mae"].reference_label, 0.2)
    assert metric("w2_24", numbers).label == "distance, time 24"
    assert reference_value("w2_24", numbers) == (METRICS["w2"].reference_label, 0.5)
    assert metric("w2_24_floor", numbers).label.startswith("distance, time 24")
    assert why_missing("w2_24", {"w2_24": None}) == METRICS["w2"].missing


@pytest.mark.parametrize(
    ("seasonal", "ar", "gaussian", "expected"),
    [
        (0.5, 0.4, 0.3, ("joint Gaussian", 0.3)),
        (0.5, 0.4, None, ("autoregression", 0.4)),
        (0.3, 0.4, 0.3, ("seasonal naive", 0.3)),
        (None, None, None, ("seasonal naive", None)),
    ],
)
def test_the_best_baseline_is_the_reference(
    seasonal: float | None, ar: float | None, gaussian: float | None, expected: tuple[str, float | None]
) -> None:
    name = "forecast_rmse"
    numbers = {name: 0.2, f"{name}_seasonal": seasonal, f"{name}_ar": ar, f"{name}_gaussian": gaussian}
    assert reference_value(name, numbers) == expected
    assert main_metrics(numbers) == [name]


def test_baselines_of_one_metric_have_its_label_and_unit() -> None:
    for row in METRICS.values():
        for other in map(metric, row.other_references):
            assert other.label.startswith(f"{row.label}, ")
            assert (other.unit, other.place) == (row.unit, DETAIL)


def test_references_from_training_data() -> None:
    numbers = {"atom_stability": 0.5, "atom_stability_floor": 1.0, "nearest_ratio": 1.0, "compared_with": TRAINED}
    assert reference_value("atom_stability", numbers) == ("real molecules, from the training data", 1.0)
    assert reference_value("nearest_ratio", numbers) == ("held-out data", 1.0)


def test_why_missing() -> None:
    assert why_missing("nll", {"nll": NAN}) == "not finite"
    assert why_missing("nll", {"nll": None}, {"nll": "the solver diverged."}) == "the solver diverged"
    both = {"structure_valid": None, "structure_valid_floor": None, "covered": 0.5, "covered_floor": None}
    assert why_missing("structure_valid_floor", both) == why_missing("structure_valid", both)
    real = {"auc_boosted": 0.7, "auc_boosted_real": None}
    assert why_missing("auc_boosted_real", real) == why_missing("tv1_floor", {"tv1": 0.1, "tv1_floor": None})
    assert why_missing("auc_boosted_real", real | {"auc_boosted": None}) == METRICS["auc_boosted"].missing
    assert why_missing("covered_floor", both) == METRICS["dcr_share"].missing
    assert why_missing("unique_smiles", {"unique_smiles": None, "bonds_sane": None}) == METRICS["bonds_sane"].missing
    assert why_missing("unique_smiles", {"unique_smiles": None, "bonds_sane": 0.0}) == METRICS["unique_smiles"].missing
    for name, row in METRICS.items():
        assert why_missing(row.reference or name, {}), name


def test_explanations() -> None:
    numbers = {"crystal_plausible": 0.5, "distance_valid": 0.5, "composition_valid": 0.5}
    text = explanation("crystal_plausible", numbers)
    assert "distance_valid" in text
    assert text.endswith(DIRECTIONS["higher"])
    assert "_" not in replace_by_labels(text, numbers)
    assert explanation("covered_floor", {}).startswith("covered, for")
    assert explanation("mine", {}) == ""


def test_consensus_text() -> None:
    texts = Counter({"a red star": 2, "a red ring on blue": 1, "a green ring on blue": 1, "a ring on blue": 1})
    assert consensus_text(texts) == "a red ring on blue"
    assert consensus_text(Counter({"yes": 3, "no": 1})) == "yes"


def test_tilted_reward_of_a_normal() -> None:
    """r = x of N(1, 0.25) at strength 2: the tilted mean is 1 + 2 * 0.25, and n / (1 + relative variance) count."""
    x = 1 + 0.5 * Rng(0).stream("x").normal((200_000,), torch.float64)
    mean, share = tilted_reward(x, 2.0, torch.zeros(len(x), dtype=torch.long))
    assert mean == pytest.approx(1.5, abs=0.01)
    assert share == pytest.approx(math.exp(-1.0), abs=0.02)  # E[w]^2 / E[w^2] = exp(-c^2 s^2)


def test_tilted_reward_within_classes() -> None:
    reward = torch.tensor([0.0, 0.0, 10.0, 10.0], dtype=torch.float64)
    mean, share = tilted_reward(reward, 5.0, torch.tensor([0, 0, 1, 1]))
    assert (mean, share) == (pytest.approx(5.0), pytest.approx(1.0))


def test_sample_diversity_within_classes() -> None:
    values = torch.tensor([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0], [100.0, 2.0]])
    modality = Points(("x", "y"), (0.0, 0.0), (1.0, 1.0), classes=("a", "b"))
    data = Dataset(values, {"label": torch.tensor([0, 0, 1, 1])}, modality)
    assert condition_groups(data).tolist() == [0, 0, 1, 1]
    assert sample_diversity(data) == pytest.approx((5 + 2) / 2)
    assert sample_diversity(data.subset(torch.tensor([0, 2]))) is None
