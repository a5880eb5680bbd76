"""From a run folder to samples."""

import pathlib
from collections.abc import Callable
from dataclasses import replace

from feller.data.modality import Dataset
from feller.data.table.mixed import Mixed
from feller.data.table.modality import Table
from feller.data.text.modality import Text
from feller.draws import Draws
from feller.errors import UsageError
from feller.generation import Known
from feller.journeys.sample_rows import sample_rows
from feller.journeys.tell import SILENT, Tell
from feller.model import Model, load_model
from feller.paths import Autoregressive, Choice, Graphical, Order
from feller.run import Run
from feller.train.engine import engine
from feller.tree import State


def sample(
    run: Run,
    n: int = 64,
    *,
    out: str | None = None,
    given: dict[str, str] | None = None,
    guidance: float = 1.0,
    solver: str | None = None,
    calls: int | None = None,
    choice: Choice | None = None,
    order: Order | None = None,
    jump: float | None = None,
    known: str | None = None,
    complete: str | None = None,
    weights: pathlib.Path | None = None,
    seen: Callable[[float, State], None] = lambda t, x: None,
    seed: int = 0,
    tell: Tell = SILENT,
) -> tuple[Dataset, pathlib.Path]:
    """Draw samples and write them.

    Args:
        run: Holds the model.
        n: Number of samples.
        out: A file whose ending decides the form, or a folder; by default `samples` in the run.
        given: Conditions by name, such as {"label": "7"}; others are drawn as often as in the training data.
        guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.
        solver: Name of a solver; by default the model's own.
        calls: Network calls per sample; dopri5 chooses its own.
        choice: How symbols are drawn from what the network says; by default as it says.
        order: Which masked symbols are revealed first; by default chance decides.
        jump: Share of the jumps in a superposition of flow and jumps, for models that can do both.
        known: Text to fill in: `___` stands for what is missing, an underscore a symbol, as does all after its end.
        complete: Table whose gaps are filled, in place of n new rows.
        weights: Which of the run's weights draw; by default their average.
        seen: Hears time and states of a batch on their way, of a process in time.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The samples, and where they are.

    Raises:
        InputError: If the run is damaged, or the disk is full.
        UsageError: If an argument is wrong.
    """
    if n < 1:
        raise UsageError(f"-n must be at least 1, got {n}")
    model = load_model(run, file=weights)
    model.network.to(engine().device)
    default = model.description.sampling
    if calls is not None and (solver or default.solver) == "dopri5":
        raise UsageError("dopri5 chooses its own number of calls; leave out --calls")
    sampling = replace(
        default,
        solver=solver or default.solver,
        calls=default.calls if calls is None else calls,
        choice=choice or default.choice,
        order=order or default.order,
        jump=default.jump if jump is None else jump,
    )
    draws, place = Draws(seed).named("sample"), pathlib.Path(out) if out else run.samples
    model.description.modality.check_form(place)
    if calls is not None and not isinstance(model.description.path, Autoregressive | Graphical):
        _, method, times = sampling.choose(model.description.path, model.description.space)
        used = method.calls * (len(times) - 1)
        if used < calls:
            tell.say(f"{sampling.solver} takes {method.calls} calls a step, so that {used} of {calls} are used")
    if isinstance(model.description.modality, Table):
        return sample_rows(model, n, place, given or {}, complete, sampling, draws, tell)
    if complete is not None:
        if isinstance(model.description.modality, Mixed):
            raise UsageError("this model draws all columns together, and fills no gaps; fit one with --recipe table")
        raise UsageError("--complete fills the gaps of a table, and this model's data are no table; leave it out")
    conditions, fixed = model.asked(n, given or {}, draws)
    tell.task("sampling")
    drawn = model.sample(
        n,
        given=conditions,
        fixed=fixed,
        guidance=guidance,
        sampling=sampling,
        known=None if known is None else _known(model, known, n),
        draws=draws,
        tell=tell.progress,
        seen=seen,
    )
    tell.done()
    drawn.modality.write(drawn.values, drawn.given, place)
    return drawn, place


def _known(model: Model, text: str, n: int) -> Known:
    """Return what a text says, for each sample.

    Raises:
        UsageError: If the model's data are no text.
    """
    modality = model.description.modality
    if not isinstance(modality, Text):
        raise UsageError(f"--known fills in text, and this model's data are {type(modality).__name__}; leave it out")
    values, kept = modality.known(text)
    return Known(values.expand(n, -1), kept.expand(n, -1))
