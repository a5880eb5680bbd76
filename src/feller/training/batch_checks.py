"""Validation of objectives and batches: keys, shapes, dtypes, ranges, finite values, points on manifolds."""

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from feller.core.errors import InputError, UsageError, best_match, check_kind, found_instead, is_out_of_memory, warn
from feller.core.pytree import Cond, State, append_dims, is_concrete, leaves, submask, zero_invalid
from feller.core.rng import Rng, check_rng
from feller.networks.blocks.conditioning import RESERVED_KEYS
from feller.networks.unwrapping import iter_networks
from feller.paths import Path
from feller.spaces import Euclidean, Manifold, Poincare, Product, Simplex, Space, Sphere, Tokens, Torus
from feller.spaces.product import leaf_space

MAX_POINTS_CHECKED = 4
"""Examples checked per batch if the manifold's projection is expensive; the first batch is checked completely."""
QUICK = (Sphere, Torus, Poincare, Simplex)
"""Manifolds with a cheap projection, for which all examples of all batches are checked."""
LARGE = 10.0
"""Absolute pixel value above which images are assumed to be unscaled integers, such as 0 to 255."""
MANIFOLD_TOLERANCE = 1e-2
"""Distance from the manifold above which a point is rejected, relative to the largest coordinate if above 1."""
MAX_SPACE_LENGTH = 60
"""Maximum length of the repr of a space in messages, in characters."""
FAILED = object()
"""Sentinel for the output of a network that raised an error."""
OTHERS = frozenset({"target", "told"})
"""Batch keys that only some objectives use; others reject them as names of conditions at the top level."""
NON_CONDITION_KEYS = OTHERS | {"x_1", "x_0", "t", "given"}
"""Batch keys that are not conditions."""


def check_pieces(path: Any, space: Any) -> None:
    """Validate that path and space have the right types.

    Raises:
        UsageError: If an argument has the wrong type.
    """
    if isinstance(path, Space) and not isinstance(space, Space):
        found = f"{type(path).__name__}, then {type(space).__name__}"
        raise UsageError(
            argument="path",
            expected="the path as first argument, before the space",
            found=found,
            remedy="Swap the arguments",
        )
    is_product = isinstance(path, Product)
    check_kind(
        "path", path, Path, "feller.ProductPath({...}), with one path per leaf" if is_product else "feller.Affine()"
    )
    shape = space if isinstance(space, tuple | list) else "(2,)"
    check_kind("space", space, Space, f"feller.Euclidean({tuple(shape) if isinstance(shape, list) else shape})")


