"""Networks of others as models: what is written once for models then works with them."""

from collections.abc import Callable, Sequence
from typing import Any

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.images.modality import Images
from feller.data.modality import Modality
from feller.data.points.points import Points
from feller.models.export.trial import try_out
from feller.models.model import Model
from feller.models.spec import Description
from feller.networks.external import Foreign
from feller.paths import Affine, Path, Velocity
from feller.sampling.sampler_config import Sampling

DROPPED = 0.1
"""What is said of how often conditions were dropped in training, where that is not known and guidance is possible."""


def wrap(
    network: Callable[..., Any],
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
