"""From a run folder and a measurement to samples that explain it, without training."""

import pathlib
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.config import SteerConfig, in_words
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.steering.measurements import operator_of, read_mask, read_measured
from feller.app.workflows.steering.model_flow import FEWER, process_of
from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM
from feller.control.inverse.inverse_methods import METHODS, DFlow
from feller.control.inverse.inverse_problem import InverseSolution, InverseSolver, Measurement, PriorModel
from feller.control.inverse.operators import Inpaint, Operator
from feller.control.optimize.lbfgs import LBFGS
from feller.core.errors import UsageError, check_number
from feller.core.pytree import Cond, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset, Modality
from feller.data.path_checks import require_exists
from feller.models.families.model_family import default_batch_size, iter_batches
from feller.models.model import Model, load_model
from feller.paths import Affine
from feller.training.engine import get_engine

N = 4
"""Samples of each observation, where it is not said."""
ANY = 64
"""Samples that nothing was asked of, with which those that explain are compared, at most."""


@dataclass(frozen=True, eq=False)
class Explained:
    """Samples that explain measurements."""

    samples: Dataset
    """Several for each observation, those of one after those of another."""
    mean: Dataset
    """The mean of those of each observation: nearest to the truth by the mean squared error."""
    measured: Float[Tensor, " m *k"]
    """In the units of the data."""
    numbers: dict[str, Any]
    place: pathlib.Path
    notes: tuple[str, ...] = ()
    """What was assumed, because nothing was said of it."""


def observe(run: Run, config: SteerConfig, *, tell: Tell = SILENT) -> Explained:
    """Draw samples that explain what was measured, and write them.

    Args:
        run: Holds the model, which never saw the problem.
        config: What is asked for; conditions that are not given count as such where the model can do without, else they
            are drawn.
        tell: Hears how it goes.

    Raises:
        InputError: If run, measurements or the user's operator are not what they must be.
        UsageError: If an argument is wrong, or the model's data are no vectors of numbers.
    """
    asked, given, n = config.measurement, in_words(config.given), N if config.n is None else config.n
    file, noise = pathlib.Path(asked.observe or ""), asked.noise
    require_exists(file, "a file")
    way = _way(asked.method, asked.scale, config.steps)
    model, begun = load_model(run), time.monotonic()
    model.network.to(get_engine().device)
    modality, family = model.spec.modality, model.family
    path = model.spec.path if family.is_process else None
    if path is None or path.affine_schedule is None or not path.is_flow:
        raise UsageError(
            "observations need a model of numbers that flow straight (points, pictures), and this one"
            f" {family.describe()}; for others write a reward: feller steer RUN --reward"
        )
    place = run.output_path(config.out)
    modality.check_place(place)
    seen = modality.decode_soft(model.spec.space.sample_base(1, Rng(0).stream("shape")))
    if not isinstance(seen, torch.Tensor):
        raise UsageError(
            f"observations need a model of points or pictures, and this one's data are {modality.display_name}"
        )
    shape = tuple(seen.shape[1:])
    hole = None if asked.mask is None else read_mask(pathlib.Path(asked.mask), shape)
    how = operator_of(asked.operator or "", hole, shape)
    _check_scales(how, modality, noise)
    measured = read_measured(file, how, modality, shape)
    if isinstance(how, Inpaint):
        measured = how(measured)  # a file may hold anything where nothing was seen
    draws = Rng(config.seed).fold_in("observe")
    conditions = _conditions(model, n * len(measured), given, draws)
    task = _Task(model, how, measured.repeat_interleave(n, 0), noise, conditions, draws)
    found = _restored(task, way, config.guidance, tell)
    state = torch.cat([one.state for one in found])
    samples = Dataset(modality.decode(state), conditions, modality)
    middle = state.unflatten(0, (-1, n)).mean(1)
    first = torch.arange(0, len(state), n)
    mean = Dataset(modality.decode(middle), tree_map(lambda leaf: leaf[first], conditions), modality)
    modality.write(samples.values, samples.given, place)
    residual = torch.cat([one.residual for one in found]).double().mean().sqrt().item()
    numbers = {
        "n": len(samples),
        "observations": len(measured),
        "residual": residual * _unit(how, modality),
        "residual_before": _any(task) * _unit(how, modality),
        "noise": noise,
        "calls": torch.cat([one.nfe for one in found]).double().mean().item(),
        **_unknown(found),
        "seconds": time.monotonic() - begun,
    }
    return Explained(samples, mean, measured, numbers, place, _assumed(model, way, config))


def _check_scales(how: Operator, modality: Modality, noise: float) -> None:
    """Refuse what would weigh columns by their units: sums of unlike numbers, and one noise for all of them."""
    scales = _scales(modality)
    if scales.max() <= (1 + 1e-6) * scales.min() or (isinstance(how, Inpaint) and noise == 0):
        return
    raise UsageError(
        "the columns of these data have different units, so that one operator, or one noise, weighs them unlike",
        remedy="Take inpaint without --noise, or write a reward: feller steer RUN --reward",
    )


