"""Points on a path, and whole training steps."""

from collections.abc import Callable, Iterator

import torch
from azula.denoise import KarrasDenoiser
from azula.noise import RectifiedSchedule
from flow_matching.path import CondOTProbPath
from torch import Tensor, nn
from torchcfm import ConditionalFlowMatcher

from benchmarks.network import ForAzula, Perceptron
from benchmarks.timing import Case
from feller.core.gradient import MeanGradient
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.time_distributions import Uniform
from feller.spaces import Euclidean
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig, make_optimizer


def cases() -> Iterator[Case]:
    for shape, inner in (((256, 2), 500), ((4096, 2), 200), ((128, 3, 32, 32), 50)):
        yield _on_path(shape, inner)
    for n in (256, 4096):
        yield _plain_step(n)
        yield _whole_step(n)


def _on_path(shape: tuple[int, ...], inner: int) -> Case:
    """State and target at given times."""
    x_0, x_1, t = torch.randn(shape), torch.randn(shape), torch.rand(shape[0])
    column = t.view(-1, *(1,) * (len(shape) - 1))
    path, peer, other = Affine(), CondOTProbPath(), ConditionalFlowMatcher(sigma=0.0)

    def feller() -> tuple[Tensor, Tensor]:
        x_t = path.sample(x_0, x_1, t)
        return x_t, path.target(x_t, x_0, x_1, t)

    def floor() -> tuple[Tensor, Tensor]:
        velocity = x_1 - x_0
        return torch.addcmul(x_0, column, velocity), velocity

    return Case(
        f"path.sample and target, {' x '.join(map(str, shape))}",
        {
            "feller": feller,
            "flow_matching": lambda: peer.sample(x_0=x_0, x_1=x_1, t=t),
            "torchcfm": lambda: other.sample_location_and_conditional_flow(x_0, x_1, t=t),
            "floor": floor,
        },
        15,
        inner,
        max_floor_ratio=3.0,
    )


def _stepper(loss_of: Callable[[nn.Module], Callable[[], Tensor]]) -> Callable[[], None]:
    """Return one step of Adam on a network of its own."""
    torch.manual_seed(0)
    network = Perceptron()
    optimiser, loss = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.0), loss_of(network)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def _our_step(x_1: Tensor) -> Callable[[], None]:
    """Return the same with feller's objective, gradient and optimiser."""
    torch.manual_seed(0)
    network = Perceptron()
    optimiser = make_optimizer(network, TrainConfig())
    objective, gradient = FlowMatching(Affine(), Euclidean((2,)), time_distribution=Uniform()), MeanGradient()
    numbers = iter(range(10**9))

    def step() -> None:
        example = objective.draw({"x_1": x_1}, Rng(0).fold_in("train", next(numbers)), network)
        optimiser.zero_grad()
        gradient(objective.loss, network, [example], len(x_1))
        optimiser.step()

    return step


def _inline(x_1: Tensor) -> Callable[[nn.Module], Callable[[], Tensor]]:
    def make(network: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            x_0, t = torch.randn_like(x_1), torch.rand(len(x_1))
            velocity = x_1 - x_0
            return (network(torch.addcmul(x_0, t[:, None], velocity), t) - velocity).square().mean()

        return loss

    return make


def _plain_step(n: int) -> Case:
    """Noise, path, loss, gradient, Adam: what the peers' examples do."""
    x_1 = torch.randn(n, 2)
    peer, other = CondOTProbPath(), ConditionalFlowMatcher(sigma=0.0)

    def flow_matching(network: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            x_0, t = torch.randn_like(x_1), torch.rand(n)
            sample = peer.sample(x_0=x_0, x_1=x_1, t=t)
            return (network(sample.x_t, t) - sample.dx_t).square().mean()

        return loss

    def torchcfm(network: nn.Module) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            x_0, t = torch.randn_like(x_1), torch.rand(n)
            _, x_t, velocity = other.sample_location_and_conditional_flow(x_0, x_1, t=t)
            return (network(x_t, t) - velocity).square().mean()

        return loss

    def azula(network: nn.Module) -> Callable[[], Tensor]:
        denoiser = KarrasDenoiser(ForAzula(network), RectifiedSchedule())
        return lambda: denoiser.loss(x_1, torch.rand(n)).mean()

    peers = {"flow_matching": flow_matching, "torchcfm": torchcfm, "azula": azula}
    contenders = {"feller": _our_step(x_1), **{name: _stepper(make) for name, make in peers.items()}}
    return Case(
        f"training step, {n} x 2, MLP 64",
        {**contenders, "floor": _stepper(_inline(x_1))},
        15,
        20 if n < 1000 else 10,
        max_floor_ratio=1.05,
    )


def _whole_step(n: int) -> Case:
    """The training loop with all that it does, against the same written out: clipping, rate, average."""
    x_1 = torch.randn(n, 2)
    training = TrainConfig(batch_size=n, steps=10**9)
    torch.manual_seed(0)
    mine = Perceptron()
    learner = make_train_state(mine, training)
    objective = FlowMatching(Affine(), Euclidean((2,)), time_distribution=Uniform())
    reports = train(learner, objective, lambda step, rows: {"x_1": x_1}, training, rng=Rng(0), engine=get_engine())
    torch.manual_seed(0)
    network = Perceptron()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, betas=training.betas, weight_decay=0.0)
    weights, loss = list(network.parameters()), _inline(x_1)(network)
    average = [weight.detach().clone() for weight in weights]

    def floor() -> None:
        optimiser.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1e-3)

    return Case(
        f"training loop with clipping and average, {n} x 2, MLP 64",
        {"feller": lambda: next(reports), "floor": floor},
        15,
        20 if n < 1000 else 10,
        max_floor_ratio=1.05,
    )
