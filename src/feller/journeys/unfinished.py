"""A run whose training was stopped has a model like any other: what is said of it where samples are drawn."""

import shlex

from feller.journeys.asked import asked_of
from feller.journeys.bridges.kind import is_bridge
from feller.journeys.exchange.brought import brought_of
from feller.journeys.fitting.at_once import is_found
from feller.journeys.tuned import tuned_of
from feller.record import from_data
from feller.run import Run
from feller.train.checkpoint import read_counters
from feller.train.optimiser import Training


def unfinished(run: Run) -> str:
    """Return one line where a fit was stopped before its end; empty where it was not, or the run is of another kind."""
    if not run.counters.is_file():
        return ""
    if tuned_of(run) or is_bridge(run) or brought_of(run):
        return ""
    training = from_data(Training, run.read_record(run.recipe)["recipe"]["train"])
    counters = read_counters(run)
    if is_found(counters) or training.share(counters["step"], counters["seconds"]) >= 1:
        return ""
    whole = f" of {training.steps:,}" if training.steps else ""
    asked = asked_of(run)
    code = ("--recipe", asked.recipe) if asked.code else ()
    command = shlex.join(map(str, ("feller", "fit", "--resume", *code, "--out", run.path)))
    return f"this run is not complete: training stopped after {counters['step']:,}{whole} steps; go on with: {command}"
