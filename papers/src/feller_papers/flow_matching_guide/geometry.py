"""Claims about manifolds, and about small networks on earth events and torsion angles."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.points.earth import Earth
from feller.evaluation.density_baselines import UNIFORM_WEIGHT, baseline_nll
from feller.models.recipes.points import manifold
from feller.models.recipes.recipe import Recipe
from feller.networks.mlp import MLP
from feller.paths import Geodesic, Premetric
from feller.paths.schedules import Polynomial
from feller.spaces import SO3, SPD, Manifold, Poincare, Simplex, Sphere, Torus
from feller_papers.claims import Claim, mean_of, spread_of, untestable, verdict
from feller_papers.flow_matching_guide.setting import Setting
from feller_papers.setting import file_of, fit_recipe

SPACES = (Sphere(2), Sphere(9), Torus((4,)), SO3(), Poincare(3), SPD(3), Simplex(4))
PLACES = {"volcano": "volcano.csv", "fire": "fire.csv", "earthquake": "earthquake_85pct.csv"}
LARGE, USUAL = 4000, 2000
"""Size from which a data set gets the wide network, and the size for which the usual steps suffice."""
WIDE, SLOW = 256, 0.9995
"""Width and EMA decay of the wide network."""


def _ends(space: Manifold, seed: int) -> tuple[Tensor, Tensor]:
    x_0, x_1 = (space.project(space.sample_base(256, Rng(seed).stream(end)).double()) for end in ("x_0", "x_1"))
    return x_0, space.exp(x_0, 0.9 * space.log(x_0, x_1))  # inside the cut locus


def closed_form(setting: Setting) -> list[Claim]:
    """Return the claim of equation 5.17: the velocity of the geodesic path, by finite differences."""
    gaps, h, t = [], 1e-5, torch.linspace(0.05, 0.95, 256, dtype=torch.float64)
    for seed in setting.seeds:
        for space in SPACES:
            (x_0, x_1), path = _ends(space, seed), Geodesic(space, Polynomial(2.0))
            x_t = path.sample(x_0, x_1, t)
            later, earlier = (space.log(x_t, path.sample(x_0, x_1, t + s)) for s in (h, -h))
            slope = (later - earlier) / (2 * h)
            target = path.target(x_t, x_0, x_1, t)
            gaps.append((space.norm(x_t, target - slope) / space.norm(x_t, target)).max().item())
    return [
        Claim(
            "The geodesic path has its velocity in closed form (5.17), on "
            + ", ".join(type(space).__name__ for space in SPACES),
            "equal to the derivative",
            f"largest relative difference {max(gaps):.1e} from a difference over {2 * h:g}",
            f"{len(setting.seeds)} seeds x {len(SPACES)} spaces x 256 pairs",
            verdict(max(gaps) < 1e-6),
        )
    ]


def premetric(setting: Setting) -> list[Claim]:
    """Return the claim of equation 5.19: the premetric path with the geodesic distance is the geodesic."""
    gaps, t = [], torch.linspace(0.05, 0.95, 256, dtype=torch.float64)
    for seed in setting.seeds:
        for space in SPACES:
            x_0, x_1 = _ends(space, seed)
            away = space.distance(Premetric(space, steps=128).sample(x_0, x_1, t), Geodesic(space).sample(x_0, x_1, t))
            gaps.append(away.max().item())
    return [
        Claim(
            "The premetric rule with the geodesic distance recovers the geodesic path (5.19)",
            "equal",
            f"largest distance {max(gaps):.1e} after 128 midpoint steps",
            f"{len(setting.seeds)} seeds x {len(SPACES)} spaces x 256 pairs",
            verdict(max(gaps) < 1e-4),
        )
    ]


def _published_split(dataset: Dataset, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    """Return the published split of 80, 10 and 10 percent, by torch's permutation of a seed."""
    n, tenth = len(dataset), len(dataset) // 10
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    train, validation, test = order.split([n - 2 * tenth, tenth, tenth])
    return dataset.subset(train), dataset.subset(validation), dataset.subset(test)


def likelihoods(dataset: Dataset, setting: Setting) -> Iterator[tuple[float, float]]:
    """Yield the test NLL per point of a trained network and of a density baseline, for each seed.

    On the sphere both are mixed with the same small weight of the uniform law, so that outliers cost little.
    """
    for seed in setting.seeds:
        train, _, test = _published_split(dataset, seed)
        model = fit_recipe(*_sized(train, setting.steps), seed)
        rival = baseline_nll(train, test, Rng(seed))
        found = model.log_prob(test)
        if isinstance(train.modality, Earth):
            uniform = torch.full_like(found, math.log(UNIFORM_WEIGHT / (4 * math.pi)))
            found = torch.logaddexp(found + math.log1p(-UNIFORM_WEIGHT), uniform)
        yield -found.mean().item(), math.nan if rival is None else rival


def _sized(train: Dataset, steps: int) -> tuple[Recipe, Dataset, int]:
    """Return recipe, data and number of steps for the size of a data set."""
    recipe = manifold(train, "small")
    if len(train) < LARGE or not isinstance(train.modality, Earth):
        return recipe, train, steps
    network = replace(cast(MLP, recipe.architecture), width=WIDE)
    recipe = replace(recipe, architecture=network, train=replace(recipe.train, ema_decay=SLOW))
    return recipe, train, steps * len(train) // USUAL


def _against(name: str, dataset: Dataset, setting: Setting, rival: str, most: float) -> Claim:
    ours, theirs = zip(*likelihoods(dataset, setting), strict=True)
    return Claim(
        f"Flow matching on a manifold fits real data: {name}, test negative log-likelihood in nats",
        "no figure in the guide",
        f"{mean_of(ours)}; {rival} {mean_of(theirs)}",
        spread_of(ours),
        verdict(all(a < b + most for a, b in zip(ours, theirs, strict=True))),
    )


def earth(setting: Setting) -> Iterator[Claim]:
    """Return the claims of section 5 on earth events, against kernel density estimates."""
    for name, file in PLACES.items():
        place = file_of(setting.data, "manifolds", "earth", file)
        if name != "volcano" and place is None:
            yield untestable(f"Flow matching on the sphere: {name}", "-", "give its folder with --data")
            continue
        dataset = read("example:volcano") if place is None else read(str(place))
        most = 0.1 if name == "volcano" else 0.0
        yield _against(name, dataset, setting, "kernel density, both with 2 % of the uniform law,", most)


def torsions(setting: Setting) -> Iterator[Claim]:
    """Return the claims of section 5 on side-chain torsions, against a mixture of 50 wrapped Gaussians."""
    for residue in ("trp", "lys"):
        place = file_of(setting.data, "manifolds", "torsions", f"top8000_{residue}.csv.gz")
        if place is None and residue == "lys":
            yield untestable("Flow matching on the torus: lysine", "-", "give its folder with --data")
            continue
        dataset = read("example:torsions") if place is None else read(str(place))
        yield _against(f"torsions of {residue}", dataset, setting, "mixture of 50 wrapped normal laws", 0.0)