def read_batch(
    batch: Any, rng: Any, *, own_times: bool = False, null: Mapping[str, int | float] | None = None
) -> tuple[State, Cond]:
    """Validate a batch and return its data and conditions; conditions are under `given` or at the top level.

    Args:
        batch: {"x_1": data, [b, ...]} and conditions, [b, ...] each.
        rng: Random stream passed to the objective.
        own_times: True if the objective accepts times in the batch.
        null: Null value of each condition; conditions whose null value is NaN may be missing.

    Raises:
        UsageError: If batch or rng have the wrong type, or a condition does not have one entry per example.
        InputError: If the batch is empty.
    """
    check_rng(rng)
    if not isinstance(batch, Mapping):
        remedy = 'Write {"x_1": x} for data x'
        raise UsageError(argument="batch", expected="a dict with x_1", found=describe(batch), remedy=remedy)
    if "x_1" not in batch:
        closest = best_match("x_1", list(map(str, batch)))
        remedy = f"Rename {closest!r} to 'x_1'" if closest else "Name the data 'x_1'"
        raise UsageError(
            argument="batch", expected="a key x_1", found=", ".join(map(str, batch)) or "none", remedy=remedy
        )
    if "t" in batch and not own_times:
        remedy = "Remove this key, or move a condition of this name under given"
        raise UsageError(
            argument="t", expected="no times in the batch: the objective samples them", found="a key t", remedy=remedy
        )
    x_1 = batch["x_1"]
    for leaf in leaves(x_1):
        if not isinstance(leaf, Tensor) or not leaf.ndim:
            remedy = "Write torch.as_tensor(x)" if not isinstance(leaf, Tensor) else "Add an axis: x[None]"
            raise UsageError(argument="x_1", expected="a tensor [b, ...]", found=describe(leaf), remedy=remedy)
        if leaf.is_meta:
            remedy = "Move the data to a device: x.to('cpu')"
            raise UsageError(argument="x_1", expected="data on a device", found="the meta device", remedy=remedy)
    cond = batch.get("given")
    if cond is None:
        cond = {}
        if misplaced := sorted(batch.keys() & OTHERS):  # reserved names are conditions only under "given"
            remedy = f'Write {{"given": {{"{misplaced[0]}": ...}}}}'
            raise UsageError(
                argument=misplaced[0],
                expected="this condition in the dict `given`",
                found="a top-level key",
                remedy=remedy,
            )
    elif not isinstance(cond, dict):
        raise UsageError(argument="given", expected="a dict of conditions", found=describe(cond))
    if not batch.keys() <= NON_CONDITION_KEYS:
        top_level = {name: value for name, value in batch.items() if name not in NON_CONDITION_KEYS}
        if duplicates := sorted(cond.keys() & top_level.keys()):
            raise UsageError(argument=duplicates[0], expected="one condition of this name", found="two conditions")
        cond = {**cond, **top_level}
    n = len(next(leaves(x_1)))
    for name, value in cond.items():
        for leaf in leaves(value):
            if not isinstance(leaf, Tensor) or not leaf.ndim or len(leaf) != n:
                expected = f"a tensor with one entry per example, [{n}, ...]"
                remedy = None if isinstance(leaf, Tensor) else f"Write torch.as_tensor({name})"
                raise UsageError(argument=name, expected=expected, found=describe(leaf), remedy=remedy)
            if name not in RESERVED_KEYS and leaf.is_floating_point() and is_concrete(leaf):
                may_be_missing = math.isnan((null or {}).get(name, 0.0))
                remedy = (
                    None if may_be_missing else f"Set null={{{name!r}: math.nan}} in the objective if NaN is missing"
                )
                _check_finite(
                    leaf.nan_to_num(posinf=math.inf, neginf=-math.inf) if may_be_missing else leaf, None, name, remedy
                )
    for name in cond.keys() & RESERVED_KEYS:
        _check_marks(cond[name], x_1, name)
    if not n and rng.global_batch_size is None:  # a Poisson-sampled batch, or one rank's part of a batch, may be empty
        raise InputError(
            argument="x_1", expected="at least 1 example", found="an empty batch", remedy="Skip this batch"
        )
    return x_1, cond


def _check_marks(mask: State, x_1: State, name: str) -> None:
    """Check that a mask such as `valid` is boolean and has the shape of the data."""
    if isinstance(mask, dict):
        if not isinstance(x_1, dict) or not mask.keys() <= x_1.keys():
            raise UsageError(argument=name, expected=f"masks for {describe(x_1)}", found=describe(mask))
        for leaf in mask:
            _check_marks(mask[leaf], x_1[leaf], name)
        return
    if mask.dtype != torch.bool:
        remedy = f"Write {name}.bool()"
        raise UsageError(argument=name, expected="a boolean mask, torch.bool", found=str(mask.dtype), remedy=remedy)
    for leaf in leaves(x_1):
        shape = leaf.shape[: mask.ndim]
        if len(shape) == mask.ndim and any(size not in (1, n) for size, n in zip(mask.shape, shape, strict=True)):
            expected, remedy = f"shape {list(shape)}, like the data", "Use True for valid entries and False for padding"
            raise UsageError(argument=name, expected=expected, found=str(list(mask.shape)), remedy=remedy)


