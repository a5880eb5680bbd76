"""Autoencoders against a patch discriminator."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.image.autoencoder import ConvAutoencoder
from feller.networks.image.patch_discriminator import AdversarialAutoencoder, AdversarialAutoencoderNetwork
from feller.spaces import Euclidean
from feller.training.checkpoint import restore_train_state, train_state_tensors
from feller.training.engine import get_engine
from feller.training.loop import TrainState, make_train_state, train
from feller.training.objective import Batch
from feller.training.objectives.adversarial_autoencoding import AdversarialAutoencoding
from feller.training.optimizer import TrainConfig
from tests.errors import refuses
from tests.networks.checks import perturb_weights

SHAPE = (1, 8, 8)
OBJECTIVE = AdversarialAutoencoding(Euclidean(SHAPE), adversarial_weight=0.4)
X = Rng(0).stream("x").uniform((3, *SHAPE), torch.float64)


def built() -> AdversarialAutoencoderNetwork:
    return AdversarialAutoencoder(ConvAutoencoder(2, 16), 8, 2).build(SHAPE, {}, Rng(0))


def gradients(network: AdversarialAutoencoderNetwork, loss: Tensor) -> dict[str, Tensor]:
    weights = dict(network.named_parameters())
    values = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, retain_graph=True)
    return {k: torch.zeros_like(w) if g is None else g for (k, w), g in zip(weights.items(), values, strict=True)}


def test_gradients_of_autoencoder_and_discriminator_do_not_mix() -> None:
    """One backward pass equals two: of the hinge loss for fixed images, and of the rest for a fixed discriminator."""
    network: Any = perturb_weights(built())
    example = OBJECTIVE.at(0.5).draw({"x_1": X}, Rng(0), network)
    found = gradients(network, OBJECTIVE.loss(network, example).sum())

    output = network.autoencoder(X, example["t"], example["given"])
    state = output["state"]
    error = (state - X).abs().flatten(1).mean(1)
    fooling = -network.discriminator(state).flatten(1).mean(1)
    at_state = [torch.autograd.grad(loss.sum(), state, retain_graph=True)[0].flatten(1) for loss in (error, fooling)]
    norms = [gradient.norm(dim=1) for gradient in at_state]
    weight = 0.4 * norms[0] / (norms[1] + 1e-4 * norms[0])
    generator = gradients(network, (error + output["apart"] + weight * fooling).sum())
    real, fake = network.discriminator(X), network.discriminator(state.detach())
    hinge = gradients(network, (F.relu(1 - real) + F.relu(1 + fake)).flatten(1).mean(1).sum() / 2)
    for name, gradient in found.items():
        expected = hinge if name.startswith("discriminator") else generator
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_discriminator_waits_for_its_start() -> None:
    network: Any = perturb_weights(built())
    assert OBJECTIVE.at(0.49) is OBJECTIVE
    example = OBJECTIVE.at(0.49).draw({"x_1": X}, Rng(0), network)
    loss = OBJECTIVE.loss(network, example)
    output = network.autoencoder(X, example["t"], example["given"])
    torch.testing.assert_close(loss, (output["state"] - X).abs().flatten(1).mean(1) + output["apart"])
    found = gradients(network, loss.sum())
    assert all(not g.any() for name, g in found.items() if name.startswith("discriminator"))
    without = AdversarialAutoencoding(Euclidean(SHAPE), adversarial_weight=0.0).at(1.0)
    assert without.draw({"x_1": X}, Rng(0), network)["given"].keys() == {"noise"}
    for start in (-0.1, 1.1):
        with refuses(UsageError, argument="adversarial_start"):
            AdversarialAutoencoding(Euclidean(SHAPE), adversarial_start=start)


def test_resumed_training_is_bit_identical_across_the_start_of_the_discriminator() -> None:
    config = TrainConfig(batch_size=3, steps=6, lr=1e-2, warmup=1)

    def batches(step: int, rows: slice) -> Batch:
        return {"x_1": X.float().roll(step, 2)[rows]}

    def steps(state: TrainState, count: int) -> TrainState:
        loop = train(state, OBJECTIVE, batches, config, rng=Rng(0), engine=get_engine())
        for _ in range(count):
            next(loop)
        return state

    whole = steps(make_train_state(built().train(), config), 6)
    first = steps(make_train_state(built().train(), config), 2)  # the discriminator starts after three steps
    saved = {name: value.clone() for name, value in train_state_tensors(first).items()}
    resumed = make_train_state(built().train(), config)
    restore_train_state(resumed, saved)
    resumed.step = first.step
    steps(resumed, 4)
    for (name, value), other in zip(
        train_state_tensors(whole).items(), train_state_tensors(resumed).values(), strict=True
    ):
        assert torch.equal(value, other), name
    before, after = built().state_dict(), whole.network.state_dict()
    assert not torch.equal(before["discriminator.0.weight"], after["discriminator.0.weight"])
