"""From a run folder and a measurement to samples that explain it, without training."""

import pathlib
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.config import SteerConfig, single_values
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.steering.measurements import parse_operator, read_mask, read_measurements
from feller.app.workflows.steering.model_flow import BATCH_SIZE_DIVISOR, make_process
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
MAX_PRIOR_SAMPLES = 64
"""Samples that nothing was asked of, with which those that explain are compared, at most."""


@dataclass(frozen=True, eq=False)
class InverseProblemResult:
    """Samples that explain measurements."""

    samples: Dataset
    """Several for each observation, those of one after those of another."""
    posterior_mean: Dataset
    """The mean of those of each observation: nearest to the truth by the mean squared error."""
    measured: Float[Tensor, " m *k"]
    """In the units of the data."""
    numbers: dict[str, Any]
    path: pathlib.Path
    notes: tuple[str, ...] = ()
    """What was assumed, because nothing was said of it."""


def solve_inverse_problem(run: Run, config: SteerConfig, *, reporter: Reporter = SILENT) -> InverseProblemResult:
    """Draw samples that explain what was measured, and write them.

    Args:
        run: Holds the model, which never saw the problem.
        config: What is asked for; conditions that are not given count as such where the model can do without, else they
            are drawn.
        reporter: Hears how it goes.

    Raises:
        InputError: If run, measurements or the user's operator are not what they must be.
        UsageError: If an argument is wrong, or the model's data are no vectors of numbers.
    """
    options, conditions_given, n = config.measurement, single_values(config.given), N if config.n is None else config.n
    file, noise = pathlib.Path(options.observe or ""), options.noise
    require_exists(file, "a file")
    solver = _inverse_solver(options.method, options.scale, config.steps)
    model, start_time = load_model(run), time.monotonic()
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
    template = modality.decode_soft(model.spec.space.sample_base(1, Rng(0).stream("shape")))
    if not isinstance(template, torch.Tensor):
        raise UsageError(
            f"observations need a model of points or pictures, and this one's data are {modality.display_name}"
        )
    shape = tuple(template.shape[1:])
    hole = None if options.mask is None else read_mask(pathlib.Path(options.mask), shape)
    operator = parse_operator(options.operator or "", hole, shape)
    _check_scales(operator, modality, noise)
    measured = read_measurements(file, operator, modality, shape)
    if isinstance(operator, Inpaint):
        measured = operator(measured)  # a file may hold anything where nothing was seen
    rng = Rng(config.seed).fold_in("observe")
    conditions = _complete_conditions(model, n * len(measured), conditions_given, rng)
    task = _InverseTask(model, operator, measured.repeat_interleave(n, 0), noise, conditions, rng)
    solutions = _solve(task, solver, config.guidance, reporter)
    state = torch.cat([one.state for one in solutions])
    samples = Dataset(modality.decode(state), conditions, modality)
    middle = state.unflatten(0, (-1, n)).mean(1)
    first = torch.arange(0, len(state), n)
    mean = Dataset(modality.decode(middle), tree_map(lambda leaf: leaf[first], conditions), modality)
    modality.write(samples.values, samples.given, place)
    residual = torch.cat([one.residual for one in solutions]).double().mean().sqrt().item()
    numbers = {
        "n": len(samples),
        "observations": len(measured),
        "residual": residual * _unit(operator, modality),
        "residual_before": _prior_residual(task) * _unit(operator, modality),
        "noise": noise,
        "calls": torch.cat([one.nfe for one in solutions]).double().mean().item(),
        **_unknown_parameter(solutions),
        "seconds": time.monotonic() - start_time,
    }
    return InverseProblemResult(samples, mean, measured, numbers, place, _assumption_notes(model, solver, config))


def _check_scales(operator: Operator, modality: Modality, noise: float) -> None:
    """Refuse what would weigh columns by their units: sums of unlike numbers, and one noise for all of them."""
    scales = _scales(modality)
    if scales.max() <= (1 + 1e-6) * scales.min() or (isinstance(operator, Inpaint) and noise == 0):
        return
    raise UsageError(
        "the columns of these data have different units, so that one operator, or one noise, weighs them unlike",
        remedy="Take inpaint without --noise, or write a reward: feller steer RUN --reward",
    )


def _inverse_solver(method: str, scale: float | None, steps: int | None) -> InverseSolver:
    """Return the way with a name, guided as much as asked."""
    if method not in METHODS:
        raise UsageError.unknown_name("method", method, METHODS)
    solver = METHODS[method]()
    if steps is not None and isinstance(solver, DFlow):
        solver = replace(solver, minimizer=LBFGS(steps=steps))
    if scale is None:
        return solver
    if not isinstance(solver, GuidedSolver) or not isinstance(solver.guidance, PiGDM | DPS):
        raise UsageError(f"only guidance has a scale (pigdm, dps, ot-ode), {method} has none", remedy="Leave it out")
    check_number("scale", scale, gt=0, lt=torch.inf)
    return replace(solver, guidance=replace(solver.guidance, scale=scale))