def warn_repeated_rng(objective: Any, rng: Rng, x_1: State) -> None:
    """Warn once if an objective draws examples twice in a row with the same random stream."""
    last_rng = vars(objective).get("_last_rng")
    if last_rng is _WARNED or not torch.is_grad_enabled() or not is_concrete(next(leaves(x_1))):
        return
    if last_rng is not None and last_rng.seed == rng.seed and last_rng == rng:
        warn(
            f"{type(objective).__name__}.draw was called twice in a row with Rng(seed={rng.seed}), which gives the"
            " same times and noise; pass rng.step(i) in step i"
        )
        rng = _WARNED
    vars(objective)["_last_rng"] = rng


_WARNED = Rng(-1)


def warn_levels(objective: Any, x_1: Any) -> None:
    """Warn at the first draw if images seem unscaled, because the source has standard deviation 1."""
    vars(objective)["_is_new"] = False
    is_image = isinstance(objective.space, Euclidean) and len(objective.space.shape) == 3 and x_1.is_floating_point()
    if is_image and is_concrete(x_1) and x_1.numel() and (high := float(x_1.detach().abs().max())) > LARGE:
        warn(f"images have values up to {high:g}, but the noise has std 1; scale levels of 0 to 255 by x / 127.5 - 1")


def warn_coupling(objective: Any, given: Cond) -> None:
    """Warn once if the coupling ignores the conditions of a batch, because the source then depends on them."""
    if names := sorted(given.keys() - RESERVED_KEYS):
        name = type(objective.coupling).__name__
        is_global = name == "GlobalBatchCoupling"
        remedy = "GlobalBatchCoupling(feller.ClassConditional())" if is_global else f"ClassConditional(feller.{name}())"
        warn(
            f"{name} pairs source samples with data of any class, so in training the source depends on"
            f" {', '.join(names)}, unlike in sampling; use coupling=feller.{remedy}"
        )
        vars(objective)["_ignores"] = False


def check_data(
    x_1: State, x_0: State, space: Space, valid: State | None = None, name: str = "x_1", *, rows: slice | None = None
) -> None:
    """Validate data against their source and space: keys, shape, dtype, range, and distance from the manifold.

    Values are checked on the CPU only: on an accelerator, each check would synchronise, and under vmap values are
    unknown.

    Args:
        x_1: Data, [b, ...].
        x_0: Source states, with the shape of the space.
        space: Space of the states.
        valid: Mask of the entries that are not padding; padding is not checked. None if there is no padding.
        name: Name of the data in messages.
        rows: Examples to check against a manifold with an expensive projection; None for all.

    Raises:
        UsageError: If keys, shape or dtype are wrong.
        InputError: If values are not finite, tokens are out of range, or points are off the manifold.
    """
    if isinstance(x_0, dict) or isinstance(x_1, dict):
        if not (isinstance(x_0, dict) and isinstance(x_1, dict)) or x_0.keys() != x_1.keys():
            raise UsageError(argument=name, expected=f"{describe(x_0)}, for this space", found=describe(x_1))
        for leaf in x_1:
            check_data(
                x_1[leaf], x_0[leaf], leaf_space(space, leaf), submask(valid, leaf), f"{name}[{leaf!r}]", rows=rows
            )
        return
    if x_1.shape != x_0.shape:
        shape = ", ".join(map(str, x_0.shape[1:]))
        raise UsageError(
            argument=name,
            expected=f"shape [b{', ' if shape else ''}{shape}] for {_short(space)}",
            found=str(list(x_1.shape)),
            remedy=_reshape_hint(x_1, x_0),
        )
    if x_0.is_floating_point() != x_1.is_floating_point() or (not x_1.is_floating_point() and x_1.dtype != torch.long):
        expected_dtype, remedy = (
            ("a floating-point tensor", "x.float()") if x_0.is_floating_point() else ("int64 tokens", "x.long()")
        )
        raise UsageError(argument=name, expected=expected_dtype, found=str(x_1.dtype), remedy=f"Write {remedy}")
    if not is_concrete(x_1):
        return
    if x_1.is_floating_point():
        _check_finite(x_1, valid, name)
        if isinstance(space, Manifold) and not isinstance(space, Euclidean) and x_1.numel():
            _check_points(x_1.detach(), space, valid, name, None if isinstance(space, QUICK) else rows)
    elif isinstance(space, Tokens) and x_1.numel():
        low, high = (int(bound) for bound in x_1.aminmax())
        invalid = (
            None if low >= 0 and high < space.vocab_size else _unpadded((x_1 < 0) | (x_1 >= space.vocab_size), valid)
        )
        if invalid is not None and bool(invalid.any()):
            row, expected = _marked_rows(invalid)[0], f"tokens from 0 to {space.vocab_size - 1}"
            raise InputError(argument=name, row=row, expected=expected, found=str(int(x_1[invalid][0])))


