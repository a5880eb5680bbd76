"""Models built from user-defined networks, and checks of the outputs of these networks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from feller.core.errors import UsageError, check_integer, found_instead, warn
from feller.core.pytree import Cond, State, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.core.user_code import user_frame
from feller.data.arrays.modality import Arrays
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality, is_modality
from feller.data.points.euclidean_points import Points
from feller.models.families.model_family import ModelFamily
from feller.models.families.path_process import family_trained_by
from feller.models.families.sequence_models import AutoregressiveModel
from feller.models.model import Model
from feller.models.recipes.recipe import check_states
from feller.models.spec import ModelSpec, class_frequencies
from feller.networks.condition_dropout import check_null
from feller.networks.external import (
    CondDictCall,
    ExternalNetwork,
    ExternalNetworkModule,
    PositionalCall,
    detect_call_convention,
)
from feller.networks.unwrapping import evaluation_mode, null_values
from feller.paths import Path, VelocityPrediction
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space, Tokens
from feller.spaces.product import space_map
from feller.training.objective import ObjectiveConfig

REPEAT_TOLERANCE = 1e-4
"""Tolerance between the outputs of two calls with the same input, relative to the largest output value."""
BATCH_TOLERANCE = 1e-2
"""Tolerance between outputs at different batch sizes, on which the order of sums in torch kernels may depend."""
MIN_SCALE = 1e-3
"""Minimum output size to which REPEAT_TOLERANCE and BATCH_TOLERANCE are relative, as rounding of smaller outputs does
not matter."""


def check_network(model: Model) -> None:
    """Check the outputs of a network on a few states: shape, values, determinism and independence of examples.

    Raises:
        UsageError: If the network raises an error, modifies its inputs, is not deterministic, or mixes the examples of
            a batch, or if its output has the wrong shape or is not finite and real.
    """
    inputs = trial_inputs(model)
    output = tree_map(torch.clone, _checked_output(model, inputs))  # a stateful network may overwrite it later
    repeated = _checked_output(model, inputs)
    middle_row = tuple(tree_map(lambda leaf: leaf[1:2], tree) for tree in inputs)  # a row with two neighbours
    single_output = _checked_output(model, middle_row)
    if _differ(output, repeated, lambda leaf: REPEAT_TOLERANCE):
        raise UsageError(
            "two calls of the network with the same inputs differ: it uses random numbers or keeps state, but samples"
            " must depend on the seed alone",
            remedy="Remove the random numbers and the state; the network is called in eval mode",
        )
    if _differ(
        tree_map(lambda leaf: leaf[1:2], output), single_output, lambda leaf: max(BATCH_TOLERANCE, 8 * _eps(leaf))
    ):
        raise UsageError(
            "the output of the network for an example depends on other examples in the batch",
            remedy="Treat rows independently, without statistics over the batch axis",
        )


def trial_inputs(model: Model) -> tuple[State, Tensor, Cond]:
    """Return a small batch of example states, times and conditions for trial calls of a model's network."""
    spec, rng, n, device = model.spec, Rng(0).fold_in("trial"), 3, next(model.network.parameters()).device
    x = spec.space.sample_base(n, rng.stream("source"), device)
    x = spec.path.initial_state(x) if spec.family.is_process else x
    cond = spec.modality.add_derived_conditions(model.sample_conditions(n, {}, rng))
    return x, torch.linspace(0.25, 0.75, n, device=device), tree_map(lambda leaf: leaf.to(device), cond)


