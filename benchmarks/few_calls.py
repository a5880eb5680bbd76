"""Errors of solvers with few network calls: python -m benchmarks.few_calls [--minutes 3] [--seed 0].

The error is the root mean square distance of samples to those of a fine grid from the same noise, as a multiple of that
of the midpoint method with as many calls. Velocities are those of a mixture of three Gaussians in the plane, which are
exact, and of a network fitted to the digits.
"""

import argparse
import tempfile
from collections.abc import Mapping

import torch
from torch import Tensor

import feller
from feller.paths.schedules import Schedule
from feller.sampling import DPMSolver, Midpoint, Solver, UniPC, simulate

CALLS = (8, 12, 20)
FINE = 1000
"""Number of steps of the reference."""
MEANS, STDS, WEIGHTS = ((-2.0, 0.5), (1.5, -1.0), (0.0, 2.0)), (0.4, 0.4, 0.3), (0.3, 0.5, 0.2)


def denoise(schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """Return the mean of the mixture given states x [n, 2] at times t."""
    scales = schedule(t[:, None, None])
    means = torch.tensor(MEANS, dtype=x.dtype)
    variances = torch.tensor(STDS, dtype=x.dtype)[:, None] ** 2
    total = scales.alpha**2 * variances + scales.sigma**2
    offsets = x[:, None] - scales.alpha * means
    logits = torch.tensor(WEIGHTS, dtype=x.dtype).log() - (offsets**2 / (2 * total) + total.log() / 2).sum(-1)
    return (logits.softmax(1)[..., None] * (means + scales.alpha * variances / total * offsets)).sum(1)


def errors(process: feller.Process, schedule: Schedule, x: Tensor) -> dict[str, dict[int, float]]:
    """Return the error of each solver at each number of calls."""
    solvers: Mapping[str, Solver] = {
        "midpoint": Midpoint(),
        "ab2": feller.AdamsBashforth(2),
        "ab3": feller.AdamsBashforth(3),
        "dpm-solver++": DPMSolver(schedule),
        "unipc": UniPC(schedule),
        "deis": feller.DEIS(schedule),
    }

    def sample(solver: Solver, steps: int) -> Tensor:
        return simulate(process, x, feller.linear_grid(steps), solver, feller.Rng(1))

    exact = sample(Midpoint(), FINE)
    return {
        name: {
            calls: float((sample(solver, solver.num_steps(calls)) - exact).double().square().mean().sqrt())
            for calls in CALLS
        }
        for name, solver in solvers.items()
    }


def show(title: str, found: Mapping[str, Mapping[int, float]]) -> None:
    print(title)
    for name, row in found.items():
        cells = (f"{row[calls]:.4f} ({row[calls] / found['midpoint'][calls]:.2f})" for calls in CALLS)
        print(f"  {name:14}" + "  ".join(cells), flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="training time of the model of digits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("calls:", *CALLS)
    schedules = {"linear": feller.Linear(), "cosine": feller.Cosine(), "vp": feller.VP()}
    for name, schedule in schedules.items():
        path = feller.Affine(schedule, prediction=feller.DataPrediction())
        process = path.process(lambda x, t, cond, schedule=schedule: denoise(schedule, x, t), {})
        x = feller.Rng(options.seed).stream("source").normal((2000, 2)).double()
        show(f"mixture, {name}", errors(process, schedule, x))
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        run = feller.fit("example:digits", minutes=options.minutes, seed=options.seed, out=folder, report=False)
        model = run.model
    path, rng = model.family.require_path(), feller.Rng(options.seed)
    cond = model.sample_conditions(500, {}, rng)
    x = rng.stream("source").normal((500, 1, 8, 8))
    show(f"digits, {options.minutes:g} minutes", errors(path.process(model.network, cond), path.affine_schedule, x))


if __name__ == "__main__":
    main()