def check_source(x_0: State, reference: State, name: str = "x_0") -> None:
    """Validate the source states of a batch by comparison with `reference`, states sampled from the space.

    Raises:
        UsageError: If keys, shape or dtype are wrong.
        InputError: If values are not finite.
    """
    if isinstance(x_0, dict) and isinstance(reference, dict) and x_0.keys() == reference.keys():
        for leaf in x_0:
            check_source(x_0[leaf], reference[leaf], f"{name}[{leaf!r}]")
        return
    matches = isinstance(x_0, Tensor) and isinstance(reference, Tensor) and x_0.shape == reference.shape
    if not matches or x_0.is_floating_point() != reference.is_floating_point():
        raise UsageError(argument=name, expected=f"{describe(reference)}, for this space", found=describe(x_0))
    if x_0.is_floating_point() and is_concrete(x_0):
        _check_finite(x_0, None, name)


def check_logits(output: State, x_t: State, space: Space) -> None:
    """Validate that a network's output has one logit per category of each token.

    Raises:
        UsageError: If the shape is not [b, ..., vocab_size].
    """
    if error := _logits_error(output, x_t, space):
        raise error


def _logits_error(output: State, x_t: State, space: Space) -> UsageError | None:
    if (
        not isinstance(space, Tokens)
        or not isinstance(output, Tensor)
        or output.shape == (*x_t.shape, space.vocab_size)
    ):
        return None
    shape = ", ".join(map(str, (*x_t.shape[1:], space.vocab_size)))
    remedy = f"Return {space.vocab_size} logits per token, in the last axis"
    if output.shape == (*x_t.shape, space.vocab_size + 1):
        remedy = f"Remove the logit of the mask token: logits[..., :{space.vocab_size}]"
    elif output.shape[1:2] == (space.vocab_size,):
        remedy = "Move the vocabulary axis to the end: logits.movedim(1, -1)"
    return UsageError(
        argument="network",
        expected=f"logits [b, {shape}], without the mask token",
        found=str(list(output.shape)),
        remedy=remedy,
    )


def not_drawn(network: Any, example: Any) -> UsageError:
    """Return the error to raise if `loss` was not called with an example returned by `draw`."""
    swapped = isinstance(network, Mapping) and "x_t" in network
    remedy = "Write objective.loss(network, example)" if swapped else "Write objective.draw(batch, rng.step(i)) first"
    return UsageError(
        argument="example", expected="an example returned by draw", found=describe(example), remedy=remedy
    )


