"""Wrap a network of your own as a model; its outputs are checked first."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, leaves, length, tree_map
from feller.core.rng import Draws
from feller.core.user_code import blamed
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.points.points import Points
from feller.models.model import Model
from feller.models.spec import Description
from feller.networks.external import Foreign
from feller.paths import Affine, Path, Velocity
from feller.sampling.sampler_config import Sampling

AGAIN = 1e-4
"""Share of the largest number by which answers to the same question may differ."""
ALONE = 1e-2
"""The same where examples come alone, for which others of torch's kernels may add up in another order."""
LEAST = 1e-3
"""Numbers of an answer that moves nothing to speak of, whose rounding does not count."""


def try_out(model: Model) -> None:
    """Ask a network about a few states, about the same ones again, and about one of them alone.

    Raises:
        UsageError: If it fails, answers in another shape or with what is no finite real number, changes what it is
            given, answers otherwise a second time, or lets examples change with their neighbours.
    """
    about, draws, n = model.description, Draws(0).named("trial"), 3
    x = about.path.start(about.space.reference(n, draws.at("source")))
    asked = (x, torch.linspace(0.25, 0.75, n), about.modality.complete(model.conditions(n, {}, draws)))
    answer = tree_map(torch.clone, _answer(model, asked))  # who keeps state may write into it later
    again = _answer(model, asked)
    middle = tuple(tree_map(lambda leaf: leaf[1:2], tree) for tree in asked)  # no first or last that others look at
    alone = _answer(model, middle)
    if _differ(answer, again, lambda leaf: AGAIN):
        raise UsageError(
            "the network answers otherwise when it is asked the same a second time: it draws noise or keeps what it was"
            " asked before, and samples must depend on the seed alone; put it into eval mode, and take both out"
        )
    if _differ(tree_map(lambda leaf: leaf[1:2], answer), alone, lambda leaf: max(ALONE, 8 * _eps(leaf))):
        raise UsageError(
            "the network answers otherwise about an example when others are beside it: samples must not change with"
            " their neighbours; write it row by row, without means or sums over the first axis"
        )


