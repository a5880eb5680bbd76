"""feller learns Markov processes that turn noise into data, and puts them to work."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "bridging.found": ("FoundBridge", "solve_bridge"),
    "bridging.problem": ("BridgeProblem",),
    "bridging.settings": ("Bridging",),
    "couplings": (
        *(
            "AcrossRanks",
            "Aligned",
            "Coupling",
            "Entropic",
            "GeodesicCost",
            "Independent",
            "LabelAware",
            "MinibatchTransport",
            "Unbalanced",
        ),
        "WithinClasses",
    ),
    "data.read": ("read",),
    "draws": ("Draws",),
    "distillation": ("Distillation",),
    "errors": ("InputError", "UsageError"),
    "exchange.velocity": ("VelocityField", "velocity"),
    "exchange.wrap": ("wrap",),
    "guidance": ("cfg", "classifier_guidance", "token_classifier_guidance"),
    "journeys.cite": ("cite",),
    "journeys.export": ("export",),
    "journeys.fit": ("fit",),
    "journeys.sample": ("sample",),
    "divergence_free": ("langevin", "metropolis"),
    "losses": (
        *(
            "CrossEntropy",
            "GeneralisedKL",
            "InfinitesimalKL",
            "ItakuraSaito",
            "Loss",
            "PerLeaf",
            "PseudoHuber",
            "Squared",
        ),
        "Weighted",
    ),
    "maximum_likelihood": ("MaximumLikelihood",),
    "model": ("Model", "load_model"),
    "networks.mlp": ("MLP",),
    "objective": ("Matching", "Objective"),
    "paths": (
        *("Affine", "Angular", "Data", "Geodesic", "Mixture", "Path", "Prediction", "Premetric", "Score", "Source"),
        *("Binned", "Circle", "Interval", "Jump", "Lattice", "Point", "Velocity", "convert"),
    ),
    "paths.affine": ("Constant", "Level", "Memoryless", "Vanishing"),
    "paths.rescheduled": ("rescheduled",),
    "processes": ("Characteristics", "Jumps", "Process", "reverse"),
    "superposition": ("add", "superpose"),
    "recipes": ("Recipe",),
    "run": ("open_run",),
    "sampling": ("Sampling",),
    "sharding": ("shards",),
    "schedules": ("VE", "VP", "Cosine", "Formula", "Linear", "LinearVP", "Polynomial", "Schedule"),
    "simulate": (
        *("RK4", "Ancestral", "DormandPrince", "Euler", "Exact", "Heun", "Hutchinson", "MemorylessEuler", "Midpoint"),
        "Solver",
        *("bits_per_dimension", "endpoint", "log_density", "sample_with_density"),
    ),
    "spaces": (
        *("SO3", "SPD", "Euclidean", "Manifold", "Mesh", "Poincare", "Product", "Simplex", "Space", "Sphere", "Tokens"),
        *("Torus", "se3"),
    ),
    "times": ("LeafTimes", "LogitNormal", "Shifted", "Stratified", "TimeLaw", "edm_grid", "linear_grid"),
    "train.optimiser": ("Training",),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import feller` costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'feller' has no attribute {name!r}")
    return getattr(importlib.import_module(f"feller.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
