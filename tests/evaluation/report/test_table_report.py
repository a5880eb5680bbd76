"""Figures and metric names of synthetic tables."""

import warnings

import numpy as np
import pytest
from PIL import Image

from feller.evaluation.metrics import METRICS, grouped_metrics, main_metrics, metric, why_missing
from feller.evaluation.number_format import shorten_middle
from feller.evaluation.report.embedded_picture import MAX_SIDE
from feller.evaluation.report.table_figures import (
    MADE,
    LabelledColumn,
    bin_edges,
    pairs_map,
    plot_audit,
    plot_columns,
    plot_utility,
)
from feller.evaluation.tables.marginal_distance import pair_errors
from feller.evaluation.tables.table_quality import table_quality
from tests.evaluation.tables import COUNTS, ORDERED, people

NAMES = ("coin", "number", "kind", "answer")
TRAIN, UNSEEN, MADE_ROWS = people(0, 600), people(1, 400), people(2, 600)
LONG = "a very long name of a column, $x_1$, as households tell it"


def columns(k: int) -> list[LabelledColumn]:
    return [
        LabelledColumn(f"{LONG} {j}", tuple(f"value {c} & $more_{c}" for c in range(COUNTS[j % 4])), ORDERED[j % 4])
        for j in range(k)
    ]


def blue(picture: Image.Image) -> float:
    """Return the share of the dots that have the colour of synthetic rows."""
    colour = np.array([int(MADE[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(np.asarray(picture).astype(int) - colour).sum(2) < 12).mean())


@pytest.mark.parametrize(("k", "pictures"), [(1, 1), (2, 1), (12, 1), (13, 2), (40, 4)])
def test_plot_columns(k: int, pictures: int) -> None:
    which = np.arange(k) % 4
    drawn = plot_columns(MADE_ROWS.numpy()[:, which], TRAIN.numpy()[:, which], columns(k))
    assert len(drawn) == pictures
    assert all(max(picture.size) <= MAX_SIDE and min(picture.size) > 250 for picture in drawn)


def test_bar_lengths() -> None:
    """Of two codes the synthetic table has the first alone, or both: bars are as long in sum, the axis is not."""
    words = [LabelledColumn("one", ("a", "b"))]
    real = np.zeros((10, 1), dtype=np.int64)
    alike, half = real.copy(), real.copy()
    half[:5] = 1
    assert blue(plot_columns(alike, real, words)[0]) == pytest.approx(blue(plot_columns(half, real, words)[0]), rel=0.1)
    assert blue(plot_columns(alike + 7, real, words)[0]) < blue(plot_columns(alike, real, words)[0]) / 5


def test_rare_and_odd_values() -> None:
    words = ("", " ", "$", "\n\t", "long " * 40, *(f"v{i}" for i in range(60)))
    codes = np.arange(65)[:, None]
    for ordered in (False, True):
        (picture,) = plot_columns(codes, codes, [LabelledColumn("", words, ordered)])
        assert picture.mode == "RGB"


def test_letters_without_font() -> None:
    codes = np.zeros((3, 1), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot_columns(codes, codes, [LabelledColumn("\u6771\u4eac", ("\u6771", "\u4eac"))])
        assert pairs_map(np.zeros((2, 2)), ["\u6771\u4eac", "\u0378"]).mode == "RGB"


def test_bin_edges() -> None:
    assert bin_edges(["0,0 to 9999,99", "10000,0 to 99999,99", "100000,0 to 750000,0"]) == [
        "0,0",
        "10000,0",
        "750000,0",
    ]
    assert bin_edges(["1", "2 to 3", "(empty)"]) == ["1", "2", "(empty)"]


@pytest.mark.parametrize("k", [1, 2, 14, 40])
def test_pairs_map_size(k: int) -> None:
    which = np.arange(k) % 4
    errors = pair_errors(MADE_ROWS[:, which], TRAIN[:, which])
    picture = pairs_map(errors, [column.name for column in columns(k)])
    assert max(picture.size) <= MAX_SIDE


def test_pairs_map_colours() -> None:
    good, bad = np.zeros((20, 20)), np.zeros((20, 20))
    bad[5, 3] = bad[3, 5] = 0.3
    light, dark = (np.asarray(pairs_map(errors, ["x"] * 20).convert("L")).astype(int) for errors in (good, bad))
    side = dark.shape[1] // 2  # left of the scale
    assert (dark[:, :side] < 90).sum() > (light[:, :side] < 90).sum() + 300


def test_plot_utility_and_audit() -> None:
    numbers = table_quality(MADE_ROWS, TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3)
    for picture in (plot_utility(numbers), plot_audit(numbers)):
        assert picture is not None
        assert blue(picture) > 0.0005
    about_number = table_quality(MADE_ROWS, TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=1)
    assert plot_utility(about_number) is not None
    assert plot_utility({}) is None
    assert plot_audit({"copies": None}) is None
    alone = table_quality(MADE_ROWS, TRAIN, UNSEEN[:0], COUNTS, ordered=ORDERED, target=3)
    assert plot_audit(alone).height < plot_audit(numbers).height


@pytest.mark.parametrize("target", [1, 3])
@pytest.mark.parametrize("seen", [0, 400])
def test_metrics_are_known(target: int, seen: int) -> None:
    alike = MADE_ROWS.clone()
    alike[:, target] = 0
    for made in (MADE_ROWS, alike):
        numbers = table_quality(made, TRAIN, UNSEEN[:seen], COUNTS, ordered=ORDERED, target=target)
        known = {*METRICS, *(row.reference for row in METRICS.values())}
        assert numbers.keys() <= known
        for name, value in numbers.items():
            assert value is not None or why_missing(name, numbers) != "not measured", name


def test_main_metrics_of_tables() -> None:
    numbers = table_quality(MADE_ROWS, TRAIN, UNSEEN, COUNTS, ordered=ORDERED, target=3)
    names = main_metrics(numbers)
    assert names[0] == "valid"
    assert not any(name.endswith(("_floor", "_real", "_held_out")) for name in names)
    assert {"tv2", "detection_auc", "auc_boosted", "copies", "dcr_share", "membership_auc"} <= set(names)
    assert {"tv2_test", "tv2_independent", "f1_boosted"}.isdisjoint(names)
    groups = dict(grouped_metrics({**numbers, "impossible": 0.1, "nll": 3.0}))
    assert len(groups) == 6
    assert [name for group in groups.values() for name in group if name not in names] == ["impossible", "nll"]
    assert next(iter(groups.values()))[0] == "impossible"
    assert grouped_metrics({"nll": 3.0}) == [("", ["nll"])]
    assert metric("auc_boosted", numbers).reference == "auc_boosted_real"


def test_shorten_middle() -> None:
    names = [f"income of member {i} of the household" for i in range(20)] + [f"{LONG} {i}" for i in range(20)]
    short = [shorten_middle(name, 22) for name in names[20:]]
    assert len(set(short)) == 20
    assert max(map(len, short)) <= 22
    assert shorten_middle("a b", 22) == shorten_middle(" a\n b ", 22) == "a b"
    assert shorten_middle("abcdefghij", 7) == "abcd…ij"
