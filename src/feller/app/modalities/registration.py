"""What commands, reports and the page do with one kind of data."""

import importlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.rng import Rng
from feller.core.user_code import import_path, load_function, qualified_name, source_line
from feller.data.loading.user_modality import check_class, user_call
from feller.data.modality import Dataset, Modality

if TYPE_CHECKING:  # what takes long to load is loaded by who does it
    from feller.app.workflows.reporting.evaluate_non_generative import EvaluationRequest
    from feller.evaluation.attacks.example_distances import ExampleDistance
    from feller.evaluation.report.report_page import ReportTable
    from feller.evaluation.sample_quality import Measure
    from feller.models.model import Model
    from feller.models.recipes.recipe import Recipe
    from feller.models.spec import ModelSpec

ModalityClass = TypeVar("ModalityClass", bound=type)
RequiredModality = TypeVar("RequiredModality", bound=Modality)
ImagePair = tuple[Image.Image, Image.Image]
USER_PAGE_SIZE = 64
"""Examples of a modality of one's own that a report draws."""
MAX_REPORT_SAMPLES, MAX_LARGE_REPORT_SAMPLES = 1000, 300
"""Drawn for the numbers of a report, of states up to 1,024 numbers and of larger ones."""


def lazy_function(module: str, name: str) -> Callable[..., Any]:
    """Return a function that is imported when it is called first: what measures data takes long to load."""

    def called_later(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(f"feller.{module}"), name)(*args, **kwargs)

    return called_later