def _checked_output(model: Model, inputs: tuple[State, State, State]) -> State:
    """Call a network once and check its output."""
    x, _, cond = inputs
    shapes = tree_map(lambda leaf: list(leaf.shape), x)
    originals = [leaf.clone() for leaf in _named_inputs(inputs).values()]
    try:
        with torch.no_grad(), evaluation_mode(model.network):
            output = model.network(*inputs)
    except Exception as error:
        n = num_examples(x)
        conditions = "".join(f", {name} [{n}]" for name in cond)
        cause = user_frame(error) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise UsageError(
            argument="network",
            expected=f"an output for a state {shapes}, times [{n}]{conditions}",
            found=f"an error: {cause}",
            remedy="Support one of the calls network(x, t), network(x, t, label), network(x, t, given) or network(x)",
        ) from error
    for (name, leaf), original in zip(_named_inputs(inputs).items(), originals, strict=True):
        if not torch.equal(leaf, original):
            raise UsageError(
                f"the network modifies its input {name} in place",
                remedy="Return a new tensor, such as 0.5 * x instead of x.mul_(0.5)",
            )
    output_shapes = tree_map(lambda leaf: list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__, output)
    expected = space_map(_output_shape, model.spec.space, x)
    if output_shapes != expected:
        remedy = (
            "Put the vocabulary axis last, without the mask token"
            if expected != shapes
            else "Return the shape of the state"
        )
        raise UsageError(
            argument="network", expected=f"an output of shape {expected}", found=str(output_shapes), remedy=remedy
        )
    for leaf in leaves(output):
        if not leaf.is_floating_point():
            raise UsageError(
                f"the network returns {number_kind(leaf)} ({leaf.dtype})",
                expected="real numbers such as torch.float32",
                remedy="Return the dtype of the state",
            )
        if not bool(leaf.isfinite().all()):
            raise UsageError(
                f"the network returns {leaf[~leaf.isfinite()][0].item()} for a state of normal noise",
                expected="finite numbers",
                remedy="Check its weights",
            )
    return output


def _output_shape(space: Space, x: Tensor) -> list[int]:
    """Return the output shape for a state: with a vocabulary axis for tokens, else that of the state."""
    return [*x.shape, space.vocab_size] if isinstance(space, Tokens) else [*x.shape]


def _named_inputs(inputs: tuple[State, State, State]) -> dict[str, Tensor]:
    """Return all input tensors by the names that error messages use."""
    x, t, cond = inputs
    trees = {"the state x": x, "the times t": t, **cond}
    return {f"{name} {i}" if i else name: leaf for name, tree in trees.items() for i, leaf in enumerate(leaves(tree))}


def _differ(output: State, other: State, tolerance: Callable[[Tensor], float]) -> bool:
    """Return True if outputs differ by more than a tolerance, relative to the largest value of a leaf."""
    pairs = zip(leaves(output), leaves(other), strict=True)
    return any(bool((a - b).abs().max() > tolerance(a) * a.abs().max().clamp(min=MIN_SCALE)) for a, b in pairs)


def _eps(leaf: Tensor) -> float:
    return torch.finfo(leaf.dtype).eps


def number_kind(numbers: Tensor) -> str:
    """Return the kind of numbers in a tensor as text, such as "real numbers", without the precision."""
    if numbers.is_complex():
        return "complex numbers"
    if numbers.is_floating_point():
        return "real numbers"
    return "booleans" if numbers.dtype == torch.bool else "integers"


DEFAULT_COND_DROPOUT = 0.1
"""Condition dropout probability that is assumed for imported models with null values."""


def build_model(
    network: Callable[..., object],
    objective: ObjectiveConfig | Path | ModelFamily | None = None,
    *,
    data: Modality | Dataset | tuple[int, ...] | None = None,
    times: tuple[float, float] = (0.0, 1.0),
    classes: Sequence[str] = (),
    null: Mapping[str, int] | None = None,
    sampling: SamplerConfig | None = None,
) -> Model:
    """Build a model from a user-defined network; arguments and errors as for `Model`."""
    family, config = family_trained_by(objective)
    if data is None and config is not None:
        example = config.space.sample_base(0, Rng(0).stream("shape"))
        data = tuple(example.shape[1:]) if isinstance(example, Tensor) else None
    modality = data.modality if isinstance(data, Dataset) else data
    model_modality = modality if is_modality(modality) else modality_of_shape(cast(Any, modality), tuple(classes))
    spec = describe_network(
        lambda: network,
        model_modality,
        family=family,
        times=times,
        null=_null_values_of(network, config, model_modality) if null is None else null,
        sampling=sampling,
        network=network,
    )
    if config is not None:
        check_states(config.space, model_modality)
        spec = replace(spec, space=config.space, cond_dropout=config.cond_dropout if spec.cond_dropout else 0.0)
    if isinstance(data, Dataset):
        spec = replace(spec, frequencies=class_frequencies(data))
    model = adapt_call(spec)
    check_conditions(model)
    check_network(model)
    return Model.from_spec(model.spec, model.network, config)


