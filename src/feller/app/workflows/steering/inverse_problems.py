"""Solution of inverse problems: drawing of posterior samples given a measurement, without training the model."""

import pathlib
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.app.config import SteerConfig, single_values
from feller.app.option_groups import MeasurementOptions
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.steering.measurements import parse_operator, read_mask, read_measurements
from feller.app.workflows.steering.model_flow import BATCH_SIZE_DIVISOR, make_process
from feller.control.inverse.guided_solver import DPS, GuidedSolver, PiGDM
from feller.control.inverse.inverse_methods import METHODS, DFlow
from feller.control.inverse.inverse_problem import InverseSolution, InverseSolver, Measurement, PriorModel
from feller.control.inverse.operators import DecodedOperator, Inpaint, Operator
from feller.control.inverse.twisted_smc import TwistedSMC
from feller.control.optimize.lbfgs import LBFGS
from feller.core.errors import UsageError, check_number
from feller.core.precision import Precision, parse_precision
from feller.core.pytree import Cond, tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.modality import Dataset, Modality
from feller.data.path_checks import require_exists
from feller.models.families.model_family import default_batch_size, iter_batches
from feller.models.model import Model, load_model
from feller.paths import Affine
from feller.training.engine import get_engine

LATENT_SCALE = 64.0
"""Change of pixel values, out of 255, when latents change by their standard deviation."""
N = 4
"""Default number of samples per measurement."""
MAX_PRIOR_SAMPLES = 64
"""Maximum number of unconditional samples, whose residuals are the reference for the residuals of the solutions."""


@dataclass(frozen=True, eq=False)
class InverseProblemResult:
    """Posterior samples given one or several measurements."""

    samples: Dataset
    """Posterior samples, grouped by measurement."""
    posterior_mean: Dataset
    """Mean of the posterior samples for each measurement; the posterior mean minimises the expected squared error."""
    measured: Float[Tensor, " m *k"]
    """Measurements in data units."""
    numbers: dict[str, Any]
    path: pathlib.Path
    notes: tuple[str, ...] = ()
    """Notes on default settings that were used."""


def solve_inverse_problem(run: Run, config: SteerConfig, *, reporter: Reporter = SILENT) -> InverseProblemResult:
    """Draw posterior samples given the measurements, and write the samples.

    Args:
        run: Run with the model, which was not trained for the problem.
        config: Options of `feller steer`. Conditions that are not given are dropped if the model supports unconditional
            sampling; otherwise they are sampled.
        reporter: Progress and log output.

    Raises:
        InputError: If the run, the measurements or a custom operator is unusable.
        UsageError: If an argument is wrong, or the model's data are not numeric vectors.
    """
    options, conditions_given = config.measurement, single_values(config.given)
    file, noise = pathlib.Path(options.observe or ""), options.noise
    require_exists(file, "a file")
    solver = _inverse_solver(options, config.steps)
    group_size = solver.particles if isinstance(solver, TwistedSMC) else config.n or N
    n = check_kept(config.n, group_size)
    model, start_time = load_model(run), time.monotonic()
    model.network.to(get_engine().device)
    modality, family = model.spec.modality, model.family
    path = model.spec.path if family.is_process else None
    if path is None or path.affine_schedule is None or not path.is_flow:
        raise UsageError(
            "inverse problems need a flow model with an affine path (points, images); this model"
            f" {family.describe()}. Use a reward instead: feller steer RUN --reward"
        )
    out_path = run.output_path(config.out)
    modality.check_place(out_path)
    template = modality.decode_soft(model.spec.space.sample_base(1, Rng(0).stream("shape")))
    if not isinstance(template, torch.Tensor):
        raise UsageError(
            f"inverse problems need a model of points or images; this model's data are {modality.display_name}"
        )
    shape = tuple(template.shape[1:])
    mask = None if options.mask is None else read_mask(pathlib.Path(options.mask), shape)
    operator = parse_operator(options.operator or "", mask, shape)
    _check_scales(operator, modality, noise)
    measured = read_measurements(file, operator, modality, shape)
    if isinstance(operator, Inpaint):
        measured = operator(measured)  # unobserved entries of the file are arbitrary
    rng = Rng(config.seed).fold_in("observe")
    if isinstance(solver, TwistedSMC):  # the particles of a measurement share its conditions
        conditions = _complete_conditions(model, len(measured), conditions_given, rng)
        conditions = tree_map(lambda leaf: leaf.repeat_interleave(group_size, 0), conditions)
    else:
        conditions = _complete_conditions(model, n * len(measured), conditions_given, rng)
    task = _InverseTask(model, operator, measured.repeat_interleave(group_size, 0), noise, conditions, rng)
    solutions = _solve(task, solver, config.flow.guidance, parse_precision(config.flow.precision), reporter)
    kept = kept_rows(len(measured), group_size, n)
    conditions = tree_map(lambda leaf: leaf[kept], conditions)
    particles = torch.cat([solution.state for solution in solutions])
    state = particles[kept.to(particles.device)]
    samples = Dataset(modality.decode(state), conditions, modality)
    first_rows = torch.arange(0, len(state), n)
    posterior_mean = Dataset(
        _mean_values(modality, particles, group_size), tree_map(lambda leaf: leaf[first_rows], conditions), modality
    )
    modality.write(samples.values, samples.given, out_path)
    residual = torch.cat([solution.residual for solution in solutions]).double().mean().sqrt().item()
    metrics = {
        "n": len(samples),
        "observations": len(measured),
        "residual": residual * _unit(operator, modality),
        "residual_before": _prior_residual(task) * _unit(operator, modality),
        "noise": noise,
        "calls": torch.cat([solution.nfe for solution in solutions]).double().mean().item(),
        **_unknown_parameter(solutions),
        **effective_sizes([solution.ess for solution in solutions if solution.ess is not None]),
        "seconds": time.monotonic() - start_time,
    }
    return InverseProblemResult(
        samples, posterior_mean, measured, metrics, out_path, _assumption_notes(model, solver, config)
    )


