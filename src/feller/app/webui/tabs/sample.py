"""Tab: draw samples, guided by conditions where the model knows some."""

from typing import Any

from feller.app.reporter import Tell
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, kinds_of, result_of
from feller.app.webui.tab import Answers, PageContext, Result, Tab, condition_controls
from feller.app.webui.widgets import choice, number, seed
from feller.sampling.sampler_config import SOLVERS

OWN = "the model's own"
MAX_CALLS = 1000


def count_control(run: LoadedRun) -> Any:
    """Return how many samples may be asked for, and how many are at first."""
    return number("How many", run.display.n, 1, run.display.most)


def sample_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that draws samples."""
    if not run.is_plain or run.about is None:
        return None
    controls = {"n": count_control(run), **condition_controls(run)}
    if run.in_time:
        hint = "Network calls for each sample: more is slower and more precise."
        controls["calls"] = number("Calls", min(run.about.sampling.nfe, MAX_CALLS), 2, MAX_CALLS, hint=hint)
    if run.has_solvers:
        controls["solver"] = choice("Solver", (OWN, *(name for name in SOLVERS if name != "dopri5")))

    def draw_samples(answers: Answers, tell: Tell) -> Result:
        solver = answers.get("solver", OWN)
        solver = None if solver == OWN else solver
        return result_of(run, *draw(run, page, answers, tell, calls=answers.get("calls"), solver=solver))

    return Tab(
        name="Sample",
        about="Draw new samples from the model.",
        controls={**controls, "seed": seed()},
        run=draw_samples,
        shows=kinds_of(run),
        button="Draw",
    )