def diagnose_network_error(
    network: Any, output: Any, x_t: State, t: State, cond: Cond, space: Space, error: Exception
) -> UsageError | None:
    """Return an error with the likely cause of a failed network call or loss; None if the cause is unknown."""
    if is_out_of_memory(error):
        return None
    if not callable(network):
        expected = "a network, called as network(x_t, t, given)"
        return UsageError(argument="network", expected=expected, found=found_instead(network))
    if output is None:
        expected, remedy = describe(x_t), "Return the prediction at the end of forward"
        return UsageError(argument="network", expected=expected, found="None", remedy=remedy)
    if output is not FAILED:
        if isinstance(x_t, Tensor) == isinstance(output, Tensor):
            return _logits_error(output, x_t, space)
        output_keys = [name for name in ("sample", "logits") if name in output] if isinstance(output, Mapping) else []
        key = (
            f"output[{output_keys[0]!r}]"
            if output_keys
            else "output[0]"
            if isinstance(output, tuple | list)
            else "its tensor"
        )
        expected, remedy = describe(x_t), f"Wrap the network so that it returns {key}"
        return UsageError(argument="network", expected=expected, found=describe(output), remedy=remedy)
    module = next((candidate for candidate in iter_networks(network) if isinstance(candidate, nn.Module)), None)
    if isinstance(error, KeyError):
        return _missing_condition(error, cond)
    if isinstance(error, TypeError) and not _accepts(module.forward if module is network else network, x_t, t, cond):
        remedy = "Write lambda x, t, given: network(x, t)"
        found = f"{getattr(network, '__name__', type(network).__name__)}{_signature(network)}"
        return UsageError(argument="network", expected="network(x_t, t, given)", found=found, remedy=remedy)
    if cond.keys() - RESERVED_KEYS and (cause := _wrong_condition(network, x_t, t, cond, error)):
        return cause
    weight = None if module is None else next((w for w in module.parameters() if w.is_floating_point()), None)
    state = next((leaf for leaf in leaves(x_t) if leaf.is_floating_point()), None)
    first_leaf = next(leaves(x_t))
    if weight is not None and weight.device.type != first_leaf.device.type:
        expected, remedy = f"data on {weight.device}, the device of the weights", f"Write x.to('{weight.device}')"
        if weight.is_meta:
            expected, remedy = "weights on a device", "Allocate and load the weights: network.to_empty(device='cpu')"
        return UsageError(argument="x_1", expected=expected, found=str(first_leaf.device), remedy=remedy)
    if weight is not None and state is not None and weight.dtype != state.dtype and not _is_autocast(state):
        expected, name = f"{weight.dtype}, the dtype of the weights", str(weight.dtype).removeprefix("torch.")
        return UsageError(argument="x_1", expected=expected, found=str(state.dtype), remedy=f"Write x.to(torch.{name})")
    return None


def _missing_condition(error: KeyError, cond: Cond) -> UsageError | None:
    """Return the error for a condition that the network needs and the batch lacks; None if none is missing."""
    name, names = str(error.args[0]) if error.args else "", ", ".join(sorted(cond)) or "none"
    if name in cond:
        return None
    if not name.isidentifier():  # a KeyError of feller's networks has a message, not a key
        return UsageError(name, argument="given")
    remedy = f'Draw with {{"x_1": x, "{name}": ...}}'
    return UsageError(argument=name, expected="a condition of this name", found=names, remedy=remedy)


def _wrong_condition(network: Any, x_t: State, t: State, cond: Cond, error: Exception) -> UsageError | None:
    """Return the error for a condition of a wrong type or shape; None if no condition is the cause.

    The cause is found by calling the network with other conditions.
    """
    names = [name for name in cond if name not in RESERVED_KEYS]
    if _works(network, x_t, t, *(cond[name] for name in names)):
        args = ", ".join(f'given["{name}"]' for name in names)
        found = f"{getattr(network, '__name__', type(network).__name__)}{_signature(network)}"
        expected, remedy = "network(x_t, t, given), with a dict", f"Write lambda x, t, given: network(x, t, {args})"
        return UsageError(argument="network", expected=expected, found=found, remedy=remedy)
    for name in names:
        value = cond[name]
        if not isinstance(value, Tensor):
            continue
        if str(error) == "index out of range in self" and not value.is_floating_point() and value.numel():
            return UsageError(
                argument=name,
                expected="class indices within the network's embedding",
                found=f"{int(value.min())} to {int(value.max())}",
                remedy="Enlarge the embedding: one row per class, and one for the null value",
            )
        conversions = {f"{name}.long()": value.long(), f"{name}[:, 0].long()": None, f"{name}.argmax(1)": None}
        if value.ndim == 2:
            conversions |= {f"{name}[:, 0].long()": value[:, 0].long(), f"{name}.argmax(1)": value.argmax(1)}
            if value.shape[1] > 1:
                conversions.pop(f"{name}[:, 0].long()")
        for remedy, converted in conversions.items():
            if converted is not None and _works(network, x_t, t, {**cond, name: converted}):
                expected, found = f"integers [{len(value)}]", f"{value.dtype} {list(value.shape)}"
                return UsageError(argument=name, expected=expected, found=found, remedy=f"Write {remedy}")
    return None


