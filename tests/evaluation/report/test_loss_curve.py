import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feller.evaluation.report.html import render
from feller.evaluation.report.loss_curve import HUGE, Axis, draw, loss_axis, losses, smooth
from tests.evaluation.report.reader import Node, read

FINITE = st.floats(-1e29, 1e29)


def drawing(steps: list[float], loss: list[float], unit: str = "") -> Node:
    return read(render(draw(np.array(steps, dtype=float), np.array(loss, dtype=float), unit)))


def coordinates(path: Node) -> np.ndarray:
    found = re.findall(r"[ML]?(-?[\d.]+) (-?[\d.]+)", path.attributes["d"])
    return np.array(found, dtype=float)


def labels(page: Node) -> list[str]:
    return [text.text for text in page.all("text")]


@settings(deadline=None, max_examples=100)
@given(loss=st.lists(st.one_of(FINITE, st.floats(1e-12, 1e-9)), min_size=2, max_size=30), first=st.integers(0, 10**7))
@example(loss=[4503599627370496.0, 1.1125369292536007e-308], first=0)
@example(loss=[1e-323, 6e-323], first=0)
@example(loss=[0.0, 0.0], first=0)
@example(loss=[1e20, 1e20 + 16384], first=0)
def test_any_finite_losses_are_drawn_at_finite_places(loss: list[float], first: int) -> None:
    page = drawing([first + 1 + i for i in range(len(loss))], loss)
    assert not re.search("nan|inf", str(page))
    (line,) = page.of("line")
    assert len(coordinates(line)) == len(loss)
    assert coordinates(line)[-1][0] == 1000
    assert ((coordinates(line) >= -0.1) & (coordinates(line) <= 1000.1)).all()  # the line is never cut off
    assert 1 <= len(page.all("line")) <= 12


def test_a_falling_loss_falls_on_the_page() -> None:
    falling, line = np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 3.0, 2.0, 1.5])  # the end averages the last two
    axis, page = loss_axis(falling, line), drawing([1, 2, 3, 4], falling.tolist())
    assert coordinates(page.of("line")[0]) == pytest.approx(
        np.stack([[250, 500, 750, 1000], 1000 * (axis.high - line) / (axis.high - axis.low)], 1), abs=0.06
    )
    heights = {text.text: float(text.attributes["y"][:-1]) for text in page.of("end") if text.text in "1234"}
    assert heights == pytest.approx(
        {str(i): 100 * (axis.high - i) / (axis.high - axis.low) for i in (1, 2, 3, 4)}, abs=0.01
    )


def test_a_place_is_where_the_axis_says() -> None:
    assert Axis(1.0, 100.0, True).place(np.array([1.0, 10.0, 100.0])) == pytest.approx([0, 0.5, 1])
    assert Axis(-1.0, 3.0).place(np.array([-1.0, 0.0, 3.0])) == pytest.approx([0, 0.25, 1])


def test_ticks_are_round_inside_and_written_apart() -> None:
    assert list(Axis(0.0, 4000.0).ticks().values()) == ["0", "1,000", "2,000", "3,000", "4,000"]
    assert list(Axis(0.07, 1.4, True).ticks().values()) == ["0.1", "0.2", "0.5", "1"]
    assert list(Axis(-2.01, -1.89).ticks().values()) == ["−2.00", "−1.95", "−1.90"]
    close = list(Axis(2.3456, 2.3459).ticks().values())
    assert close[0] == "2.3456"
    assert len(set(close)) == len(close)
    decades = list(Axis(1e-9, 1e3, True).ticks())
    assert 3 <= len(decades) <= 6
    assert all(math.log10(tick) == pytest.approx(round(math.log10(tick))) for tick in decades)


def test_the_axis_is_logarithmic_where_the_line_spans_a_decade() -> None:
    def axis(loss: np.ndarray) -> Axis:
        return loss_axis(loss, loss)

    assert axis(np.array([1.0, 0.1])).logarithmic
    assert not axis(np.array([1.0, 0.11])).logarithmic
    assert not axis(np.array([1.0, -10.0])).logarithmic
    spike = np.full(1000, 0.5)
    spike[500] = 1e6  # one step must not flatten the rest
    assert loss_axis(spike, np.full(10, 0.5)).high < 1


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


def test_the_drawing_names_its_axes_and_says_what_it_shows() -> None:
    steps = list(range(1, 101))
    page = drawing(steps, [2.0 * 0.95**step for step in steps], "nats per token")
    assert "loss (nats per token) on a logarithmic scale" in labels(page)
    assert "training steps" in labels(page)
    assert page.all("svg")[0].attributes["role"] == "img"
    assert (
        page.all("svg")[0].attributes["aria-label"].startswith("Loss over training steps: from 1.90 at step 1 to 0.0")
    )


def test_long_runs_are_thinned() -> None:
    steps = list(range(100_000))
    assert len(render(draw(np.array(steps, dtype=float), np.random.default_rng(0).random(len(steps)), ""))) < 40_000