def check_conditions(model: Model) -> None:
    """Check that a model's network accepts the last class of each condition, and null values.

    Raises:
        UsageError: If the network fails on these inputs, but not on the first class of each condition.
    """
    spec, (x, t, cond) = model.spec, trial_inputs(model)
    first_classes = {name: torch.zeros_like(cond[name]) for name in spec.frequencies}
    if not first_classes or _fails(model, x, t, {**cond, **first_classes}):
        return  # `check_network` reports it
    for name, classes in spec.frequencies.items():
        last_class = torch.full_like(cond[name], len(classes) - 1)
        if _fails(model, x, t, {**cond, **first_classes, name: last_class}):
            raise UsageError(
                argument="classes",
                expected=f"at most as many classes of {name} as the network supports",
                found=f"{len(classes)} classes, and the network fails for number {len(classes) - 1}",
                remedy="Give the classes that the network was trained with, or enlarge its embedding",
            )
    nulls = {name: torch.full_like(cond[name], len(spec.frequencies[name])) for name in model.droppable()}
    if nulls and _fails(model, x, t, {**cond, **first_classes, **nulls}):
        given_nulls = getattr(spec.architecture, "null_values", {})
        raise UsageError(
            argument="null",
            expected="null values that the network supports",
            found=f"{given_nulls}, for which the network fails",
            remedy="Give the embedding of the network one row per class and one for the null value",
        )


def _fails(model: Model, x: State, t: Tensor, cond: Cond) -> bool:
    try:
        with torch.no_grad(), evaluation_mode(model.network):
            model.network(*(tree_map(torch.clone, tree) for tree in (x, t, cond)))
    except Exception:  # user code may raise anything
        return True
    return False


def adapt_call(spec: ModelSpec) -> Model:
    """Build the model of a specification, and detect the call signature of its user-defined network.

    The signature, such as network(x, t) or network(x, t, label), is recorded in the specification of the model. Models
    with other networks are returned unchanged. Warns if entries of the data are missing and the network does not take
    the dict of conditions, in which training passes their mask.
    """
    model = Model.from_spec(spec, spec.build(Rng(0)))
    network, config = model.network, spec.architecture
    if not isinstance(network, ExternalNetworkModule) or not isinstance(config, ExternalNetwork):
        return model
    x, t, cond = trial_inputs(model)
    arrays = spec.modality.view(Arrays)
    has_missing = arrays is not None and arrays.has_missing
    masks = {"valid": torch.ones_like(x, dtype=torch.bool)} if has_missing else {}
    inputs = x, t, {**cond, **masks, **{name: torch.zeros_like(cond[name]) for name in network.conditions}}
    labels = {name: inputs[2][name] for name in network.conditions}
    with evaluation_mode(network):
        config = replace(config, convention=detect_call_convention(network.inner, inputs, labels))
    if has_missing and config.convention != CondDictCall():
        warn(
            "entries of the data are missing, and training replaces them by noise, but the network does not take their"
            ' mask. Let it take a dict as its third argument, network(x, t, cond), with the mask cond["valid"]'
        )
    network.config = config
    return Model.from_spec(replace(spec, architecture=config), network)


def with_detected_call(spec: ModelSpec) -> ModelSpec:
    """Return a specification with the call signature of a user-defined network, unless one other than (x, t) is set."""
    config = spec.architecture
    is_set = not isinstance(config, ExternalNetwork) or config.convention != PositionalCall()
    return spec if is_set else adapt_call(spec).spec


def images(height: int, width: int, channels: int = 3, levels: int = 255, classes: Sequence[str] = ()) -> Images:
    """Return a modality of images whose states are in [-1, 1].

    Args:
        height: Height in pixels.
        width: Width in pixels.
        channels: Number of channels: 1 for grey, 3 for RGB.
        levels: Pixel value of white.
        classes: Class names.
    """
    sizes = {"height": height, "width": width, "channels": channels, "levels": levels}
    for argument, size in sizes.items():
        check_integer(argument, size, ge=1)
    return Images(height, width, channels, levels, _names("classes", classes))


def points(columns: Sequence[str], classes: Sequence[str] = ()) -> Points:
    """Return a modality of numeric rows whose states are in data units, without standardisation.

    Args:
        columns: Column names.
        classes: Class names.
    """
    names = _names("columns", columns)
    return Points(names, (0.0,) * len(names), (1.0,) * len(names), _names("classes", classes))