def _way(method: str, scale: float | None, steps: int | None) -> InverseSolver:
    """Return the way with a name, guided as much as asked."""
    if method not in METHODS:
        raise UsageError.unknown_name("method", method, METHODS)
    way = METHODS[method]()
    if steps is not None and isinstance(way, DFlow):
        way = replace(way, minimizer=LBFGS(steps=steps))
    if scale is None:
        return way
    if not isinstance(way, GuidedSolver) or not isinstance(way.guidance, PiGDM | DPS):
        raise UsageError(f"only guidance has a scale (pigdm, dps, ot-ode), {method} has none", remedy="Leave it out")
    check_number("scale", scale, gt=0, lt=torch.inf)
    return replace(way, guidance=replace(way.guidance, scale=scale))


def _conditions(model: Model, n: int, wanted: dict[str, str], draws: Rng) -> Cond:
    """Return the conditions that are wanted; the others are not given where the model can do without, else drawn."""
    given = model.sample_conditions(n, wanted, draws)
    if model.spec.cond_dropout:
        for name in given.keys() - wanted.keys():
            given[name] = torch.full_like(given[name], len(model.spec.frequencies[name]))
    return model.spec.modality.add_derived_conditions(given)


@dataclass(frozen=True, eq=False)
class _Task:
    """What is to be explained, with one entry for each sample."""

    model: Model
    how: Operator
    measured: Tensor
    noise: float
    """Standard deviation of the measurements, in the units of the data."""
    conditions: Cond
    draws: Rng


def _restored(task: _Task, way: InverseSolver, guidance: float, tell: Tell) -> list[InverseSolution]:
    """Restore some examples at a time."""
    about, device = task.model.spec, next(task.model.network.parameters()).device
    path = cast(Affine, about.path)
    size, found = max(1, default_batch_size(about.space, device) // FEWER), []
    tell.task("explaining")
    for rows, told in iter_batches(len(task.measured), size, tell.progress):
        here = replace(task.draws, first_example=rows.start)
        given = tree_map(lambda leaf, rows=rows: leaf[rows].to(device), task.conditions)
        learned = PriorModel(process_of(task.model, given, {}, guidance), path, about.space)
        x_0 = about.space.sample_base(rows.stop - rows.start, here.stream("source"), device)
        problem = _observation(task.how, task.measured[rows].to(device), task.noise, about.modality, x_0)
        found.append(way.restore(learned, problem, x_0, here, on_progress=told))
    tell.done()
    return found


def _any(task: _Task) -> float:
    """Return by how much any samples of the model differ from what was measured: the root mean square."""
    some, modality = slice(None, ANY), task.model.spec.modality
    given, seen = tree_map(lambda leaf: leaf[some], task.conditions), task.measured[some]
    drawn = task.model.sample_dataset(len(seen), given=given, rng=task.draws.fold_in("any"))
    state = modality.encode(drawn.values)
    problem = _observation(task.how, seen, 0.0, modality, state)
    return problem.residual_mse(state).double().mean().sqrt().item()


def _assumed(model: Model, way: InverseSolver, config: SteerConfig) -> tuple[str, ...]:
    """Say what was assumed, because nothing was said of it."""
    asked = config.measurement
    notes = [] if asked.noise else ["the measurements count as exact (--noise 0)"]
    if asked.scale is None and isinstance(way, GuidedSolver) and isinstance(way.guidance, PiGDM | DPS):
        notes.append(f"--scale {way.guidance.scale:g} was chosen, which is usual for {asked.method}")
    if config.steps is None and isinstance(way, DFlow) and isinstance(way.minimizer, LBFGS):
        notes.append(f"each search takes {way.minimizer.steps} steps at most (--steps)")
    free = [name for name in model.spec.frequencies if name not in in_words(config.given)]
    if free:
        how = "counts as not known" if model.spec.cond_dropout else "was drawn as often as in the data"
        notes += [f"{name} {how} (--given {name}=...)" for name in free]
    return tuple(notes)


def _observation(how: Operator, measured: Tensor, noise: float, modality: Modality, like: Tensor) -> Measurement:
    """Pose the problem: holes in the units of states, whose numbers are alike, all else in those of the data."""
    scales = _scales(modality).to(like.device)
    scale = float(scales.mean())
    if isinstance(how, Inpaint):
        zero = modality.decode_soft(torch.zeros_like(like[:1]))
        return Measurement(how, how(((measured - zero) / scales).to(like)), noise / scale)
    return Measurement(how, measured, noise, modality.decode_soft, scale)


def _unit(how: Operator, modality: Modality) -> float:
    """Return what a unit of the residual is in the units of the data."""
    return float(_scales(modality).mean()) if isinstance(how, Inpaint) else 1.0


def _scales(modality: Modality) -> Float[Tensor, " 1 *d"]:
    """Return how much values change with states, number by number."""
    like = modality.space().sample_base(1, Rng(0).stream("shape"))
    zero, one = (modality.decode_soft(torch.full_like(like, number)) for number in (0.0, 1.0))
    return (one - zero).abs()


def _unknown(found: list[InverseSolution]) -> dict[str, float]:
    """Return what was found of the operator, where it has an unknown part."""
    parts = [one.unknown for one in found if one.unknown is not None]
    return {"unknown": torch.cat(parts).double().mean().item()} if parts else {}
