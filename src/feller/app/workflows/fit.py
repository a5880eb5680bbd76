"""Fit: from data to a run folder."""

import contextlib
import functools
import inspect
import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar, cast

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fitting.auxiliary_networks import make_parts
from feller.app.workflows.fitting.closed_form import Look, look, set_up_look
from feller.app.workflows.fitting.plan_fit import FitPlan, RecipeRequest, as_read, plan_fit
from feller.app.workflows.fitting.resume import plan_resumed
from feller.app.workflows.fitting.run_training import TrainingJob, record, reporting, restore, run_training, stoppable
from feller.app.workflows.fitting.training_setup import set_up_training
from feller.app.workflows.hugging_face import outdated
from feller.app.workflows.next_steps import evaluating
from feller.app.workflows.private.budget import earlier_lines
from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_data import data_access
from feller.app.workflows.run_config import Asked, elsewhere, older_example
from feller.app.workflows.run_status import run_numbers
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, as_run, new_run
from feller.core.serialization import closest
from feller.core.user_code import blamed, place_of
from feller.data.batches import DataBundle
from feller.data.loading.in_memory import DataSource, Kept, is_given, keep, said_of
from feller.evaluation.effort import Effort
from feller.models.recipes.recipe import Recipe
from feller.networks.architecture import PLENTY
from feller.training.checkpoint import read_counters
from feller.training.engine import Engine, engine
from feller.training.objectives.one_shot import AtOnce
from feller.training.trainer import Callback

P = ParamSpec("P")
R = TypeVar("R")
PRIVATE = ("epsilon", "delta", "noise", "clip")
"""What a private fit is asked for with on the command line."""
ALIKE = 0.7
"""How alike two names must be for one to be meant by the other."""


