"""Tab "Sample": draws samples with conditions and guidance."""

from typing import Any

from feller.app.reporter import Reporter
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import draw, kinds_of, tab_result
from feller.app.webui.tab import Answers, PageContext, Tab, TabResult, condition_controls
from feller.app.webui.widgets import choice, number, seed
from feller.sampling.sampler_config import SOLVERS

OWN = "default of the model"
MAX_NFE = 1000


def count_control(run: LoadedRun) -> Any:
    """Return the slider for the number of samples."""
    return number("Number of samples", run.display.n, 1, run.display.max_n)


def sample_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that draws samples; None if the run cannot be sampled."""
    if not run.is_sampled or run.spec is None:
        return None
    controls = {"n": count_control(run), **condition_controls(run)}
    if run.in_time:
        hint = "Per sample; more is slower and more accurate."
        controls["nfe"] = number("Network evaluations", min(run.spec.sampling.nfe, MAX_NFE), 2, MAX_NFE, hint=hint)
    if run.has_solvers:
        controls["solver"] = choice("Solver", (OWN, *(name for name in SOLVERS if name != "dopri5")))

    def draw_samples(answers: Answers, reporter: Reporter) -> TabResult:
        solver = answers.get("solver", OWN)
        solver = None if solver == OWN else solver
        return tab_result(run, *draw(run, page, answers, reporter, nfe=answers.get("nfe"), solver=solver))

    return Tab(
        name="Sample",
        description="Draw new samples from the model.",
        controls={**controls, "seed": seed()},
        handler=draw_samples,
        outputs=kinds_of(run),
        button="Draw",
    )
