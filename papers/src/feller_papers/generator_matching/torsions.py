"""Claims about torsion angles: jumps on von Mises paths against flows along geodesics."""

import functools
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.networks.mlp import MLP
from feller.paths import CircularBins, JumpPath, VonMisesConditionalPath
from feller.spaces import Torus
from feller.spaces.torus import TWO_PI
from feller.training.losses import CrossEntropy
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller_papers.claims import Claim, mean_of, numbers_of, spread_of, verdict
from feller_papers.generator_matching.fitted import TrainedProcess, fit
from feller_papers.generator_matching.lines import GeodesicPath
from feller_papers.generator_matching.rows import all_below, ranges, ratios
from feller_papers.generator_matching.setting import BOTH, FLOW, JUMPS, MIDPOINT, Setting
from feller_papers.setting import file_of

BINS = CircularBins(72)
"""Bins per angle."""
ARCHITECTURE = MLP(width=256, depth=3, frequencies=4, period=TWO_PI, num_bins=BINS.num_bins)
TRAINING = TrainConfig(batch_size=384, lr=2e-3, lr_decay_fraction=1.0, ema_decay=0.995)
HELD_OUT = 0.2
"""Fraction of test protein structures."""
FEW, SOME, USUAL, MANY = 4, 8, 16, 32
"""Network calls."""
WAYS = {
    "jumps": (False, JUMPS),
    "superposition": (False, BOTH),
    "von Mises flow, Euler": (False, FLOW),
    "von Mises flow, midpoint": (False, MIDPOINT),
    "shortest lines, Euler": (True, FLOW),
    "shortest lines, midpoint": (True, MIDPOINT),
}
"""Path of the network (True: geodesic, False: von Mises) and sampler, by name."""


@dataclass(frozen=True, eq=False)
class AngleData:
    """Pairs of backbone angles phi and psi, in radians in [0, 2 pi)."""

    name: str
    train: Float[Tensor, "n 2"]
    test: Float[Tensor, "m 2"]
    """Angles of other protein structures."""
    cells: int
    """Histogram bins per angle, limited by the test size."""


@functools.cache
def angles(folder: pathlib.Path | None) -> AngleData:
    """Return lysine angles if their file is given, else the tryptophan angles of the package."""
    file = file_of(folder, "manifolds", "torsions", "top8000_lys.csv.gz")
    if file is None:
        train, test = (_radians(read(f"example:torsions{part}").values[:, :2]) for part in ("", "/test"))
        return AngleData("tryptophan", train, test, 12)
    table = pd.read_csv(file, usecols=["pdb", "phi", "psi"], dtype={"pdb": str})  # some codes look like 1e10
    aside = torch.tensor([_share(code) < HELD_OUT for code in table["pdb"]])
    values = _radians(torch.from_numpy(table[["phi", "psi"]].to_numpy()))
    return AngleData("lysine", values[~aside], values[aside], 36)


def _radians(degrees: Tensor) -> Float[Tensor, "n 2"]:
    return Torus((2,)).project((degrees.double() * (TWO_PI / 360)).float())


def _share(code: str) -> float:
    """Return a hash of a protein structure in [0, 1)."""
    return int.from_bytes(blake2b(code.encode(), digest_size=4).digest()) / 2**32


@functools.cache
def fitted(folder: pathlib.Path | None, steps: int, seed: int) -> TrainedProcess:
    """Return a network trained on von Mises paths."""
    objective = FlowMatching(
        JumpPath(conditional_path=VonMisesConditionalPath(), endpoint_support=BINS), Torus((2,)), CrossEntropy()
    )
    return fit(objective, ARCHITECTURE, angles(folder).train, replace(TRAINING, steps=steps), seed)


@functools.cache
def fit_geodesic(folder: pathlib.Path | None, steps: int, seed: int) -> TrainedProcess:
    """Return a network of equal size and training on geodesic paths."""
    objective = FlowMatching(GeodesicPath(BINS), Torus((2,)), CrossEntropy())
    return fit(objective, ARCHITECTURE, angles(folder).train, replace(TRAINING, steps=steps), seed)