def known_by_name(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which refuses arguments that it does not take with the name that was meant."""
    names = [*inspect.signature(function).parameters]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names:
                raise UsageError(f"{function.__name__} takes no argument {name!r}{_instead(name, names)}")
        return function(*args, **kwargs)

    return checked


def _instead(name: str, names: list[str]) -> str:
    """Say what to do instead."""
    if name in PRIVATE:
        command = "`feller fit people.csv --epsilon 4 --out runs/people`"
        return f": a private fit takes files only, by the command {command}"
    if close := closest(name, names, ALIKE):
        return f": did you mean {close!r}?"
    return "; help(feller.fit) lists those it takes"


def unchanged(recipe: Recipe) -> Recipe:
    """Return a recipe as it is."""
    return recipe


@known_by_name
def fit(
    data: DataSource | None = None,
    *,
    recipe: str | Callable[..., Recipe] | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    out: str | None = None,
    size: str | None = None,
    seed: int | None = None,
    longest: int | None = None,
    space: str | None = None,
    project: bool = False,
    vocabulary: str | None = None,
    target: tuple[str, ...] = (),
    tokenizer: str | None = None,
    start_from: str | Run | None = None,
    schema: str | None = None,
    wish: PrivacyConfig | None = None,
    watched: int = 0,
    change: Callable[[Recipe], Recipe] = unchanged,
    fields: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    report: str | bool | None = None,
    callbacks: Sequence[Callback] = (),
    tell: Tell = SILENT,
) -> tuple[Run, dict[str, Any]]:
    """Fit a model to data and write a run folder.

    Args:
        data: A file, a folder, or `example:NAME`; or a DataFrame, an array or tensor, a list of texts, or a dict of
            them, of which the run keeps a copy. A resumed run knows its own.
        recipe: A recipe's name, `auto` (the default), or `file.py:function`; or such a function, imported from a file
            of yours, which the run remembers.
        steps: How many steps to train; by default as the recipe says.
        minutes: How long to train, instead.
        out: The run folder; by default a new one under `runs`, or the newest if resumed.
        size: tiny, small (the default) or base.
        seed: Of all randomness; by default 0, or that of the run that goes on.
        longest: Longer side to bring pictures to, by default at most 64; most residues of a chain, by default 128;
            symbols of a text, by default 128.
        space: Where the data live, such as sphere or torus, or a file with a mesh; by default what they look like.
        project: Move points that are off their space to it, instead of refusing them.
        vocabulary: Symbols of a text: characters, bytes, subwords or subwords:NUMBER; by default characters, or bytes
            where there are more than 256 different ones.
        target: What a regressor is to tell of the data, by name.
        tokenizer: Run of a tokeniser of pictures, `palette`, `tiles` or `learned`, where one is trained first; by
                default tiles, where pictures consist of few of them.
        start_from: Run of an older model whose weights are the first, and from which some recipes learn.
        schema: File that says what is public about a table; by default it is guessed, or found privately.
        wish: Privacy of each row; none by default.
        watched: Rows of which a private training keeps account, of what each step tells about them.
        change: Last word on the recipe, such as other steps or rates.
        fields: The words of a command line that `change` does, which the report repeats.
        resume: Go on with the run in `out`.
        overwrite: Replace the run in `out`.
        report: full, quick, or none (or False); by default in proportion to the training, a fifth of its time and two
            minutes at most.
        callbacks: Hear of the steps of a training, and may stop it.
        tell: Hears how it goes.

    Returns:
        The run, and the numbers of its report.

    Raises:
        InputError: If data, run or disk are not what they must be.
        UsageError: If an argument is wrong.
        Interrupted: After Ctrl-C, with all saved.
    """
    _check_budget(steps, minutes)
    Effort.of_report(kind_of(report), 0.0)  # refuses one of no known kind
    here = engine()
    access = data_access(wish, here, resume=resume)
    recipe = place_of(recipe, "recipe") if callable(recipe) else recipe
    start_from = None if start_from is None else str(as_run(start_from).path)
    if is_given(data):
        access.check_in_memory()
        if resume:
            raise UsageError("a resumed run knows its data; leave them out")
    run = _run_of(data, out, here, resume=resume, overwrite=overwrite)
    in_memory: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    given = data if is_given(data) else None
    if given is not None:
        data, in_memory = _kept(given, run, here)
    wanted: dict[str, Any] = {
        "data": None if data is None else str(data),
        "size": size,
        "longest": longest,
        "space": space,
        "vocabulary": vocabulary,
        "tokenizer": tokenizer,
        "target": target or None,
        "schema": schema,
        "seed": seed,
    }
    request = RecipeRequest(name=recipe or "auto", size=size or "small", steps=steps, minutes=minutes, change=change)
    with access.spending(run, here), in_memory:
        if resume:
            with tell.waiting("reading the data"):
                plan = plan_resumed(run, wanted, recipe, request, here)
            _tell_moved(plan, tell)
        else:
            more = {"project": project, "start_from": start_from, "watched": watched, "fields": fields}
            asked = _asked(recipe, {**wanted, **more})
            with tell.waiting(f"reading {data}"):
                plan = plan_fit(asked, access, request, tell, given)
        here.check_alike("data (or, of a private fit, the same key, see XDG_DATA_HOME)", plan.asked.fingerprint)
        objective = plan.recipe.objective
        if objective.one_shot:
            ready: Look | TrainingJob = set_up_look(plan, cast(AtOnce, objective))
        else:
            most = run.state.stat().st_size + PLENTY if resume and run.state.is_file() else sys.maxsize
            ready = set_up_training(run, plan, here, most)
    here.wait()  # whoever refuses does so before anything is written
    with run.claim(resume=resume, overwrite=overwrite) if here.is_first else contextlib.nullcontext():
        for line in earlier_lines(run, plan.asked.data, None if resume else as_read(plan.dataset, plan.recipe)):
            tell.say(line)
        here.wait()
        if isinstance(ready, TrainingJob):
            _train(run, plan, ready, callbacks, here, tell, resume=resume)
        elif here.is_first:  # which looks at the rows alone
            look(run, ready, tell)
        here.wait()  # until the first process has written what all will read
        numbers = _reported(run, plan, kind_of(report), tell)
        for line in outdated(run) if resume else ():
            tell.say(line)
    return run, numbers


def _train(
    run: Run, plan: FitPlan, job: TrainingJob, callbacks: Sequence[Callback], here: Engine, tell: Tell, *, resume: bool
) -> None:
    """Train until the budget is spent.

    Raises:
        InputError: If the loss or the run is damaged.
        Interrupted: After Ctrl-C, with all saved.
    """
    access = plan.access
    restore(run, job, resume=resume, exhausted=access.exhausted, tell=tell)
    here.wait()  # until all have read what the first will write
    access.open(run, job.state.step, here)
    record(run, job, here, tell)
    with stoppable(job.resume_command):  # at once: what it has made is kept
        job = make_parts(run, plan, job, here, tell)
        access.teach(job, plan.asked.seed, here, tell)
        inputs = access.inputs(run, plan, job, here, tell)
    inputs = replace(inputs, callbacks=(*inputs.callbacks, *callbacks))
    run_training(run, job, inputs, here, tell)


def kind_of(report: str | bool | None) -> str | None:
    """Return the kind of a report: None is none, and True what is usual."""
    return {False: "none", True: None}[report] if isinstance(report, bool) else report


def _reported(run: Run, plan: FitPlan, report: str | None, tell: Tell) -> dict[str, Any]:
    """Judge what was learned; what fails in the user's own code, or is stopped, leaves the training and says so."""
    if report == "none":
        return run_numbers(run)
    effort = Effort.of_report(report, 0.0 if report else read_counters(run)["seconds"])
    read = as_read(plan.dataset, plan.recipe)
    try:
        with reporting("the training", evaluating(run, plan.asked, {})):
            bundle = DataBundle(*plan.split, read, plan.asked.fingerprint)
            return evaluate(run, bundle=bundle, effort=effort, tell=tell)
    except Exception as error:
        said = str(error) if isinstance(error, InputError | UsageError) else blamed(error)
        if not plan.asked.code or said is None:
            raise
        again = evaluating(run, plan.asked, {})
        raise InputError(f"{said}; the training is saved in {run.path}: mend it, and go on with: {again}") from error


def _check_budget(steps: Any, minutes: Any) -> None:
    """Refuse a budget that is none.

    Raises:
        UsageError: Then.
    """
    if steps is not None and minutes is not None:
        raise UsageError("steps and minutes exclude each other; choose one")
    if steps is not None and not (isinstance(steps, Integral) and int(steps) >= 1):
        raise UsageError(f"steps must be a whole number, at least 1, got {steps!r}")
    if minutes is not None and not (isinstance(minutes, Real) and float(minutes) > 0):
        raise UsageError(f"minutes must be a number above 0, such as 5, got {minutes!r}")


def _kept(data: Any, run: Run, here: Engine) -> tuple[str, Kept]:
    """Let the first process write data that are in memory where the run will be, for later commands."""
    made = here.is_first and not run.path.exists()
    place = here.share(str(keep(data, run.path)) if here.is_first else "")
    return place, Kept(pathlib.Path(place), said_of(data), made)


def _run_of(data: Any, out: str | None, here: Engine, *, resume: bool, overwrite: bool) -> Run:
    """Return the folder, which the first process chooses: what it makes there must not look like an older run."""
    name = data if isinstance(data, str) else ""
    chosen = new_run(out, name, resume=resume, overwrite=overwrite).path if here.is_first else ""
    return Run(pathlib.Path(here.share(str(chosen))))


def _asked(recipe: str | None, wanted: dict[str, Any]) -> Asked:
    """Return what was asked of a new fit.

    Raises:
        UsageError: If no data were named.
    """
    if not wanted["data"]:
        raise UsageError(
            "expected data: a file, a folder, or example:NAME, which the command `feller data` lists, or, in Python"
            ", a DataFrame, an array or texts"
        )
    usual: dict[str, Any] = {"size": "", "seed": 0, "target": ()}
    known: dict[str, Any] = {**wanted, **{key: wanted[key] or usual[key] for key in usual}}
    return Asked(recipe=recipe or "auto", **known)


def _tell_moved(plan: FitPlan, tell: Tell) -> None:
    """Say so if a run that goes on is older than its data as they are now."""
    asked = plan.asked
    if older_example(asked.data, asked.fingerprint) or elsewhere(asked, plan.dataset):
        tell.say(
            f"the run is older than {asked.data} as it is now, the same on every processor: it goes on as it"
            " would have up to rounding, not bit for bit"
        )
