"""Tuning to a reward: one round of adjoint matching against its network calls by themselves."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmarks.network import Perceptron
from benchmarks.timing import Case
from feller.control.fine_tuning.adjoint_matching import AdjointMatching
from feller.core.gradient import MeanGradient
from feller.core.pytree import num_examples, tree_map
from feller.core.rng import Rng
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import MemorylessEuler
from feller.spaces import Euclidean
from feller.training.objective import Objective, TrainingContext

STEPS = 20
MICRO = 512
"""Examples of the regression that go through the network at once."""


def reward(x: Tensor, given: object = None) -> Tensor:
    return x.sin().sum(1)


def cases() -> Iterator[Case]:
    for dim, width, n in ((16, 256, 512), (64, 384, 128)):
        torch.manual_seed(0)
        network, base = Perceptron(dim, width), Perceptron(dim, width).requires_grad_(False)
        base.load_state_dict(network.state_dict())
        x_0 = torch.randn(n, dim)
        rule = AdjointMatching(path=Affine(), space=Euclidean((dim,)), steps=STEPS, step_fraction=1.0)
        objective = rule.build(TrainingContext(reference=base, reward=reward))

        def feller(objective=objective, network=network, x_0=x_0) -> None:
            a_round(objective, network, x_0, None)

        def floor(network=network, base=base, x_0=x_0) -> None:
            calls(network, base, x_0)

        yield Case(
            f"a round of adjoint matching, {STEPS} steps, MLP {width}, {n} x {dim}",
            {"feller": feller, "floor": floor},
            9,
            max_floor_ratio=1.15,
            note=lambda network=network, base=base, x_0=x_0: memory(network, base, x_0),
        )


def a_round(objective: Objective, network: nn.Module, x_0: Tensor, micro_batch: int | None) -> None:
    """Draw and leave a gradient, in micro-batches if a size is given."""
    example = objective.draw({"x_0": x_0, "given": {}}, Rng(0), network)
    network.zero_grad()
    size = micro_batch or num_examples(example)
    starts = range(0, num_examples(example), size)
    parts = (tree_map(lambda leaf, start=start: leaf[start : start + size], example) for start in starts)
    with torch.enable_grad():
        MeanGradient()(objective.loss, network, parts, len(x_0))


def calls(network: nn.Module, base: nn.Module, x_0: Tensor) -> None:
    """Call the networks as a round must: along the steps, back with a gradient in the state, and in the regression."""
    times, solver, x, states = linear_grid(STEPS), MemorylessEuler(), x_0, []
    steps = [solver.linear_step(t, s) for t, s in itertools.pairwise(times)]
    with torch.no_grad():
        for t, step in zip(times, steps, strict=False):
            states.append(x)
            x = step.on_state * x + step.on_velocity * network(x, torch.full((len(x),), t))
            x = x + step.variance**0.5 * torch.randn_like(x)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (adjoint,) = torch.autograd.grad(-reward(x).sum(), x)
        targets = []
        for t, step, state in zip(times[-2::-1], steps[::-1], states[::-1], strict=True):
            y = state.detach().requires_grad_()
            velocity = base(y, torch.full((len(y),), t))
            targets.append(velocity.detach() - step.variance / step.on_velocity * adjoint)
            (back,) = torch.autograd.grad(velocity, y, step.on_velocity * adjoint)
            adjoint = step.on_state * adjoint + back
        t = torch.tensor(times[:-1]).repeat_interleave(len(x_0))
        weight = torch.tensor([step.on_velocity**2 / step.variance for step in steps]).repeat_interleave(len(x_0))
        network.zero_grad()
        apart = (network(torch.cat(states), t) - torch.cat(targets[::-1])).square().sum(1)
        ((weight / 2 * apart).sum() / len(x_0)).backward()


def memory(network: nn.Module, base: nn.Module, x_0: Tensor) -> str:
    """Tell how much more a round of 80 steps keeps for its gradients than one of 20, beside states and adjoints."""
    peaks = [peak(network, base, x_0, steps) for steps in (20, 80)]
    return f"memory for gradients, {MICRO} examples at once: 80 steps take x{peaks[1] / peaks[0]:.2f} of 20"


def peak(network: nn.Module, base: nn.Module, x_0: Tensor, steps: int) -> int:
    """Return the peak memory kept for the backward pass in a round of micro-batches, in bytes."""
    rule = AdjointMatching(path=Affine(), space=Euclidean(x_0.shape[1:]), steps=steps, step_fraction=1.0)
    kept = Kept()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(tensor, kept), lambda held: held.tensor):
        a_round(rule.build(TrainingContext(reference=base, reward=reward)), network, x_0, MICRO)
    return kept.peak


class Kept:
    """Bytes that are kept now, and their maximum so far."""

    def __init__(self) -> None:
        self.now = self.peak = 0


class Held:
    """A tensor that is kept for the backward pass."""

    def __init__(self, tensor: Tensor, kept: Kept) -> None:
        self.tensor, self.kept, self.size = tensor, kept, tensor.nbytes
        kept.now += self.size
        kept.peak = max(kept.peak, kept.now)

    def __del__(self) -> None:
        self.kept.now -= self.size
