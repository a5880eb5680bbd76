"""Draw samples, guided by conditions where the model knows some."""

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Control, Number, Seed
from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import drawn_of, kinds_of, outcome
from feller.app.webui.tab import Ability, Answers, Outcome, Place, Tab, guides
from feller.data.points.modality import Rows
from feller.data.text.modality import Text
from feller.sampling.sampler_config import SOLVERS

USUAL = "the model's own"
MOST_CALLS = 1000
MOST_TEXTS = 16
"""Which are drawn symbol after symbol."""
MOST_SEED = 2**31 - 1


def many(one: Opened, limits: Limits) -> Number:
    """Return how many samples may be asked for, and how many are at first."""
    usual, most = 64, limits.samples
    if isinstance(one.modality, Rows):
        usual, most = 1000, limits.points
    elif one.is_rows:
        usual, most = 20, limits.points
    elif isinstance(one.modality, Text):
        usual, most = 2, MOST_TEXTS
    elif not one.is_pictures:
        usual = 9
    return Number(label="How many", value=usual, least=1, most=most, flags=("-n",))


def seeded() -> Seed:
    """Return the seed as a control."""
    hint = "The same seed draws the same again."
    return Seed(label="Seed", hint=hint, value=0, least=0, most=MOST_SEED, flags=("--seed",))


def effort(one: Opened) -> dict[str, Control]:
    """Return the number of network calls, of a process in time."""
    about = one.about
    if about is None or not in_time(one):
        return {}
    hint = "Network calls for each sample: more is slower and more precise."
    usual = min(about.sampling.calls, MOST_CALLS)
    return {"calls": Number(label="Calls", hint=hint, value=usual, least=2, most=MOST_CALLS, flags=("--calls",))}


def in_time(one: Opened) -> bool:
    """Tell whether samples form over time."""
    return one.about is not None and one.about.family.in_time


def _solvers(one: Opened) -> dict[str, Control]:
    if one.about is None or not in_time(one) or one.about.path.affine_schedule is None:
        return {}
    options = (USUAL, *(name for name in SOLVERS if name != "dopri5"))
    return {"solver": Choice(label="Solver", options=options, value=USUAL, flags=("--solver",))}


def _tab(one: Opened, place: Place) -> Tab:
    controls = {
        "n": many(one, place.limits),
        **guides(one),
        **effort(one),
        **_solvers(one),
        "seed": seeded(),
    }

    def does(answers: Answers, tell: Tell) -> Outcome:
        solver = answers.get("solver", USUAL)
        solver = None if solver == USUAL else solver
        drawn, file = drawn_of(one, place, answers, tell, calls=answers.get("calls"), solver=solver)
        return outcome(one, drawn, file)

    return Tab(
        about="Draw new samples from the model.",
        controls=controls,
        does=does,
        shows=kinds_of(one),
        button="Draw",
    )


SAMPLE = Ability(name="Sample", has=lambda one, place: one.is_plain, tab=_tab)