def _mean_values(modality: Modality, state: Tensor, n: int) -> Tensor:
    """Return the means of each n samples in data units; of the decoded samples if states are latents."""
    if not modality.aux_networks:
        return modality.decode(state.unflatten(0, (-1, n)).mean(1))
    with torch.no_grad():
        return modality.decode_soft(state).unflatten(0, (-1, n)).mean(1).clamp(0, 255).round().to(torch.uint8)


def check_kept(n: int | None, particles: int) -> int:
    """Return the number of samples per group: n, or all particles; UsageError if n is above the particles."""
    if n is not None and n > particles:
        remedy = f"Use -n {particles}, or --particles {n}"
        raise UsageError(argument="n", expected=f"at most the {particles} particles", found=f"{n}", remedy=remedy)
    return particles if n is None else n


def kept_rows(groups: int, particles: int, n: int) -> Int64[Tensor, " m"]:
    """Return the rows of n evenly spaced particles of each group; resampled particles are ordered by their ancestor."""
    return (torch.arange(groups)[:, None] * particles + torch.arange(n) * particles // n).flatten()


def effective_sizes(per_batch: list[Tensor]) -> dict[str, Any]:
    """Return the effective sample sizes of particles, averaged over groups: at the end, the least, and of each step.

    Empty for methods without particles.
    """
    if not per_batch:
        return {}
    by_step = torch.cat(per_batch, 1).mean(1).tolist()
    return {"ess_end": by_step[-1], "ess_least": min(by_step), "ess_steps": [round(size, 1) for size in by_step]}


def _check_scales(operator: Operator, modality: Modality, noise: float) -> None:
    """Raise an error if columns have different scales, since a common operator or noise would weight them unequally."""
    scales = _scales(modality)
    if scales.max() <= (1 + 1e-6) * scales.min() or (isinstance(operator, Inpaint) and noise == 0):
        return
    raise UsageError(
        "the columns of these data have different scales, so a common operator or noise would weight them unequally",
        remedy="Use inpaint without --noise, or a reward: feller steer RUN --reward",
    )


def _inverse_solver(options: MeasurementOptions, steps: int | None) -> InverseSolver:
    method, scale = options.method, options.scale
    if method not in METHODS:
        raise UsageError.unknown_name("method", method, METHODS)
    solver = METHODS[method]()
    if steps is not None and isinstance(solver, DFlow):
        solver = replace(solver, minimizer=LBFGS(steps=steps))
    if isinstance(solver, TwistedSMC):
        solver = replace(solver, particles=options.particles or solver.particles, steps=steps or solver.steps)
    if scale is None:
        return solver
    if not isinstance(solver, GuidedSolver) or not isinstance(solver.guidance, PiGDM | DPS):
        raise UsageError(f"--scale applies to guidance (pigdm, dps, ot-ode), not to {method}", remedy="Leave it out")
    check_number("scale", scale, gt=0, lt=torch.inf)
    return replace(solver, guidance=replace(solver.guidance, scale=scale))


def _complete_conditions(model: Model, n: int, conditions: dict[str, str], rng: Rng) -> Cond:
    """Return conditions for n samples; those not given are dropped if the model supports it, otherwise sampled."""
    cond = model.sample_conditions(n, conditions, rng)
    if model.spec.cond_dropout:
        for name in cond.keys() - conditions.keys():
            cond[name] = model.spec.null_condition(name, n)
    return model.spec.modality.add_derived_conditions(cond)


@dataclass(frozen=True, eq=False)
class _InverseTask:
    """Inverse problem for a batch, with one measurement per sample."""

    model: Model
    operator: Operator
    measured: Tensor
    noise: float
    """Standard deviation of the measurement noise, in data units."""
    conditions: Cond
    rng: Rng


def _solve(
    task: _InverseTask, solver: InverseSolver, guidance: float, precision: Precision, reporter: Reporter
) -> list[InverseSolution]:
    spec, device = task.model.spec, next(task.model.network.parameters()).device
    path = cast(Affine, spec.path)
    batch_size, solutions = max(1, default_batch_size(spec.space, device) // BATCH_SIZE_DIVISOR), []
    if isinstance(solver, TwistedSMC):
        batch_size = max(1, batch_size // solver.particles) * solver.particles  # whole groups
    reporter.start("solving the inverse problem")
    for rows, on_progress in iter_batches(len(task.measured), batch_size, reporter.progress):
        batch_rng = replace(task.rng, first_example=rows.start)
        cond = tree_map(lambda leaf, rows=rows: leaf[rows].to(device), task.conditions)
        prior_model = PriorModel(make_process(task.model, cond, {}, guidance, precision), path, spec.space)
        x_0 = spec.space.sample_base(rows.stop - rows.start, batch_rng.stream("source"), device)
        problem = _pose_problem(task.operator, task.measured[rows].to(device), task.noise, spec.modality, x_0)
        solutions.append(solver.restore(prior_model, problem, x_0, batch_rng, on_progress=on_progress))
    reporter.finish()
    return solutions


def _prior_residual(task: _InverseTask) -> float:
    """Return the root mean squared residual of samples drawn without the measurement."""
    rows, modality = slice(None, MAX_PRIOR_SAMPLES), task.model.spec.modality
    cond, measured = tree_map(lambda leaf: leaf[rows], task.conditions), task.measured[rows]
    samples = task.model.sample_dataset(len(measured), given=cond, rng=task.rng.fold_in("any"))
    state = modality.encode(samples.values)
    problem = _pose_problem(task.operator, measured, 0.0, modality, state)
    return problem.residual_mse(state).double().mean().sqrt().item()


def _assumption_notes(model: Model, solver: InverseSolver, config: SteerConfig) -> tuple[str, ...]:
    options = config.measurement
    notes = [] if options.noise else ["the measurements are assumed exact (--noise 0)"]
    if options.scale is None and isinstance(solver, GuidedSolver) and isinstance(solver.guidance, PiGDM | DPS):
        notes.append(f"--scale {solver.guidance.scale:g} was chosen, the default of {options.method}")
    if config.steps is None and isinstance(solver, DFlow) and isinstance(solver.minimizer, LBFGS):
        notes.append(f"each sample is optimised for at most {solver.minimizer.steps} steps (--steps)")
    if isinstance(solver, TwistedSMC):
        notes.append(f"{solver.particles} particles per measurement in {solver.steps} steps (--particles, --steps)")
    unset = [name for name in model.spec.frequencies if name not in single_values(config.given)]
    if unset:
        condition_text = "is unconditional" if model.spec.cond_dropout else "was sampled with its training frequencies"
        notes += [f"{name} {condition_text} (--given {name}=...)" for name in unset]
    return tuple(notes)


def _pose_problem(operator: Operator, measured: Tensor, noise: float, modality: Modality, like: Tensor) -> Measurement:
    """Return the measurement as the solver needs it: in units of the model's state for inpainting, else in data units.

    `like` is a state that gives device and dtype.
    """
    scales = _scales(modality).to(like.device)
    scale = float(scales.mean())
    if modality.aux_networks:
        return Measurement(DecodedOperator(operator, modality.decode_soft), measured, noise, scale=scale)
    if isinstance(operator, Inpaint):
        zero = modality.decode_soft(torch.zeros_like(like[:1]))
        return Measurement(operator, operator(((measured - zero) / scales).to(like)), noise / scale)
    return Measurement(operator, measured, noise, modality.decode_soft, scale)


def _unit(operator: Operator, modality: Modality) -> float:
    """Return the factor from the residuals of the measurement to data units: 1, except for inpainting.

    Inpainting measures in units of the model's state.
    """
    is_in_state_units = isinstance(operator, Inpaint) and not modality.aux_networks
    return float(_scales(modality).mean()) if is_in_state_units else 1.0


def _scales(modality: Modality) -> Float[Tensor, " 1 *d"]:
    """Return the change of each data value when the model's state changes by 1; about that, if states are latents."""
    if modality.aux_networks:
        return torch.full((1,), LATENT_SCALE)
    like = modality.space().sample_base(1, Rng(0).stream("shape"))
    zero, one = (modality.decode_soft(torch.full_like(like, level)) for level in (0.0, 1.0))
    return (one - zero).abs()


def _unknown_parameter(solutions: list[InverseSolution]) -> dict[str, float]:
    """Return the mean estimate of the operator's unknown parameter; empty if the operator has none."""
    estimates = [solution.unknown for solution in solutions if solution.unknown is not None]
    return {"unknown": torch.cat(estimates).double().mean().item()} if estimates else {}