def _names(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple.

    Raises:
        UsageError: If the value is not a sequence of names, or a name occurs twice.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        example = f'Write {argument}=["a", "b"]'
        raise UsageError(argument=argument, expected="a list of names", found=found_instead(names), remedy=example)
    names = tuple(names)
    duplicate = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if duplicate is not None:
        raise UsageError(argument=argument, expected="names that differ", found=f"{duplicate!r} twice")
    return names


def _null_values_of(network: Callable[..., object], objective: object, modality: Modality) -> dict[str, int]:
    """Return the null values of an objective or of a network, which may be wrapped."""
    nulls = getattr(objective, "null", None) or null_values(network)
    check_null(nulls)
    return {name: int(value) for name, value in nulls.items() if name in modality.conditions}


def modality_of_shape(shape: tuple[int, ...] | None, classes: tuple[str, ...] = (), levels: int = 255) -> Modality:
    """Return the modality for examples of a given shape.

    The shape (d,) stands for points, (channels, height, width) with 1 or 3 channels for images, and all others for
    arrays.
    """
    if not isinstance(shape, tuple | list) or not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        example = f"({shape},)" if isinstance(shape, int) else "(2,) or (1, 28, 28)"
        raise UsageError(argument="data", expected=f"a shape such as {example}, or a modality", found=repr(shape))
    if len(shape) == 1:
        return points([f"x{i + 1}" for i in range(shape[0])], classes)
    if len(shape) == 3 and shape[0] in (1, 3):
        return images(shape[1], shape[2], shape[0], levels, classes)
    return Arrays(tuple(shape), classes=classes)


def describe_network(
    make: Callable[..., Any],
    modality: Modality,
    *,
    family: ModelFamily,
    times: tuple[float, float] = (0.0, 1.0),
    null: Mapping[str, int] | None = None,
    sampling: SamplerConfig | None = None,
    network: object = None,
) -> ModelSpec:
    """Return the specification of a model with a user-defined network.

    Args:
        make: Function without arguments that returns the network.
        modality: Modality of the data.
        family: Model family.
        times: The network's times at the source and at the data; (1, 0) for reversed time.
        null: Null value of each condition that can be dropped: the class index that means "no condition".
        sampling: Sampler settings.
        network: Language model whose `config` gives the token that precedes the first token of a text.

    Raises:
        UsageError: If a null value is given for an unknown condition, or equals a class.
    """
    check_null(null)
    if modality.selected_conditions:
        raise UsageError(
            argument="data",
            expected="data without selected conditions, which the networks of users do not take",
            found=", ".join(modality.selected_conditions),
            remedy="Fit with `feller.fit(..., condition=[...])`, or read the data without `condition`",
        )
    conditions, space, nulls = modality.conditions, modality.space(), dict(null or {})
    if unknown := [name for name in nulls if name not in conditions]:
        raise UsageError(
            argument="null",
            expected=f"names of conditions ({', '.join(conditions) or 'the data have none'}) as keys",
            found=", ".join(unknown),
            remedy="Remove these keys, or pass the class names of the condition as well",
        )
    for name, value in nulls.items():
        if 0 <= value < len(conditions[name]):
            raise UsageError(
                argument="null",
                expected=f"a null value for {name} outside its classes: {len(conditions[name])} or more, or below 0",
                found=str(value),
                remedy=f"Write null={{{name!r}: {len(conditions[name])}}} if the network was trained with this value",
            )
    path = getattr(family, "path", None)
    is_reversed = times[0] > times[1] and getattr(path, "prediction", None) == VelocityPrediction()
    external = ExternalNetwork(make, times, -1.0 if is_reversed else 1.0, nulls)
    if isinstance(space, Tokens) or (path is not None and path.is_discrete):
        sampling = sampling or SamplerConfig("euler")
    if isinstance(space, Tokens):
        source = getattr(path, "source", None)
        space = space if source is None else replace(space, source=source)
        if family.name == AutoregressiveModel.name and not hasattr(network, "init_cache"):
            external = replace(external, bos_token_id=_first_token(network), vocab_size=space.vocab_size)
    return ModelSpec(
        modality,
        space,
        family,
        external,
        {name: (1 / len(classes),) * len(classes) for name, classes in conditions.items()},
        sampling or SamplerConfig(),
        DEFAULT_COND_DROPOUT if nulls else 0.0,
    )


def _first_token(network: object) -> int:
    """Return the token that a language model reads first."""
    bos_token_id = getattr(getattr(network, "config", None), "bos_token_id", None)
    if not isinstance(bos_token_id, int):
        raise UsageError(
            "a language model with `config.bos_token_id`, or one with `init_cache` and `decode_step` as in"
            " `feller.sampling.autoregressive.token_decoding`",
            type(network).__name__,
        )
    return bos_token_id
