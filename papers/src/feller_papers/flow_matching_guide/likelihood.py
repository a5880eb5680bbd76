"""Claims about likelihoods of flows, without training."""

import math

import torch
from torch import Tensor

from feller.core.pytree import append_dims
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.processes import Characteristics
from feller.paths.schedules import Cosine, Linear, Polynomial
from feller.sampling import DormandPrince, ExactDivergence, GaussianProbe, Hutchinson, RademacherProbe, log_prob
from feller.sampling.divergence import Divergence, ProbeDistribution
from feller.spaces import Sphere
from feller_papers.claims import Claim, mean_of, spread_of, verdict
from feller_papers.flow_matching_guide.setting import Setting


def change_of_variables(setting: Setting) -> list[Claim]:
    """Return the claim of equation 3.31, for the exact flow from N(0, 1) to N(1, 1/4)."""
    truth, errors = -(0.7**2) * 2 - math.log(0.5 * math.sqrt(2 * math.pi)), []
    for schedule in (Linear(), Polynomial(2.0), Cosine()):

        def velocity(x: Tensor, t: Tensor, given: object, schedule: Linear | Polynomial | Cosine = schedule) -> Tensor:
            alpha, sigma, d_alpha, d_sigma = (
                append_dims(torch.as_tensor(scale, dtype=x.dtype).expand(len(x)), x) for scale in schedule(t)
            )
            gain = (alpha * d_alpha / 4 + sigma * d_sigma) / (alpha**2 / 4 + sigma**2)
            return d_alpha + gain * (x - alpha)

        found = log_prob(
            Affine(schedule).process(velocity, {}),
            torch.tensor([[0.3]], dtype=torch.float64),
            [1.0, 0.0],
            DormandPrince(rtol=1e-10, atol=1e-10),
            Rng(0),
            divergence=ExactDivergence(),
        )
        errors.append(abs(found.item() - truth))
    return [
        Claim(
            "The log density is that of the source minus the divergence along the way (3.31)",
            f"{truth:.10f} at 0.3 for data N(1, 1/4)",
            f"largest error {max(errors):.1e} for the linear, a polynomial and the cosine schedule",
            "no randomness",
            verdict(max(errors) < 1e-8),
        )
    ]


def hutchinson(setting: Setting) -> list[Claim]:
    """Return the claim of equation 3.33 for the field x -> A x, A = [[1, 2], [3, -4]]."""
    n, matrix = 200_000, torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
    claims = []
    for name, probe, variance in (("Rademacher", RademacherProbe(), 25.0), ("Gaussian", GaussianProbe(), 59.0)):
        found = [_trace_estimates(matrix, probe, n, seed) for seed in setting.seeds]
        means, variances = [x.mean().item() for x in found], [x.var().item() for x in found]
        error = 4 * math.sqrt(variance / n)
        holds = all(abs(mean + 3) < error for mean in means)
        holds &= all(abs(v / variance - 1) < 0.03 for v in variances)
        claims.append(
            Claim(
                f"One {name} probe estimates the divergence without bias (3.33)",
                f"mean -3; variance {variance:g} from the formula",
                f"mean {mean_of(means)}, variance {mean_of(variances)} of {n:,} probes",
                spread_of(means) + " of the mean",
                verdict(holds),
            )
        )
    return claims


def _trace_estimates(matrix: Tensor, probe: ProbeDistribution, n: int, seed: int) -> Tensor:
    """Return n estimates of the trace of a matrix."""
    x, estimate = torch.zeros(n, 2, dtype=torch.float64), Hutchinson(distribution=probe)
    return estimate(lambda x: x @ matrix.T, x, estimate.probes(x, Rng(seed).stream("probe")))[1]


def integrates_to_one(setting: Setting) -> list[Claim]:
    """Return the claim of section 5.3 about densities on the sphere."""
    space, rows = Sphere(2), 64
    u, angle = torch.meshgrid(
        (torch.arange(rows, dtype=torch.float64) + 0.5) / rows * 2 - 1,
        (torch.arange(2 * rows, dtype=torch.float64) + 0.5) / rows * math.pi,
        indexing="ij",
    )
    ring = (1 - u**2).sqrt()
    x = torch.stack([ring * angle.cos(), ring * angle.sin(), u], -1).reshape(-1, 3)  # cells of equal area

    def field(x: Tensor, t: Tensor) -> Characteristics:
        pole = torch.tensor([0.6, 0.0, 0.8], dtype=x.dtype)
        return Characteristics(velocity=space.to_tangent(x, pole * (1 + x[:, :1].sin())))

    totals = []
    for divergence in (ExactDivergence(), Hutchinson(16)):
        estimator: Divergence = divergence
        solver = DormandPrince(space=space, rtol=1e-7, atol=1e-7)
        density = log_prob(field, x, [1.0, 0.0], solver, Rng(0), divergence=estimator)
        totals.append(density.exp().mean().item() * 4 * math.pi)
    return [
        Claim(
            "Densities on a manifold follow from the Riemannian divergence (section 5.3): they integrate to one",
            "1",
            f"{totals[0]:.6f} over the sphere with the exact divergence, {totals[1]:.4f} with 16 probes "
            "(unbiased for the log of the density, so too large for the density)",
            "no randomness; seed 0 for the probes",
            verdict(abs(totals[0] - 1) < 1e-2),
        )
    ]