def _answer(model: Model, asked: tuple[State, State, State]) -> State:
    """Ask a network once, about states, times and conditions.

    Raises:
        UsageError: If it fails, answers with another thing than it must, or changes what it is given.
    """
    x, _, given = asked
    shapes = tree_map(lambda leaf: list(leaf.shape), x)
    before = [leaf.clone() for leaf in _named(asked).values()]
    try:
        with torch.no_grad():
            answer = model.network(*asked)
    except Exception as error:
        n = length(x)
        conditions = "".join(f", {name} [{n}]" for name in given)
        raise UsageError(
            f"the network fails at a state {shapes}, times [{n}]{conditions}: "
            + (blamed(error) or f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        ) from error
    for (name, leaf), kept in zip(_named(asked).items(), before, strict=True):
        if not torch.equal(leaf, kept):
            raise UsageError(
                f"the network writes into {name} that it is given, and whoever samples goes on with that: let it answer"
                " with a new tensor, such as 0.5 * x in place of x.mul_(0.5)"
            )
    found = tree_map(lambda leaf: list(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__, answer)
    if found != shapes:
        raise UsageError(f"the network answers with {found} about a state {shapes}; it must answer in the same shape")
    for leaf in leaves(answer):
        if not leaf.is_floating_point():
            raise UsageError(
                f"the network answers with {form(leaf)} ({leaf.dtype}), expected real numbers such as torch.float32;"
                " let it answer in the type of the state"
            )
        if not bool(leaf.isfinite().all()):
            raise UsageError(
                f"the network answers with {leaf[~leaf.isfinite()][0].item()} about a state of normal noise, expected"
                " finite numbers; look at its weights"
            )
    return answer


def _named(asked: tuple[State, State, State]) -> dict[str, Tensor]:
    """Return all tensors that a network is given, by what they are called in a message."""
    x, t, given = asked
    parts = {"the state x": x, "the times t": t, **given}
    return {f"{name} {i}" if i else name: leaf for name, part in parts.items() for i, leaf in enumerate(leaves(part))}


def _differ(answer: State, other: State, share: Callable[[Tensor], float]) -> bool:
    """Tell whether answers are further apart than a share of the largest number of a leaf."""
    pairs = zip(leaves(answer), leaves(other), strict=True)
    return any(bool((one - two).abs().max() > share(one) * one.abs().max().clamp(min=LEAST)) for one, two in pairs)


def _eps(leaf: Tensor) -> float:
    """Return the rounding of the numbers of a tensor."""
    return torch.finfo(leaf.dtype).eps


def form(numbers: Tensor) -> str:
    """Say what numbers a tensor holds; those of one form differ in precision alone."""
    if numbers.is_complex():
        return "complex numbers"
    if numbers.is_floating_point():
        return "real numbers"
    return "yes and no" if numbers.dtype == torch.bool else "whole numbers"


DROPPED = 0.1
"""What is said of how often conditions were dropped in training, where that is not known and guidance is possible."""


def wrap(
    network: Callable[..., object],
    shape: tuple[int, ...] | None = None,
    *,
    modality: Modality | None = None,
    path: Path | None = None,
    times: tuple[float, float] = (0.0, 1.0),
    classes: Sequence[str] = (),
    null: int | None = None,
    sampling: Sampling | None = None,
) -> Model:
    """Return a model around a network of your own, so that sampling, likelihoods, steering and the rest work with it.

    Args:
        network: Called as network(x, t), times [b]; or network(x, t, label) where there are classes. A module or a
            function of tensors, without state, without chance and row by row, that leaves its arguments as they are.
        shape: Of one example: (d,) for points in their own units, (channels, height, width) for pictures in [-1, 1].
        modality: What the data are, in place of a shape.
        path: What the network was trained for, an `Affine` path from normal noise with a velocity by default; say
            `Affine(prediction=Source())` where it answers with the noise, `Data()` where it answers with the data.
        times: Its times at the source and at the data, (1, 0) where it runs backwards; a velocity then points there.
        classes: Names of the classes, in the order of their numbers.
        null: Its number for "no class given", where it was trained to do without; then guidance is possible.
        sampling: How samples are drawn.

    Raises:
        UsageError: If the network does not answer in the shape of the state, or is not without state, without chance
            and row by row, or changes what it is given.
    """
    kind = modality or plain_modality(shape, tuple(classes))
    about = described(lambda: network, kind, path=path or Affine(), times=times, null=null, sampling=sampling)
    model = Model(about, about.build(Draws(0)).eval())
    try_out(model)
    return model


def plain_modality(shape: tuple[int, ...] | None, classes: tuple[str, ...] = (), levels: int = 255) -> Modality:
    """Return points in their own units, or pictures, of a shape.

    Raises:
        UsageError: If it is that of neither.
    """
    if not isinstance(shape, tuple | list | None) or not all(isinstance(n, int) and n > 0 for n in shape or ()):
        example = f"({shape},)" if isinstance(shape, int) else "(2,) or (1, 28, 28)"
        raise UsageError(f"expected a shape such as {example}, got {shape!r}")
    if shape is not None and len(shape) == 1:
        names = tuple(f"x{i + 1}" for i in range(shape[0]))
        return Points(names, (0.0,) * shape[0], (1.0,) * shape[0], classes)
    if shape is not None and len(shape) == 3:
        channels, height, width = shape
        return Images(height, width, channels, levels, classes)
    raise UsageError(f"expected the shape of points, (d,), or of pictures, (c, h, w), got {shape}; or give a modality")


def described(
    make: Callable[..., Any],
    modality: Modality,
    *,
    path: Path,
    times: tuple[float, float] = (0.0, 1.0),
    null: int | None = None,
    sampling: Sampling | None = None,
) -> Description:
    """Say what a model around somebody's network is.

    Raises:
        UsageError: If there is a number for "not given", and nothing that could be given.
    """
    conditions = modality.conditions
    if null is not None and not conditions:
        raise UsageError(f"{null} is to stand for no class, and there are no classes; name them, or leave it out")
    backwards = times[0] > times[1] and getattr(path, "prediction", None) == Velocity()
    nulls = {} if null is None else dict.fromkeys(conditions, null)
    return Description(
        modality,
        modality.space(),
        path,
        Foreign(make, times, -1.0 if backwards else 1.0, nulls),
        {name: (1 / len(names),) * len(names) for name, names in conditions.items()},
        sampling or Sampling(),
        DROPPED if nulls else 0.0,
    )
