"""Ways of tuning a model to a reward, by name."""

from collections.abc import Callable
from functools import partial

from feller.control.fine_tuning.adjoint_matching import AdjointMatching, Full
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DirectGradient, OneStep
from feller.control.fine_tuning.fine_tuning import Tuning
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import Filtered
from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.training.optimizer import Training

METHODS: dict[str, Callable[..., Tuning]] = {
    "adjoint-matching": AdjointMatching,
    "continuous-adjoint": partial(AdjointMatching, adjoint=Full()),
    "discrete-adjoint": DiscreteAdjoint,
    "draft": DirectGradient,
    "refl": OneStep,
    "filtered": Filtered,
    "policy-gradient": PolicyGradient,
}
USUAL, WITHOUT_GRADIENT = "adjoint-matching", "policy-gradient"
"""What is chosen for rewards with a gradient, and for those without."""
TRAINING = Training(steps=100, batch=64, lr=2e-4, warmup=10, decay=0.5, clip=100.0, average=0.98)
"""Rounds of roll-outs. Long gradients are what tells modes apart, so hardly any is shortened."""


def tuning(method: str, model: Model, strength: float, guidance: float) -> Recipe:
    """Return how a model is tuned.

    Args:
        method: One of `METHODS`.
        model: Where it begins.
        strength: Factor on the reward: nats for one unit of it.
        guidance: Of all samples that tuning looks at.

    Raises:
        UsageError: If no method is called so, or the model's data have no such process.
    """
    if method not in METHODS:
        raise UsageError.unknown_name("method", method, METHODS)
    about = model.description
    model.check_guidance(guidance)
    objective = METHODS[method](
        path=about.path, space=about.space, strength=strength, guidance=guidance, cond_dropout=about.cond_dropout
    )
    return Recipe(architecture=about.architecture, objective=objective, train=TRAINING, sampling=about.sampling)
