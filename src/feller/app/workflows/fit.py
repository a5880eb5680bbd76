"""Fit: from data to a run folder."""

import contextlib
import functools
import inspect
import pathlib
import sys
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar, cast

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.evaluate import evaluate
from feller.app.workflows.fitting.closed_form import finding
from feller.app.workflows.fitting.plan_fit import Begun, as_read, begin
from feller.app.workflows.fitting.resume import go_on
from feller.app.workflows.fitting.run_training import learn, reporting
from feller.app.workflows.fitting.training_setup import prepare
from feller.app.workflows.hugging_face import outdated
from feller.app.workflows.next_steps import evaluating
from feller.app.workflows.private.budget import Search, earlier_lines
from feller.app.workflows.private.privacy_config import Guarantee, Wish
from feller.app.workflows.run_config import Asked, elsewhere, older_example, parts
from feller.app.workflows.run_status import run_numbers
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run, as_run, new_run
from feller.core.serialization import closest
from feller.core.user_code import blamed, place_of
from feller.data.batches import DataBundle
from feller.data.loading.in_memory import DataSource, Kept, is_given, keep, said_of
from feller.evaluation.effort import Effort
from feller.models.recipes.recipe import Recipe
from feller.networks.architecture import PLENTY, within
from feller.training.checkpoint import read_counters
from feller.training.engine import Engine, engine
from feller.training.objectives.one_shot import AtOnce

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
    wish: Wish | None = None,
    watched: int = 0,
    change: Callable[[Recipe], Recipe] = unchanged,
    fields: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    report: str | bool | None = None,
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
    recipe = place_of(recipe, "recipe") if callable(recipe) else recipe
    start_from = None if start_from is None else str(as_run(start_from).path)
    if is_given(data):
        _check_given(wish, resume=resume)
    # The first process chooses the folder: what it makes there must not look like an older run to the others.
    chosen_path = (
        new_run(out, data if isinstance(data, str) else "", resume=resume, overwrite=overwrite).path
        if here.is_first
        else ""
    )
    run = Run(pathlib.Path(here.share(str(chosen_path))))
    search = Search()
    in_memory: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    given = data if is_given(data) else None
    if given is not None:
        data, in_memory = _kept(given, run, here)
    data = None if data is None else str(data)
    if steps is not None or minutes is not None:
        change = functools.partial(_budgeted, change, steps, minutes)
    if resume:
        fixed: dict[str, Any] = {
            "data": data,
            "size": size,
            "longest": longest,
            "space": space,
            "vocabulary": vocabulary,
            "tokenizer": tokenizer,
            "target": target or None,
            "schema": schema,
            "seed": seed,
        }
        if wish is not None:
            raise UsageError("a resumed run keeps its privacy; leave --epsilon, --delta and --noise out")
        with tell.waiting("reading the data"):
            begun = go_on(run, fixed, recipe, change)
        if older_example(begun.asked.data, begun.asked.fingerprint) or elsewhere(begun.asked, begun.dataset):
            tell.say(
                f"the run is older than {begun.asked.data} as it is now, the same on every processor: it goes on as it"
                " would have up to rounding, not bit for bit"
            )
        if isinstance(begun.asked.private, Guarantee):
            _check_divides(adaptive=begun.asked.private.adaptive, here=here)
    else:
        if not data:
            raise UsageError(
                "expected data: a file, a folder, or example:NAME, which the command `feller data` lists, or, in Python"
                ", a DataFrame, an array or texts"
            )
        wanted = Asked(
            data=data,
            recipe=recipe or "auto",
            size=size or "",
            seed=seed or 0,
            longest=longest,
            space=space,
            project=project,
            vocabulary=vocabulary,
            target=target,
            tokenizer=tokenizer,
            start_from=start_from,
            schema=schema,
            watched=watched,
            fields=fields,
        )
        if wish is not None:
            _check_divides(adaptive=wish.adaptive, here=here)  # before anything is spent
            wish = replace(wish, key=here.secret())
        with search.kept(run, writes=here.is_first), tell.waiting(f"reading {data}"), in_memory:
            begun = begin(wanted, wish, change, search.paid, tell, given)
    here.check_alike("data (or, of a private fit, the same key, see XDG_DATA_HOME)", begun.asked.fingerprint)
    with search.kept(run, writes=here.is_first), in_memory:
        make = _maker(run, begun, here, tell, resume=resume)  # before anything is written
    here.wait()  # whoever refuses does so before anything is written
    with run.claim(resume=resume, overwrite=overwrite) if here.is_first else contextlib.nullcontext():
        for line in earlier_lines(run, begun.asked.data, None if resume else as_read(begun.dataset, begun.recipe)):
            tell.say(line)
        here.wait()
        make()
        here.wait()  # until the first process has written what all will read
        numbers = _reported(run, begun, kind_of(report), tell)
        for line in outdated(run) if resume else ():
            tell.say(line)
    return run, numbers


