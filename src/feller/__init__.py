"""feller learns Markov processes that turn noise into data, and puts them to work."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "app.workflows.cite": ("cite",),
    "app.workflows.export": ("export",),
    "app.workflows.fit": ("fit",),
    "app.workflows.sample": ("sample",),
    "control.bridges.bridge_config": ("Bridging",),
    "control.bridges.problem": ("BridgeProblem",),
    "control.bridges.solution": ("FoundBridge", "solve_bridge"),
    "core.errors": ("InputError", "UsageError"),
    "core.output_shards": ("shards",),
    "core.rng": ("Draws",),
    "core.run_folder": ("open_run",),
    "data.loading.read": ("read",),
    "models.export.velocity": ("VelocityField", "velocity"),
    "models.export.wrap": ("wrap",),
    "models.model": ("Model", "load_model"),
    "models.recipes.recipe": ("Recipe",),
    "networks.blocks.ema": ("EMA",),
    "networks.mlp": ("MLP",),
    "paths": (
        *("Affine", "Angular", "Binned", "Circle", "Data", "Geodesic", "Interval", "Jump", "Lattice"),
        *("Mixture", "Path", "Point", "Prediction", "Premetric", "Score", "Source", "Velocity", "convert"),
    ),
    "paths.affine": ("Constant", "Level", "Memoryless", "Vanishing"),
    "paths.divergence_free": ("langevin", "metropolis"),
    "paths.processes": ("Characteristics", "Jumps", "Process", "reverse"),
    "paths.rescheduled": ("rescheduled",),
    "paths.schedules": ("Cosine", "Formula", "Linear", "LinearVP", "Polynomial", "Schedule", "VE", "VP"),
    "paths.superposition": ("add", "superpose"),
    "paths.time_distributions": (
        *("LeafTimes", "LogitNormal", "Shifted", "Stratified", "TimeLaw", "edm_grid", "linear_grid"),
    ),
    "sampling": (
        *("Ancestral", "DormandPrince", "Euler", "Exact", "Heun", "Hutchinson", "MemorylessEuler", "Midpoint"),
        *("RK4", "Solver", "bits_per_dimension", "endpoint", "log_density", "sample_with_density"),
    ),
    "sampling.guidance": ("cfg", "classifier_guidance", "token_classifier_guidance"),
    "sampling.sampler_config": ("Sampling",),
    "spaces": (
        *("Euclidean", "Manifold", "Mesh", "Poincare", "Product", "SO3", "SPD", "Simplex", "Space", "Sphere"),
        *("Tokens", "Torus", "se3"),
    ),
    "training.couplings": (
        *("AcrossRanks", "Aligned", "Coupling", "Entropic", "GeodesicCost", "Independent", "LabelAware"),
        *("MinibatchTransport", "Unbalanced", "WithinClasses"),
    ),
    "training.losses": (
        *("CrossEntropy", "GeneralisedKL", "InfinitesimalKL", "ItakuraSaito", "Loss", "PerLeaf"),
        *("PseudoHuber", "Squared", "Weighted"),
    ),
    "training.objective": ("Matching", "Objective"),
    "training.objectives.distillation": ("Distillation",),
    "training.objectives.maximum_likelihood": ("MaximumLikelihood",),
    "training.optimizer": ("Training",),
    "training.trainer": ("Callback", "Trainer"),
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