def _complete_conditions(model: Model, n: int, conditions: dict[str, str], rng: Rng) -> Cond:
    """Return the conditions that are wanted; the others are not given where the model can do without, else drawn."""
    cond = model.sample_conditions(n, conditions, rng)
    if model.spec.cond_dropout:
        for name in cond.keys() - conditions.keys():
            cond[name] = torch.full_like(cond[name], len(model.spec.frequencies[name]))
    return model.spec.modality.add_derived_conditions(cond)


@dataclass(frozen=True, eq=False)
class _InverseTask:
    """What is to be explained, with one entry for each sample."""

    model: Model
    operator: Operator
    measured: Tensor
    noise: float
    """Standard deviation of the measurements, in the units of the data."""
    conditions: Cond
    rng: Rng


def _solve(task: _InverseTask, solver: InverseSolver, guidance: float, reporter: Reporter) -> list[InverseSolution]:
    """Restore some examples at a time."""
    spec, device = task.model.spec, next(task.model.network.parameters()).device
    path = cast(Affine, spec.path)
    size, solutions = max(1, default_batch_size(spec.space, device) // BATCH_SIZE_DIVISOR), []
    reporter.start("explaining")
    for rows, on_progress in iter_batches(len(task.measured), size, reporter.progress):
        batch_rng = replace(task.rng, first_example=rows.start)
        cond = tree_map(lambda leaf, rows=rows: leaf[rows].to(device), task.conditions)
        prior_model = PriorModel(make_process(task.model, cond, {}, guidance), path, spec.space)
        x_0 = spec.space.sample_base(rows.stop - rows.start, batch_rng.stream("source"), device)
        problem = _pose_problem(task.operator, task.measured[rows].to(device), task.noise, spec.modality, x_0)
        solutions.append(solver.restore(prior_model, problem, x_0, batch_rng, on_progress=on_progress))
    reporter.finish()
    return solutions


def _prior_residual(task: _InverseTask) -> float:
    """Return by how much any samples of the model differ from what was measured: the root mean square."""
    some, modality = slice(None, MAX_PRIOR_SAMPLES), task.model.spec.modality
    cond, measured = tree_map(lambda leaf: leaf[some], task.conditions), task.measured[some]
    samples = task.model.sample_dataset(len(measured), given=cond, rng=task.rng.fold_in("any"))
    state = modality.encode(samples.values)
    problem = _pose_problem(task.operator, measured, 0.0, modality, state)
    return problem.residual_mse(state).double().mean().sqrt().item()


def _assumption_notes(model: Model, solver: InverseSolver, config: SteerConfig) -> tuple[str, ...]:
    """Say what was assumed, because nothing was said of it."""
    options = config.measurement
    notes = [] if options.noise else ["the measurements count as exact (--noise 0)"]
    if options.scale is None and isinstance(solver, GuidedSolver) and isinstance(solver.guidance, PiGDM | DPS):
        notes.append(f"--scale {solver.guidance.scale:g} was chosen, which is usual for {options.method}")
    if config.steps is None and isinstance(solver, DFlow) and isinstance(solver.minimizer, LBFGS):
        notes.append(f"each search takes {solver.minimizer.steps} steps at most (--steps)")
    free = [name for name in model.spec.frequencies if name not in single_values(config.given)]
    if free:
        condition_text = "counts as not known" if model.spec.cond_dropout else "was drawn as often as in the data"
        notes += [f"{name} {condition_text} (--given {name}=...)" for name in free]
    return tuple(notes)


def _pose_problem(operator: Operator, measured: Tensor, noise: float, modality: Modality, like: Tensor) -> Measurement:
    """Pose the problem: holes in the units of states, whose numbers are alike, all else in those of the data."""
    scales = _scales(modality).to(like.device)
    scale = float(scales.mean())
    if isinstance(operator, Inpaint):
        zero = modality.decode_soft(torch.zeros_like(like[:1]))
        return Measurement(operator, operator(((measured - zero) / scales).to(like)), noise / scale)
    return Measurement(operator, measured, noise, modality.decode_soft, scale)


def _unit(operator: Operator, modality: Modality) -> float:
    """Return what a unit of the residual is in the units of the data."""
    return float(_scales(modality).mean()) if isinstance(operator, Inpaint) else 1.0


def _scales(modality: Modality) -> Float[Tensor, " 1 *d"]:
    """Return how much values change with states, number by number."""
    like = modality.space().sample_base(1, Rng(0).stream("shape"))
    zero, one = (modality.decode_soft(torch.full_like(like, number)) for number in (0.0, 1.0))
    return (one - zero).abs()


def _unknown_parameter(solutions: list[InverseSolution]) -> dict[str, float]:
    """Return what was found of the operator, where it has an unknown part."""
    estimates = [one.unknown for one in solutions if one.unknown is not None]
    return {"unknown": torch.cat(estimates).double().mean().item()} if estimates else {}