def variation(a: Float[Tensor, "n 2"], b: Float[Tensor, "m 2"], cells: int) -> float:
    """Return the total variation between two histograms of pairs of angles."""
    shares = [_cells(x, cells) / len(x) for x in (a, b)]
    return (shares[0] - shares[1]).abs().sum().item() / 2


def _cells(x: Float[Tensor, "n 2"], cells: int) -> Tensor:
    place = CircularBins(cells).target(x)
    return torch.bincount(place[:, 0] * cells + place[:, 1], minlength=cells**2).double()


@functools.cache
def distance(setting: Setting, name: str, calls: int, seed: int) -> float:
    """Return the total variation between samples and test angles."""
    lines, sampler = WAYS[name]
    found = angles(setting.data)
    model = (fit_geodesic if lines else fitted)(setting.data, setting.angles, seed)
    samples = model.samples(sampler, calls, len(found.test), Rng(seed).fold_in("samples"))
    return variation(samples, found.test, found.cells)


def row(setting: Setting, name: str, calls: int) -> list[float]:
    """Return the distance for each seed."""
    return [distance(setting, name, calls, seed) for seed in setting.seeds]


def floor(found: AngleData, seed: int) -> float:
    """Return the total variation between training and test angles."""
    some = torch.randperm(len(found.train), generator=Rng(seed).stream("some").shared_generator())[: len(found.test)]
    return variation(found.train[some], found.test, found.cells)


def _table(setting: Setting, calls: Sequence[int], names: Sequence[str]) -> str:
    rows = (f"{name} {', '.join(mean_of(row(setting, name, n), 3) for n in calls)}" for name in names)
    return f"total variation after {numbers_of(calls)} calls: {'; '.join(rows)}"


def quality(setting: Setting) -> list[Claim]:
    """Return the claim about jumps on a torus."""
    found = angles(setting.data)
    real = [floor(found, seed) for seed in setting.seeds]
    few, usual = (0.23, 0.16) if found.name == "lysine" else (max(real) + 0.14, max(real) + 0.07)
    worst = [
        max(pair) for pair in zip(*(row(setting, name, USUAL) for name in ("jumps", "superposition")), strict=True)
    ]
    soon = row(setting, "jumps", FEW)
    return [
        Claim(
            f"Jumps and superpositions model angles on a torus: phi and psi of {found.name}",
            "proteins by SO(3), whose networks are not at hand; here a total variation of at most "
            f"{usual:.2f} after {USUAL} calls, {few:.2f} by jumps after {FEW}",
            f"{_table(setting, (FEW, USUAL), ('jumps', 'superposition'))}; as many real angles {mean_of(real, 2)}",
            f"after {USUAL} calls {spread_of(worst)}; jumps after {FEW} {spread_of(soon)}",
            verdict(max(worst) <= usual and max(soon) <= few),
        )
    ]


def against_flows(setting: Setting) -> list[Claim]:
    """Return the claims against geodesic flows, and against the flow of the same network."""
    name = angles(setting.data).name
    claims = []
    for baseline, calls, words in (
        ("shortest lines, midpoint", (FEW, SOME), "the midpoint flow along shortest lines at few calls"),
        ("shortest lines, midpoint", (USUAL, MANY), "the midpoint flow along shortest lines at more calls"),
        ("von Mises flow, midpoint", (FEW, SOME, USUAL), "the midpoint flow of the same network at equal calls"),
    ):
        mine, theirs = ([row(setting, kind, n) for n in calls] for kind in ("jumps", baseline))
        shown = ("jumps", "superposition", baseline, baseline.replace("midpoint", "Euler"))
        found = [ratios(a, b) for a, b in zip(mine, theirs, strict=True)]
        claims.append(
            Claim(
                f"Jumps beat {words}: phi and psi of {name}",
                "not in the paper",
                _table(setting, calls, shown),
                ranges(found),
                verdict(all_below(found)),
            )
        )
    return claims
