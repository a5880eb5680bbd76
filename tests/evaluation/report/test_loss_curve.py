import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feller.evaluation.report.loss_curve import HUGE, is_logarithmic, loss_svg, losses, smooth
from tests.evaluation.report.reader import Node, read

FINITE = st.floats(-1e29, 1e29)


def drawing(loss: list[float], first: int = 1) -> Node:
    return read(loss_svg([{"step": first + i, "loss": value} for i, value in enumerate(loss)]))


@settings(deadline=None, max_examples=20)
@given(loss=st.lists(st.one_of(FINITE, st.floats(1e-12, 1e-9)), min_size=2, max_size=30), first=st.integers(0, 10**7))
@example(loss=[4503599627370496.0, 1.1125369292536007e-308], first=0)
@example(loss=[1e-323, 6e-323], first=0)
@example(loss=[0.0, 0.0], first=0)
@example(loss=[1e20, 1e20 + 16384], first=0)
def test_any_finite_losses_are_drawn_at_finite_places(loss: list[float], first: int) -> None:
    page = drawing(loss, first)
    assert not re.search(r"\b(nan|inf)\b", str([path.attributes.get("d") for path in page.all("path")]))
    assert len(page.all("svg")) == 2


def test_the_drawing_takes_its_colours_from_the_page_and_says_what_it_shows() -> None:
    page = drawing([2.0 * 0.95**step for step in range(1, 101)])
    wide, narrow = page.all("svg")
    assert (wide.attributes["class"], narrow.attributes["class"]) == ("plot wide", "plot narrow")
    assert wide.attributes["role"] == "img"
    assert (wide.attributes["aria-label"] or "").startswith("Loss over training steps: from 1.90 at step 1 to 0.0")
    styles = " ".join(node.attributes.get("style") or "" for node in page.all(""))
    assert "var(--accent" in styles
    assert not re.search("#0[1-4]0[1-4]0[1-4]", styles)
    assert "training steps" in [text.text for text in page.all("text")]


def test_fewer_than_two_steps_are_no_curve() -> None:
    assert loss_svg([]) == loss_svg([{"step": 1, "loss": 2.0}]) == ""


def test_the_axis_is_logarithmic_where_the_line_spans_a_decade() -> None:
    assert is_logarithmic(np.array([1.0, 0.1]))
    assert not is_logarithmic(np.array([1.0, 0.11]))
    assert not is_logarithmic(np.array([1.0, -10.0]))


def test_the_line_averages_without_shift() -> None:
    ramp = np.arange(1000.0)
    at = np.array([0, 10, 500, 999])
    assert smooth(ramp, at)[:3] == pytest.approx([0, 10, 500])  # a symmetric window keeps a straight line
    assert 970 <= smooth(ramp, at)[3] < 999  # the end has earlier steps only
    noise = np.random.default_rng(0).normal(size=10_000)
    assert smooth(noise, np.arange(2000, 8000)).std() == pytest.approx(1 / math.sqrt(601), rel=0.5)


def test_a_spike_does_not_spoil_what_comes_after() -> None:
    loss = np.full(1000, 0.25)
    loss[10] = 1e25
    assert smooth(loss, np.array([500])).tolist() == [0.25]


def test_losses_are_sorted_and_a_step_done_twice_counts_as_last_done() -> None:
    curve = [
        {"step": 2, "loss": 5.0},
        {"step": 3, "loss": 1.0},
        {"step": 1, "loss": 9.0},
        {"step": 2, "loss": 4.0},
        {"step": 4, "loss": float("nan")},
        {"step": 5, "loss": HUGE},
        {"step": 6},
        {"loss": 1.0},
    ]
    steps, loss = losses(curve)
    assert steps.tolist() == [1, 2, 3]
    assert loss.tolist() == [9, 4, 1]


def test_long_runs_are_thinned_and_the_same_curve_is_the_same_text() -> None:
    loss = np.random.default_rng(0).random(20_000)
    curve = [{"step": step, "loss": float(value)} for step, value in enumerate(loss)]
    text = loss_svg(curve)
    assert len(text) < 120_000
    assert text == loss_svg(curve)