def draw_pair(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw two sets, each in the way of its modality."""
    return tuple(one.modality.show(one.values, one.given) for one in (first, second))  # type: ignore[return-value]


def max_report_samples(data: Dataset, seconds: float | None) -> int:
    """Return how many samples are drawn for a report."""
    return (
        MAX_REPORT_SAMPLES if sum(leaf[0].numel() for leaf in leaves(data.values)) <= 1024 else MAX_LARGE_REPORT_SAMPLES
    )


def label_of(data: Dataset) -> Tensor | None:
    """Return the class of each example; None without any."""
    return data.given.get("label")


def no_condition_examples(spec: "ModelSpec", first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield nothing that can be given beside conditions."""
    yield from ()


def no_marks(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    """Return nothing: no rule tells which of them are valid."""
    return None


@dataclass(frozen=True)
class Display:
    """How samples of one kind of data are shown on the page."""

    form: str = "pictures"
    """pictures, table or words."""
    n: int = 9
    """Samples at first."""
    max_n: int = 256
    """Samples at once."""
    max_animated: int = 0
    """Samples that are watched as they form, at once; 0 where they cannot be."""


STRUCTURES = "evaluation.attacks.structure_distances"
DEFAULT_DISTANCE = lazy_function(STRUCTURES, "default_distance")


def apart_as(name: str) -> "Callable[[Modality], ExampleDistance]":
    """Return what makes the distance between structures with a name."""
    return lambda kind: lazy_function(STRUCTURES, name)()


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """What commands, reports and the page do with one kind of data; reading and writing is its modality's."""

    recipe: "str | Callable[[Dataset, str], Recipe]" = ""
    """Of a fit that names none: a name, or a function; empty where none suits."""
    measure: "Measure | None" = None
    """Compares samples with real data; None where a judge that learns from the data does, as of pictures."""
    measure_unseen: "Measure | None" = None
    """The same where nothing is known of the training data; None where they are needed."""
    evaluate: "Callable[[EvaluationRequest], dict[str, Any]] | None" = None
    """Evaluates a run in place of all that is done with samples of single examples."""
    output: str = "samples"
    """samples, documents or speech: what `feller sample` draws."""
    display: Display = Display()
    beside: Callable[[Dataset, Dataset, Dataset | None], ImagePair] = draw_pair
    """Draws two sets at one scale, where what is drawn has lengths, with points in grey behind where it can."""
    max_samples: Callable[[Dataset, float | None], int] = max_report_samples
    """Training data and seconds that an evaluation may take -> samples that are drawn for it."""
    page_size: int | None = None
    """Examples that a picture of a report holds, where that is a fixed number."""
    label: Callable[[Dataset], Tensor | None] = label_of
    """Classes by which examples of a report are sorted."""
    figures: Callable[[Any, dict[str, Any]], list[tuple[str, Image.Image]]] | None = None
    """Draws what was judged, and its numbers, for a report; None where samples stand beside real data."""
    cells: "Callable[..., tuple[dict[str, Any], tuple[ReportTable, ...]]] | None" = None
    """Measures what was judged as it is written in files, beside those that the run was fitted to."""
    next_steps: str = ""
    """Which commands come next, in `next_steps.COMMAND_TEMPLATES`; by default those for its files."""
    condition_examples: "Callable[[ModelSpec, Dataset], Iterator[tuple[str, str]]]" = no_condition_examples
    """Yields KEY=VALUE that can be given beside classes, as in some examples, and what comes of it."""
    valid: Callable[[Dataset], Bool[np.ndarray, " n"] | None] = no_marks
    """Tells which samples are valid; None where no rule tells, or a package is missing."""
    valid_needs: str = ""
    """Package that `valid` needs."""
    distance: "Callable[[Modality], ExampleDistance | None]" = DEFAULT_DISTANCE
    """How far examples are apart, by which copies are found; None where a package is missing."""


def require_modality(model: "Model", required: type[RequiredModality], what: str) -> RequiredModality:
    """Return the modality of a model.

    Args:
        model: Of any data.
        required: What the modality must be.
        what: Says, as in "voices are of speech", for which flags that is.

    Raises:
        UsageError: If it is another.
    """
    kind = model.spec.modality
    if (view := kind.view(required)) is not None:
        return view
    raise UsageError(f"{what}, and this model's data are {kind.display_name}", remedy="Leave them out")


USER_REGISTRATIONS: dict[type[Modality], Registration] = {}
"""The modalities of the user's own."""


def registration_of(modality: Modality) -> Registration:
    """Return what is done with a kind of data: the file here that is called like its folder in `feller.data` says it.

    Raises:
        InputError: If it is one of the user's own that lacks something.
    """
    kind = type(modality)
    module_parts = kind.__module__.split(".")
    if module_parts[:2] == ["feller", "data"]:
        return importlib.import_module(f"feller.app.modalities.{module_parts[2]}").REGISTRATIONS[kind]
    if kind not in USER_REGISTRATIONS:
        register_modality(kind)
    return USER_REGISTRATIONS[kind]


@dataclass_transform(frozen_default=True)
def register_modality(kind: ModalityClass) -> ModalityClass:
    """Register a modality of your own; a decorator, which makes it a frozen dataclass where it is none.

    Raises:
        InputError: If it lacks a method or an attribute.
    """
    from feller.evaluation.metrics import add_metric

    made: Any = kind if "__dataclass_fields__" in vars(kind) else dataclass(frozen=True)(kind)
    check_class(made)
    if "display_name" not in vars(made):
        made.display_name = made.name
    for metric in made.metrics:
        add_metric(metric.__name__, metric.__doc__ or "")
    USER_REGISTRATIONS[made] = Registration(recipe=made.recipe, measure=_user_metrics, page_size=USER_PAGE_SIZE)
    return made


def _name_of(recipe: "str | Callable[[Dataset, str], Recipe]") -> str:
    """Return the name of a recipe, or `file.py:function` of one of the user's own."""
    from feller.models.recipes.registry import RECIPES

    if isinstance(recipe, str):
        return recipe
    return next((name for name, function in RECIPES.items() if function is recipe), None) or import_path(
        recipe, "recipe"
    )


def _class(place: str) -> Callable[..., Any]:
    """Return the class that `file.py:Class` names; errors as for `load_modality`."""
    try:
        return load_function(place, what="class")
    except UsageError as error:
        raise error.with_context(argument="modality") from error


def load_modality(place: str) -> type[Modality]:
    """Return the modality that `file.py:Class` names.

    Raises:
        UsageError: If there is no such class.
        InputError: If the file does not run, or the class lacks something.
    """
    kind: Any = check_class(_class(place))
    if kind not in USER_REGISTRATIONS:
        register_modality(kind)
    return kind


def _user_metrics(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Measure samples by the metrics of the user's modality, and as many training examples for their floors."""
    from feller.evaluation.comparison import FLOORS, compare_sets, subsample

    sets = compare_sets(samples, train, held_out, rng)
    modality, numbers = train.modality, dict[str, float | str | None]()
    sizes = [rng.fold_in("floor", i) for i in range(FLOORS if len(train) > len(sets.samples) else 1)]
    floor_samples = [subsample(train, len(sets.samples), one) for one in sizes if sets.floor is not None]
    for metric in type(modality).metrics:
        name = metric.__name__
        with user_call(modality, "metrics"):
            numbers[name] = _metric_value(metric, sets.samples, sets.real)
            floors = [_metric_value(metric, one, sets.real) for one in floor_samples]
        numbers[f"{name}_floor"] = statistics.fmean(floors) if floors else None
    return numbers


def _metric_value(metric: Callable[[Any, Any], float], samples: Dataset, real: Dataset) -> float:
    value = metric(samples.values, real.values)
    try:
        return float(torch.as_tensor(value, dtype=torch.float64).reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        shape = [*value.shape] if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise InputError(
            argument=qualified_name(metric), expected="one number", found=str(shape), remedy="Return one"
        ) from error


def find_recipe(name: str, data: Dataset, size: str, start_model: "Model | None" = None) -> "tuple[str, Recipe]":
    """Return a recipe and its name: `auto` chooses by the kind of data, `file.py:function` is the user's own.

    Raises:
        UsageError: If the name or the size is unknown, or the recipe needs an older model and there is none.
        InputError: If a file of the user's own cannot be read, or its function is no recipe.
    """
    from feller.models.recipes.recipe import SIZES
    from feller.models.recipes.registry import RECIPES, SECOND_STAGES, list_functions
    from feller.models.recipes.stages import finetune_from

    if size not in SIZES:
        raise UsageError.unknown_name("size", size, SIZES)
    usual = "regressor" if data.target is not None else _name_of(registration_of(data.modality).recipe)
    name = usual if name == "auto" and usual else name
    if name.endswith(".py"):
        raise UsageError(f"{name}:FUNCTION; {list_functions(name)}", name, argument="recipe")
    if ":" in name:
        return name, _own_recipe(name, data, size)
    if not usual and name in ("auto", *SECOND_STAGES):
        raise UsageError(
            f"no recipe of ours suits {data.modality.display_name}", remedy="Name your own: --recipe file.py:function"
        )
    if name in SECOND_STAGES:
        if start_model is None:
            raise UsageError(f"the recipe {name} learns from an older model", remedy="Name its run with --start-from")
        first = _own_recipe(usual, data, size) if ":" in usual else RECIPES[usual](data, size)
        return name, SECOND_STAGES[name](first, start_model)
    if name not in RECIPES:
        raise UsageError.unknown_name("recipe", name, [*RECIPES, *SECOND_STAGES, "auto"])
    recipe = RECIPES[name](data, size)
    return name, recipe if start_model is None else finetune_from(recipe, start_model)


def _own_recipe(name: str, data: Dataset, size: str) -> "Recipe":
    from feller.models.recipes.recipe import Recipe

    function = load_function(name, ("data", "size"))
    recipe = function(data, size)
    if not isinstance(recipe, Recipe):
        line = source_line(function)
        place = f"{name}{f' ({line})' if line else ''}"
        raise InputError("a function that returns a Recipe", type(recipe).__name__, argument="recipe", place=place)
    return recipe
