"""Registry of modalities, with the defaults of each for commands, reports and the web page."""

import importlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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

if TYPE_CHECKING:  # slow imports; each is repeated where it is used
    from feller.app.workflows.reporting.evaluation_request import EvaluationRequest
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
"""Number of examples in a report figure for user-defined modalities."""
MAX_REPORT_SAMPLES, MAX_LARGE_REPORT_SAMPLES = 1000, 300
"""Maximum number of samples for the metrics of a report: for examples of up to 1,024 values, and for larger
examples."""


def lazy_function(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports and calls the function `name` of `module`.

    This postpones slow imports of evaluation modules.
    """

    def called_later(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module(f"feller.{module}"), name)(*args, **kwargs)

    return called_later


def draw_pair(first: Dataset, second: Dataset, behind: Dataset | None = None) -> ImagePair:
    """Draw each of two data sets as an image with the `show` method of its modality, without a common scale.

    `behind` is ignored; other functions with the same arguments draw it in the background.
    """
    return tuple(dataset.modality.show(dataset.values, dataset.given) for dataset in (first, second))  # type: ignore[return-value]


def max_report_samples(data: Dataset, seconds: float | None) -> int:
    """Return the number of samples to evaluate for a report: fewer if one example has over 1,024 values.

    Args:
        data: Data set whose first example gives the number of values.
        seconds: Time limit of the evaluation, which this function ignores.
    """
    return (
        MAX_REPORT_SAMPLES if sum(leaf[0].numel() for leaf in leaves(data.values)) <= 1024 else MAX_LARGE_REPORT_SAMPLES
    )


def label_of(data: Dataset) -> Tensor | None:
    """Return the class label of each example; None if the data have no class labels."""
    return data.given.get("label")


def no_condition_examples(spec: "ModelSpec", first: Dataset) -> Iterator[tuple[str, str]]:
    """Yield nothing: the modality has no example conditions."""
    yield from ()


def no_marks(samples: Dataset) -> Bool[np.ndarray, " n"] | None:
    """Return None, because the modality has no validity rule for samples."""
    return None


@dataclass(frozen=True)
class Display:
    """Settings of a modality for displaying samples on the web page."""

    form: str = "pictures"
    """Kind of output: pictures, table or words."""
    n: int = 9
    """Default number of samples."""
    max_n: int = 256
    """Maximum number of samples per request."""
    max_animated: int = 0
    """Maximum number of samples in an animation of the sampling process; 0 if samples cannot be animated."""


STRUCTURES = "evaluation.attacks.structure_distances"
DEFAULT_DISTANCE = lazy_function(STRUCTURES, "default_distance")


def apart_as(name: str) -> "Callable[[Modality], ExampleDistance]":
    """Return a function from a modality, which it ignores, to a new distance object.

    The object is an instance of the class `name` of the module `structure_distances`.
    """
    return lambda modality: lazy_function(STRUCTURES, name)()


@dataclass(frozen=True, kw_only=True, eq=False)
class Registration:
    """Defaults and functions of one modality for commands, reports and the web page."""

    recipe: "str | Callable[[Dataset, str], Recipe]" = ""
    """Name of the default recipe, or a function that chooses a recipe; empty if there is no default."""
    choose_recipe: "Callable[[Dataset, str], str] | None" = None
    """Function (dataset, size) -> name of the default recipe; None to use `recipe` for all data."""
    recipe_of_family: Mapping[str, str] = field(default_factory=dict)
    """Name of the default recipe for the continued training of a model, by the name of its family, or of the class of
    its network."""
    measure: "Measure | None" = None
    """Function (samples, training set, held-out data, rng) -> metrics of the samples; None if a trained classifier
    provides the metrics, as for images."""
    measure_unseen: "Measure | None" = None
    """Function like `measure`, for runs without a training set; None if the metrics require the training set."""
    evaluate: "Callable[[EvaluationRequest], dict[str, Any]] | None" = None
    """Function that evaluates the model, writes the report and returns the metrics; None to use the default evaluation,
    which compares samples with real data."""
    output: str = "samples"
    """Kind of output of `feller sample`: samples, documents or speech."""
    display: Display = Display()
    beside: Callable[[Dataset, Dataset, Dataset | None], ImagePair] = draw_pair
    """Function (first, second, background) -> images of the first and second data set at the same scale, with the
    background points in grey if the modality supports them."""
    max_samples: Callable[[Dataset, float | None], int] = max_report_samples
    """Function (training set, time limit in seconds) -> number of samples for an evaluation."""
    page_size: int | None = None
    """Number of examples in a report figure; None if the number is not fixed."""
    label: Callable[[Dataset], Tensor | None] = label_of
    """Function that returns the class label of each example; the examples in a report are sorted by label."""
    figures: Callable[[Any, dict[str, Any]], list[tuple[str, Image.Image]]] | None = None
    """Function (comparison, metrics) -> captioned figures of a report; None for the default figures, which show samples
    next to real data."""
    cells: "Callable[..., tuple[dict[str, Any], tuple[ReportTable, ...]]] | None" = None
    """Function that compares the cells of a sampled table, as written to a file, with the cells of the training file,
    and returns metrics."""
    next_steps: str = ""
    """Key of the modality's suggested commands in `next_steps.COMMAND_TEMPLATES`; by default it is chosen by the file
    format."""
    condition_examples: "Callable[[ModelSpec, Dataset], Iterator[tuple[str, str]]]" = no_condition_examples
    """Function that yields example conditions KEY=VALUE, each with a description of the resulting samples."""
    valid: Callable[[Dataset], Bool[np.ndarray, " n"] | None] = no_marks
    """Function that returns one validity flag per sample, or None if the modality has no validity rule or a package is
    missing."""
    valid_needs: str = ""
    """Names of the packages that `valid` requires."""
    distance: "Callable[[Modality], ExampleDistance | None]" = DEFAULT_DISTANCE
    """Function from a modality to the distance between examples that is used to detect copies; it returns None if a
    package is missing."""


def require_modality(model: "Model", required: type[RequiredModality], what: str) -> RequiredModality:
    """Return the modality of a model; raise an error if it is not of the class `required`.

    Args:
        model: Any model.
        required: Class of the modality.
        what: Reason for the requirement in the error message, as a clause such as "voices require a model of speech".

    Raises:
        UsageError: If the modality is of another class.
    """
    modality = model.spec.modality
    if (view := modality.view(required)) is not None:
        return view
    raise UsageError(f"{what}; the data of this model are {modality.display_name}", remedy="Remove these options")


USER_REGISTRATIONS: dict[type[Modality], Registration] = {}
"""User-defined modality class -> its registration."""


def registration_of(modality: Modality) -> Registration:
    """Return the registration of a modality.

    The registration of a built-in modality is in the module of this package that is named like the modality's package
    in `feller.data`.

    Raises:
        InputError: If the modality is user-defined and lacks a required method or attribute.
    """
    modality_class = type(modality)
    module_parts = modality_class.__module__.split(".")
    if module_parts[:2] == ["feller", "data"]:
        return importlib.import_module(f"feller.app.modalities.{module_parts[2]}").REGISTRATIONS[modality_class]
    if modality_class not in USER_REGISTRATIONS:
        register_modality(modality_class)
    return USER_REGISTRATIONS[modality_class]


@dataclass_transform(frozen_default=True)
def register_modality(kind: ModalityClass) -> ModalityClass:
    """Register a user-defined modality class and make it a frozen dataclass; can be used as a decorator.

    Raises:
        InputError: If the class lacks a method or an attribute.
    """
    from feller.evaluation.metrics import add_metric

    is_plain = isinstance(kind, type) and issubclass(kind, Modality) and "__dataclass_fields__" not in vars(kind)
    modality_class: Any = dataclass(frozen=True)(kind) if is_plain else kind
    check_class(modality_class)
    if "display_name" not in vars(modality_class):
        modality_class.display_name = modality_class.name
    for metric in modality_class.metrics:
        add_metric(metric.__name__, metric.__doc__ or "")
    USER_REGISTRATIONS[modality_class] = Registration(
        recipe=modality_class.recipe, measure=_user_metrics, page_size=USER_PAGE_SIZE
    )
    return modality_class


def _name_of(recipe: "str | Callable[[Dataset, str], Recipe]") -> str:
    """Return the name of a recipe, or `file.py:function` for a user-defined one."""
    from feller.models.recipes.registry import RECIPES

    if isinstance(recipe, str):
        return recipe
    return next((name for name, function in RECIPES.items() if function is recipe), None) or import_path(
        recipe, "recipe"
    )


def _class(reference: str) -> Callable[..., Any]:
    try:
        return load_function(reference, what="class")
    except UsageError as error:
        raise error.with_context(argument="modality") from error


def load_modality(place: str) -> type[Modality]:
    """Load the modality class at `file.py:Class` and register it.

    Raises:
        UsageError: If the file does not define this class.
        InputError: If the file raises an error, or the class lacks a method or an attribute.
    """
    modality_class: Any = check_class(_class(place))
    if modality_class not in USER_REGISTRATIONS:
        register_modality(modality_class)
    return modality_class


def _user_metrics(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Return the metrics of a user-defined modality for samples and, as their floors, for as many training examples."""
    from feller.evaluation.comparison import FLOORS, compare_sets, subsample

    sets = compare_sets(samples, train, held_out, rng)
    modality, metrics = train.modality, dict[str, float | str | None]()
    floor_rngs = [rng.fold_in("floor", i) for i in range(FLOORS if len(train) > len(sets.samples) else 1)]
    floor_samples = [subsample(train, len(sets.samples), stream) for stream in floor_rngs if sets.floor is not None]
    for metric in type(modality).metrics:
        name = metric.__name__
        with user_call(modality, "metrics"):
            metrics[name] = _metric_value(metric, sets.samples, sets.real)
            floors = [_metric_value(metric, floor_sample, sets.real) for floor_sample in floor_samples]
        metrics[f"{name}_floor"] = statistics.fmean(floors) if floors else None
    return metrics


def _metric_value(metric: Callable[[Any, Any], float], samples: Dataset, real: Dataset) -> float:
    value = metric(samples.values, real.values)
    try:
        return float(torch.as_tensor(value, dtype=torch.float64).reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        shape = [*value.shape] if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise InputError(
            argument=qualified_name(metric), expected="one number", found=str(shape), remedy="Return a float"
        ) from error


def find_recipe(name: str, data: Dataset, size: str, start_model: "Model | None" = None) -> "tuple[str, Recipe]":
    """Return the name of a recipe and the recipe.

    Args:
        name: Name of a built-in recipe; `auto` for the default of the modality, or `file.py:function` for a function
            (data, size) that returns a recipe.
        data: Training data, from which the recipe derives shapes and defaults.
        size: Size of the network and the training budget, one of `SIZES`.
        start_model: Trained model from whose weights training starts, or the teacher of a recipe such as `distil`;
            None to start from random weights.

    Raises:
        UsageError: If the name is unknown, the recipe does not have the size, or it needs `start_model` but it is None.
        InputError: If a user file cannot be read, or its function does not return a recipe.
    """
    from feller.models.recipes.registry import (
        FLOW_MAPS,
        RECIPES,
        SECOND_STAGES,
        STARTED_RECIPES,
        check_size,
        list_functions,
    )
    from feller.models.recipes.stages import finetune_from

    default = default_recipe(data, size)
    if name == "auto" and default:
        name = default if start_model is None else _recipe_of_family(data, start_model) or default
    adapts_default = name in SECOND_STAGES or name in FLOW_MAPS
    check_size(default if adapts_default else name, size)
    if name.endswith(".py"):
        raise UsageError(f"{name}:FUNCTION; {list_functions(name)}", name, argument="recipe")
    if ":" in name:
        return name, _own_recipe(name, data, size)
    if not default and (name == "auto" or adapts_default):
        raise UsageError(
            f"no built-in recipe for {data.modality.display_name}", remedy="Use your own: --recipe file.py:function"
        )
    if adapts_default:
        first_stage = _own_recipe(default, data, size) if ":" in default else RECIPES[default](data, size)
        if name in FLOW_MAPS:
            return name, FLOW_MAPS[name](first_stage, start_model)
        if start_model is None:
            raise UsageError(
                f"the recipe {name} needs a trained model", remedy="Give the run of this model with --start-from"
            )
        return name, SECOND_STAGES[name](first_stage, start_model)
    if name in STARTED_RECIPES:
        if start_model is None:
            raise UsageError(
                argument="start_from",
                expected=f"the run of a model whose weights the recipe {name} needs",
                found="none",
                remedy="Import a model with feller import FOLDER, and give its run with --start-from",
            )
        return name, STARTED_RECIPES[name](data, size, start_model)
    if name not in RECIPES:
        names = [*RECIPES, *STARTED_RECIPES, *SECOND_STAGES, *FLOW_MAPS, "auto"]
        raise UsageError.unknown_name("recipe", name, names)
    if start_model is not None and start_model.spec.modality.has_vocabulary and not data.modality.has_vocabulary:
        raise UsageError(
            argument="start_from",
            expected=f"a model of {data.modality.display_name} for the recipe {name}",
            found=f"a model of {start_model.spec.modality.display_name} that {start_model.family.describe()}",
            remedy="Tables can start from autoregressive language models, such as GPT-2, with --recipe auto",
        )
    recipe = RECIPES[name](data, size)
    return name, recipe if start_model is None else finetune_from(recipe, start_model)


def default_recipe(data: Dataset, size: str) -> str:
    """Return the name of the default recipe for a dataset and a size of the model; empty if there is none."""
    if data.target is not None:
        return "regressor"
    if data.modality.own_recipe:
        return data.modality.own_recipe
    registration = registration_of(data.modality)
    choose = registration.choose_recipe
    return _name_of(registration.recipe) if choose is None else choose(data, size)


def _recipe_of_family(data: Dataset, start_model: "Model") -> str:
    """Return the default recipe for the continued training of a model; empty if it does not depend on the family."""
    if data.target is not None or data.modality.own_recipe:
        return ""
    names = registration_of(data.modality).recipe_of_family
    keys = (type(start_model.spec.architecture).__name__, start_model.family.name)
    return next((names[key] for key in keys if key in names), "")


def _own_recipe(name: str, data: Dataset, size: str) -> "Recipe":
    from feller.models.recipes.recipe import Recipe

    function = load_function(name, ("data", "size"))
    recipe = function(data, size)
    if not isinstance(recipe, Recipe):
        line = source_line(function)
        location = f"{name}{f' ({line})' if line else ''}"
        raise InputError("a function that returns a Recipe", type(recipe).__name__, argument="recipe", place=location)
    return recipe
