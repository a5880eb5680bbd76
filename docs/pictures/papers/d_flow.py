"""Digits with a lost centre, restored."""

import pathlib
from unittest.mock import patch

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from style import bare
from torch import Tensor

from feller.control.inverse.guided_solver import GuidedSolver, PiGDM
from feller.control.inverse.inverse_problem import InverseSolver, wiener_estimate
from feller.core.rng import Rng
from feller_papers.claims import Claim
from feller_papers.d_flow import restoring
from feller_papers.d_flow.methods import NUM_STARTS, Experiment, d_flow_solver
from feller_papers.d_flow.pictures import SHAPE, TASKS, moments, test_digits, train_prior
from feller_papers.d_flow.setting import Setting
from papers.entry import Paper

SETTING = Setting(seeds=(0,), base_steps=2500, search_steps=30, num_test=16, num_samples=400)
SHOWN, HOLE = 10, TASKS[0]


def draw(data: pathlib.Path | None) -> tuple[Figure, Claim]:
    """Test the claim, and restore the same digits in four ways."""
    with patch.object(restoring, "TASKS", (HOLE,)):
        (claim,) = restoring.means_beat_wiener(SETTING)
    pictures = test_digits(SETTING.num_test)[0]
    observation = Experiment(SETTING, HOLE, 0, pictures).observation
    model = train_prior(SETTING.base_steps, 0)

    def restore(method: InverseSolver, start: int) -> Tensor:
        draws = Rng(0).fold_in("start", start)
        return method.restore(model, observation, draws.stream("source").normal(pictures.x.shape), draws).state

    found = [restore(d_flow_solver(SETTING), start) for start in range(NUM_STARTS)]
    rows = {
        "truth": pictures.x,
        "seen": observation.y,
        "Wiener filter": wiener_estimate(observation, *moments(SETTING.base_steps), SHAPE).float(),
        "PiGDM": restore(GuidedSolver(PiGDM()), 0),
        "D-Flow": found[0],
        f"mean of {NUM_STARTS} D-Flow": sum(found) / NUM_STARTS,
    }
    figure, panels = plt.subplots(len(rows), SHOWN, figsize=(6.4, 3.6))
    for line, (name, states) in zip(panels, rows.items(), strict=True):
        for axes, picture in zip(line, states[:SHOWN], strict=True):
            bare(axes).imshow(picture[0], cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
        line[0].text(-0.25, 0.5, name, ha="right", va="center", transform=line[0].transAxes)
    figure.subplots_adjust(left=0.24, right=0.98, bottom=0.03, top=0.97, wspace=0.08, hspace=0.08)
    return figure, claim


PAPER = Paper(
    title="D-Flow",
    arxiv="2402.14017",
    run="seed 0, 16 held-out digits, 2,500 training steps",
    caption="Digits with a hidden square in the centre, restored by four methods. PiGDM and D-Flow use the same "
    "network; the Wiener filter needs no network.",
    draw=draw,
    anchor="d-flow-arxiv-240214017",
)
