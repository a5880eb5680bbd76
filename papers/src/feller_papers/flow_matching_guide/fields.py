"""Claims of the theorems about fields, with exact fields."""

import torch
from torch import Tensor

from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.paths import Affine, DataPrediction, NoisePrediction, ScorePrediction, VelocityPrediction
from feller.paths.affine import ConstantDiffusion, SigmaProportional
from feller.paths.path import Cond
from feller.paths.schedules import Cosine, Linear, LinearVP, Polynomial
from feller.paths.time_distributions import linear_grid
from feller.sampling import DormandPrince, Euler, Midpoint, simulate
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.flow_matching_guide.setting import ExactField, Setting, few_points


def same_gradient(setting: Setting) -> list[Claim]:
    """Return the claim of theorem 4, with the exact field of 32 points and a linear model."""
    data, n = few_points(), 400_000
    exact, path, differences, errors = ExactField(data, Linear(), VelocityPrediction()), Affine(), [], []
    for seed in setting.seeds:
        rng = Rng(seed).fold_in("gradient")
        x_1 = data[rng.stream("data").randint(len(data), (n,))]
        x_0, t = (
            rng.stream("source").normal((n, 2), torch.float64),
            rng.stream("time").uniform((n,), torch.float64) * 0.9,
        )
        x_t = path.sample(x_0, x_1, t)
        inputs = torch.cat([x_t, t[:, None], torch.ones(n, 1, dtype=torch.float64)], 1)
        # At zero weights the gradient of |inputs weights - target|^2 is -2 inputs^T target, example by example.
        conditional, marginal = (
            -2 * inputs[:, :, None] * target[:, None, :]
            for target in (path.target(x_t, x_0, x_1, t), exact(x_t, t, {}))
        )
        gradient_norm, difference = marginal.mean(0).norm(), conditional - marginal
        differences.append((difference.mean(0).norm() / gradient_norm).item())
        errors.append((difference.var(0).sum().div(n).sqrt() / gradient_norm).item())
    return [
        Claim(
            "The conditional loss has the gradient of the marginal loss (theorem 4)",
            "equal",
            f"relative difference {mean_of(differences, 2)} from {n:,} draws; its standard error is"
            f" {mean_of(errors, 2)}",
            spread_of(differences),
            verdict(all(gap < 3 * error for gap, error in zip(differences, errors, strict=True))),
        )
    ]


def same_field(setting: Setting) -> list[Claim]:
    """Return the claim of section 4.8.1 about prediction types."""
    data, differences = few_points(), []
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((256, 2), torch.float64)
        ends = []
        for prediction in (VelocityPrediction(), DataPrediction(), NoisePrediction(), ScorePrediction()):
            path = Affine(prediction=prediction)
            process = path.process(ExactField(data, Linear(), prediction), {})
            solver = Midpoint()
            ends.append(simulate(process, x_0, linear_grid(200, 1e-3, 0.99), solver, Rng(0)))
        differences.append(max((end - ends[0]).abs().max().item() for end in ends[1:]))
    return [
        Claim(
            "Velocity, data, source and score predictions give the same trajectories (table 1)",
            "equal",
            f"largest difference {mean_of(differences, 2)} in the state after 200 midpoint steps, float64",
            spread_of(differences),
            verdict(max(differences) < 1e-8),
        )
    ]


def same_end(setting: Setting) -> list[Claim]:
    """Return the claim of equation 4.68 about schedules."""
    data, differences = few_points(), []
    for seed in setting.seeds:
        x_0 = Rng(seed).stream("source").normal((256, 2), torch.float64)
        ends = []
        for schedule in (Linear(), Polynomial(2.0), Cosine(), LinearVP()):
            path = Affine(schedule)
            # Stop at one signal-to-noise ratio, not at one time: there the flows differ by a scale alone.
            snr = torch.tensor([2000.0], dtype=torch.float64)
            end_time = schedule.t_from_snr(snr)
            process = path.process(ExactField(data, schedule, VelocityPrediction()), {})
            with torch.no_grad():
                end = simulate(process, x_0, [0.0, end_time.item()], DormandPrince(rtol=1e-9, atol=1e-9), Rng(0))
            ends.append(end / torch.as_tensor(schedule(end_time).alpha))
        differences.append(max((end - ends[0]).abs().max().item() for end in ends[1:]))
    return [
        Claim(
            "Linear, polynomial, cosine and variance-preserving schedules map a source point to the same datum (4.68)",
            "equal",
            f"largest difference {mean_of(differences, 2)} in the end point",
            spread_of(differences),
            verdict(max(differences) < 1e-4),
        )
    ]


def noise_keeps_marginals(setting: Setting) -> list[Claim]:
    """Return the claim of section 10.4 about noise levels, for data N(1, 0.25)."""
    worst = []
    n = 200_000

    def field(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        t = append_dims(t, x_t)
        gain = (0.25 * t - (1 - t)) / (0.25 * t**2 + (1 - t) ** 2)
        return 1 + gain * (x_t - t)

    for seed in setting.seeds:
        for noise in (None, ConstantDiffusion(1.0), SigmaProportional(2.0)):
            path = Affine(noise=noise)
            x_0 = Rng(seed).stream("source").normal((n, 1))
            end = simulate(path.process(field, {}), x_0, linear_grid(400), Euler(), Rng(seed))
            worst.append(max(abs(end.mean().item() - 1), abs(end.std().item() - 0.5)))
    return [
        Claim(
            "Sampling with any noise level keeps the marginals (section 10.4)",
            "mean 1, standard deviation 0.5",
            f"largest error {max(worst):.2g} for g^2 = 0, 1, 2(1 - t); 400 Euler-Maruyama steps",
            f"{len(setting.seeds)} seeds x 3 levels, {min(worst):.2g} to {max(worst):.2g}",
            verdict(max(worst) < 0.006),
        )
    ]
