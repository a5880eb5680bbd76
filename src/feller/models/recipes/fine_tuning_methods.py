"""Registry of fine-tuning methods by name, and their recipes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from feller.control.fine_tuning.adjoint_matching import AdjointMatching, FullAdjoint
from feller.control.fine_tuning.discrete_adjoint import DiscreteAdjoint
from feller.control.fine_tuning.draft import DRaFT, ReFL
from feller.control.fine_tuning.policy_gradient import PolicyGradient
from feller.control.fine_tuning.raft import RAFT
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.core.errors import UsageError
from feller.models.model import Model
from feller.models.pretrained.diffusers_network import DiffusersNetwork
from feller.models.recipes.recipe import Recipe
from feller.networks.mlp import MLP
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
DEFAULT_METHOD, GRADIENT_FREE_METHOD, TOKEN_METHOD = "adjoint-matching", "policy-gradient", "filtered"
"""Default methods of flows for rewards with a gradient and for rewards without one, and default method of tokens."""
DEFAULT_TRAINING = TrainConfig(
    steps=100, batch_size=64, lr=2e-4, warmup=10, lr_decay_fraction=0.5, grad_clip_norm=100.0, ema_decay=0.98
)
"""Default training settings of fine-tuning. The gradient clipping norm is high, since large gradients carry the
differences between modes."""


MLP_TRAINING = replace(DEFAULT_TRAINING, steps=1600, lr=1e-3, reuse_batches=4)
"""Training settings of adjoint matching for an MLP, whose roll-outs take more time than its gradient steps. At the
learning rate above, mass moves between modes that are far apart several times more slowly."""
PRETRAINED_TRAINING = replace(DEFAULT_TRAINING, batch_size=8, micro_batch=8, lr=1e-4)
"""Training settings for networks of diffusers. Gradients of the states of a roll-out are accumulated over
micro-batches, so that memory does not grow with the number of steps."""


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
    is_small = isinstance(spec.architecture, MLP) and objective.reuses_roll_outs
    is_pretrained = isinstance(spec.architecture, DiffusersNetwork)
    train = MLP_TRAINING if is_small else PRETRAINED_TRAINING if is_pretrained else DEFAULT_TRAINING
    return Recipe(architecture=spec.architecture, objective=objective, train=train, sampling=spec.sampling)
