"""Registry of fine-tuning methods by name, and their recipes."""

from collections.abc import Callable
from functools import partial

from feller.control.fine_tuning.adjoint_matching import AdjointMatching, FullAdjoint
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import RAFT
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.recipes.recipe import Recipe
from feller.training.optimizer import TrainConfig

METHODS: dict[str, Callable[..., FineTuning]] = {
    "adjoint-matching": AdjointMatching,
    "continuous-adjoint": partial(AdjointMatching, adjoint=FullAdjoint()),
    "discrete-adjoint": DiscreteAdjoint,
    "draft": DRaFT,
    "refl": ReFL,
    "filtered": RAFT,
    "policy-gradient": PolicyGradient,
}
DEFAULT_METHOD, GRADIENT_FREE_METHOD = "adjoint-matching", "policy-gradient"
"""Default method for rewards with a gradient, and default method for rewards without one."""
DEFAULT_TRAINING = TrainConfig(
    steps=100, batch_size=64, lr=2e-4, warmup=10, lr_decay_fraction=0.5, grad_clip_norm=100.0, ema_decay=0.98
)
"""Default training settings of fine-tuning. The gradient clipping norm is high, since large gradients carry the
differences between modes."""


def fine_tuning_recipe(method: str, model: Model, reward_scale: float, guidance: float) -> Recipe:
    """Return the recipe of a fine-tuning run.

    Args:
        method: One of `METHODS`.
        model: Model to fine-tune.
        reward_scale: Factor that multiplies the reward, in nats per unit of reward.
        guidance: Classifier-free guidance scale with which training samples are generated.

    Raises:
        UsageError: If the method is unknown, or if the model's process does not support it.
    """
    if method not in METHODS:
        raise UsageError.unknown_name("method", method, METHODS)
    spec = model.spec
    model.check_guidance(guidance)
    objective = METHODS[method](
        path=spec.path, space=spec.space, reward_scale=reward_scale, guidance=guidance, cond_dropout=spec.cond_dropout
    )
    return Recipe(architecture=spec.architecture, objective=objective, train=DEFAULT_TRAINING, sampling=spec.sampling)