def _works(network: Any, *args: Any) -> bool:
    """Return True if `network` can be called with the arguments without an error."""
    try:
        with torch.no_grad():
            return network(*args) is not None
    except Exception:  # user code may raise anything
        return False


def describe(value: Any) -> str:
    """Return a description of a value for a message: the shape of a tensor, the keys of a dict.

    Other values are described by `found_instead`.
    """
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(str, value)) or 'nothing'}"
    return found_instead(value)


def _is_autocast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def _signature(network: Any) -> str:
    try:
        return str(inspect.signature(network.forward if isinstance(network, nn.Module) else network))
    except (TypeError, ValueError):
        return ""


def _accepts(function: Any, *args: Any) -> bool:
    """Return True if a function accepts these positional arguments, or has no signature."""
    try:
        inspect.signature(function).bind(*args)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _short(space: Space) -> str:
    """Return the repr of a space, or the name of its class if the repr is long, as that of a mesh."""
    return text if len(text := repr(space)) <= MAX_SPACE_LENGTH else type(space).__name__


def _reshape_hint(x_1: Tensor, x_0: Tensor) -> str:
    """Return advice on how to reshape data to fit their space."""
    n, shape = len(x_1), tuple(x_0.shape[1:])
    if tuple(x_1.shape) == shape:
        return "Add a batch axis: x[None]"
    if x_1.ndim == x_0.ndim > 2 and sorted(x_1.shape[1:]) == sorted(shape) and x_1.shape[-1] == shape[0]:
        return "Move channels first: x.movedim(-1, 1)"
    if x_1[:1].numel() == x_0[:1].numel():
        return f"Write x.reshape({', '.join(map(str, (n, *shape)))})"
    return "Reshape the data, or change the shape of the space"


def _check_points(x: Tensor, space: Manifold, valid: State | None, name: str, rows: slice | None) -> None:
    """Check that the points of the examples `rows` (None for all) lie on their manifold."""
    rows = rows or slice(None)
    points, mask = x[rows], valid[rows] if isinstance(valid, Tensor) else None
    if mask is not None:
        points = zero_invalid(points, mask)  # padding may hold anything
    distance = (space.project(points) - points).abs()
    tolerance = MANIFOLD_TOLERANCE * max(1.0, float(points.abs().max()))
    if float(distance.max()) <= tolerance:
        return
    for shift in (tolerance, -tolerance):  # rounding may put an angle just beyond the end of its range
        distance = torch.minimum(distance, (space.project(points + shift) - points).abs())
    is_off = _unpadded(distance > 1.001 * tolerance, mask)
    if bool(is_off.any()):
        raise InputError(
            argument=name,
            row=(rows.start or 0) + _marked_rows(is_off)[0],
            expected=f"points on the manifold {type(space).__name__}",
            found=f"a point {float(distance[is_off].max()):.3g} away from it",
            remedy="Project the data: space.project(x)",
        )


def _check_finite(x: Tensor, valid: State | None, name: str, remedy: str | None = None) -> None:
    total = float(x.detach().sum() if x.requires_grad else x.sum())
    if not math.isfinite(total):  # a sum may overflow, and padding may hold anything
        invalid = _unpadded(~x.isfinite(), valid)
        if bool(invalid.any()):
            rows = _marked_rows(invalid)
            raise InputError(
                argument=name,
                row=rows[0],
                expected="finite values",
                found=f"NaN or infinity in {len(rows)} of {len(x)} examples",
                remedy=remedy or "Drop these examples or impute the values",
            )


def _unpadded(mask: Bool[Tensor, " b *d"], valid: State | None) -> Bool[Tensor, " b *d"]:
    """Restrict a mask to entries that are not padding."""
    return mask if not isinstance(valid, Tensor) else mask & append_dims(valid, mask)


def _marked_rows(mask: Bool[Tensor, " b *d"]) -> list[int]:
    return mask.reshape(len(mask), -1).any(1).nonzero()[:, 0].tolist()