def kind_of(report: str | bool | None) -> str | None:
    """Return the kind of a report: None is none, and True what is usual."""
    return {False: "none", True: None}[report] if isinstance(report, bool) else report


def _reported(run: Run, begun: Begun, report: str | None, tell: Tell) -> dict[str, Any]:
    """Judge what was learned; what fails in the user's own code, or is stopped, leaves the training and says so."""
    if report == "none":
        return run_numbers(run)
    effort = Effort.of_report(report, 0.0 if report else read_counters(run)["seconds"])
    try:
        with reporting("the training", evaluating(run, begun.asked, {})):
            loaded = DataBundle(
                *parts(begun.asked, begun.dataset), as_read(begun.dataset, begun.recipe), begun.asked.fingerprint
            )
            return evaluate(run, bundle=loaded, effort=effort, tell=tell)
    except Exception as error:
        said = str(error) if isinstance(error, InputError | UsageError) else blamed(error)
        if not begun.asked.code or said is None:
            raise
        again = evaluating(run, begun.asked, {})
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


def _check_divides(*, adaptive: bool, here: Engine) -> None:
    """Refuse a clip that needs what several processes do not tell each other.

    Raises:
        UsageError: Then, in all of them.
    """
    if adaptive and here.ranks > 1:
        raise UsageError("--clip adaptive needs the lengths of all gradients in one process; name a length, such as 1")


def _check_given(wish: Wish | None, *, resume: bool) -> None:
    """Refuse data in memory where a copy of them would do harm, or nothing.

    Raises:
        UsageError: Then.
    """
    if wish is not None:
        raise UsageError("a private fit reads its rows from a file, so that the run holds no copy; write them to one")
    if resume:
        raise UsageError("a resumed run knows its data; leave them out")


def _kept(data: Any, run: Run, here: Engine) -> tuple[str, Kept]:
    """Let the first process write data that are in memory where the run will be, for later commands."""
    made = here.is_first and not run.path.exists()
    place = here.share(str(keep(data, run.path)) if here.is_first else "")
    return place, Kept(pathlib.Path(place), said_of(data), made)


def _budgeted(change: Callable[[Recipe], Recipe], steps: int | None, minutes: float | None, recipe: Recipe) -> Recipe:
    """Give a recipe its budget before the last word on it."""
    return change(with_budget(recipe, steps=steps, minutes=minutes))


def _maker(run: Run, begun: Begun, here: Engine, tell: Tell, *, resume: bool) -> Callable[[], None]:
    """Return what makes the model: a training, or one look at the rows, which the first process takes alone."""
    objective, train = begun.recipe.objective, begun.recipe.train
    if objective.one_shot:
        return finding(run, begun, cast(AtOnce, objective), tell) if here.is_first else lambda: None
    if train.steps is None and train.minutes is None:
        raise UsageError("expected a budget: --steps or --minutes")
    most = run.state.stat().st_size + PLENTY if resume and run.state.is_file() else sys.maxsize
    ready = within(most, lambda: prepare(run, begun, here))
    return functools.partial(learn, run, ready, resume=resume, here=here, tell=tell)


def with_budget(recipe: Recipe, *, steps: int | None = None, minutes: float | None = None) -> Recipe:
    """Return the recipe with another budget."""
    if steps is not None:
        return replace(recipe, train=replace(recipe.train, steps=steps, minutes=None))
    if minutes is not None:
        return replace(recipe, train=replace(recipe.train, steps=None, minutes=minutes))
    return recipe
