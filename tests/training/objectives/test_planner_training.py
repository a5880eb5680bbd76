"""Training of planners: the probability that tokens are right, against enumeration on a small Markov chain."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.models.families.model_family import SampleRequest, family_for
from feller.models.families.predictive_models import PlannerModel
from feller.paths import Mixture
from feller.paths.time_distributions import TimeDistribution
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Tokens, UniformSource
from feller.training.objective import ObjectiveConfig, TrainingContext
from feller.training.objectives.planner_training import PlannerTraining
from tests.errors import refuses
from tests.paths.discrete.markov_chain import LENGTH, PROBS, SEQUENCES, VOCAB_SIZE, network

PATH, SPACE = Mixture(source=MaskSource()), Tokens(VOCAB_SIZE, (LENGTH,), MaskSource())
T = 0.4
"""Time of all examples."""


@dataclass(frozen=True)
class SingleTime(TimeDistribution):
    """All times are T."""

    def quantile(self, u: Tensor) -> Tensor:
        return torch.full_like(u, T)


CONFIG = PlannerTraining(PATH, SPACE, time_distribution=SingleTime())


def probability_right() -> Tensor:
    """Return P(x_1^i = c^i | c) of completed sequences c at time T, [81, n], and the probability of c, [81]."""
    right, total = torch.zeros(len(SEQUENCES), LENGTH).double(), torch.zeros(len(SEQUENCES)).double()
    for mask in itertools.product((False, True), repeat=LENGTH):
        is_masked = torch.tensor(mask)
        weight = T ** mask.count(False) * (1 - T) ** mask.count(True)
        x_t = torch.where(is_masked, VOCAB_SIZE, SEQUENCES)
        fill = network(x_t, torch.zeros(()), {}).exp()
        fill = fill / fill.sum(2, keepdim=True)
        chosen = fill.gather(2, SEQUENCES[..., None])[..., 0]
        fills = torch.where(is_masked, chosen, 1.0).prod(
            1
        )  # of the completion c, whose revealed tokens are those of x_t
        agrees = ((SEQUENCES[:, None] == SEQUENCES) | is_masked).all(2).double()  # x_1 and c on revealed tokens
        joint = PROBS[:, None] * agrees * weight * fills
        total += joint.sum(0)
        right += torch.einsum("ac,aci->ci", joint, (SEQUENCES[:, None] == SEQUENCES).double())
    return right / total[:, None], total


def test_targets_have_the_probabilities_of_enumeration() -> None:
    """Over 300,000 examples within 5.5 standard errors for 405 numbers: false alarm 2e-5."""
    n, (expected, law) = 300_000, probability_right()
    assert abs(law.sum().item() - 1) < 1e-12
    x_1 = SEQUENCES[PROBS.multinomial(n, replacement=True, generator=torch.Generator().manual_seed(0))]
    objective = CONFIG.build(TrainingContext(teacher=network))
    example = objective.draw({"x_1": x_1, "given": {}}, Rng(0))
    index = (example["x_t"] * VOCAB_SIZE ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    counts = torch.bincount(index, minlength=81).double()
    right = torch.zeros(81, LENGTH).double().index_add(0, index, example["target"].double())
    assert ((counts / n - law).abs() < 5.5 * (law * (1 - law) / n).sqrt()).all()
    error = (expected * (1 - expected) / counts[:, None].clamp(min=1)).sqrt()
    frequent = counts > 300
    assert frequent.sum() > 40
    assert ((right / counts[:, None].clamp(min=1) - expected).abs() <= 5.5 * error + 1e-9)[frequent].all()


def test_loss_is_the_cross_entropy_of_the_token_at_each_position() -> None:
    objective = CONFIG.build(TrainingContext(teacher=network))
    x = torch.tensor([[0, 1, 2, 0]])
    example = {"x_t": x, "t": torch.tensor([T]), "target": torch.tensor([[1.0, 0.0, 1.0, 1.0]]), "given": {}}
    logits = torch.randn(1, LENGTH, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    odds = [logits[0, i, token].item() for i, token in enumerate(x[0].tolist())]
    nats = [math.log1p(math.exp(-a if right else a)) for a, right in zip(odds, (1, 0, 1, 1), strict=True)]
    assert abs(objective.loss(lambda x, t, cond: logits, example).item() - sum(nats) / 4) < 1e-6
    example["given"] = {"known": torch.tensor([[True, False, False, True]])}
    assert abs(objective.loss(lambda x, t, cond: logits, example).item() - sum(nats[1:3]) / 2) < 1e-6


def test_observed_tokens_are_those_of_the_data() -> None:
    objective = PlannerTraining(PATH, SPACE, inpaint_prob=1.0).build(TrainingContext(teacher=network))
    x_1 = SEQUENCES[torch.arange(400) % 81]
    example = objective.draw({"x_1": x_1, "given": {}}, Rng(0))
    known = example["given"]["known"]
    assert known.any()
    assert (example["x_t"] == x_1)[known].all()
    assert (example["x_t"] < VOCAB_SIZE).all()


def test_planner_is_recorded_and_generates_no_samples() -> None:
    config = PlannerTraining(PATH, SPACE)
    assert from_dict(ObjectiveConfig, to_dict(config)) == config
    assert family_for(config) == PlannerModel(PATH)
    with refuses(UsageError):
        PlannerModel(PATH).check_request(SampleRequest(n=1, space=SPACE, sampling=SamplerConfig()))


@pytest.mark.parametrize("path", [Mixture(), Mixture(source=UniformSource())])
def test_planners_need_a_mask_source(path: Mixture) -> None:
    with refuses(UsageError, argument="path"):
        PlannerTraining(path, SPACE)


def test_planners_need_a_teacher() -> None:
    with refuses(UsageError, argument="teacher"):
        CONFIG.build(TrainingContext())
