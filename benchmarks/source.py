"""Gradients in the source of a flow: memory and time of steps that are computed again, beside stored ones."""

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.paths.time_distributions import linear_grid
from feller.sampling import Midpoint, simulate


def cases() -> Iterator[Case]:
    torch.manual_seed(0)
    network = MLP(width=384, depth=3).build((64,), {}, Rng(0))
    nn.init.normal_(network.head.weight, std=0.02)  # it begins at zero
    network.requires_grad_(False)
    for n, steps in ((1024, 6), (256, 100)):
        x_0 = torch.randn(n, 64)
        yield Case(
            f"gradient in the source, {steps} midpoint steps, residual MLP 384, {n} x 64",
            {
                "feller": lambda x_0=x_0, steps=steps: gradient(network, x_0, steps, recompute=True),
                "floor": lambda x_0=x_0, steps=steps: gradient(network, x_0, steps, recompute=False),
            },
            5,
            max_floor_ratio=1.5,
            note=lambda x_0=x_0: memory_note(network, x_0),
        )


def gradient(network: nn.Module, x_0: Tensor, steps: int, *, recompute: bool) -> Tensor:
    """Return the gradient of half the squared end."""
    with torch.enable_grad():
        x_0 = x_0.detach().requires_grad_()
        process = Affine().process(network, {})
        end = simulate(process, x_0, linear_grid(steps), Midpoint(), Rng(0), recompute=recompute)
        return torch.autograd.grad(end.square().sum() / 2, x_0)[0]


def memory_note(network: nn.Module, x_0: Tensor) -> str:
    """Compare memory at several numbers of steps, and the gradients themselves."""
    again = {steps: peak(network, x_0, steps, recompute=True) for steps in (6, 10, 24, 100)}
    plain = {steps: peak(network, x_0, steps, recompute=False) for steps in (6, 24)}
    same = all(
        torch.equal(*(gradient(network, x_0, steps, recompute=recompute) for recompute in (True, False)))
        for steps in (6, 24)
    )
    beside = again[100] - 90 * x_0.nbytes
    checks = (
        (f"100 steps take x{beside / again[10]:.2f} of 10 beside their states", beside <= 1.3 * again[10]),
        (f"24 steps take x{again[24] / again[6]:.2f} of 6", again[24] <= 1.2 * again[6]),
        (f"where they are stored x{plain[24] / plain[6]:.2f}", plain[24] >= 3.5 * plain[6]),
        ("gradients are the same bit for bit", same),
    )
    return "computed again: " + "; ".join(text if right else f"{text} (NOT PASSED)" for text, right in checks)


def peak(network: nn.Module, x_0: Tensor, steps: int, *, recompute: bool) -> int:
    """Return the peak memory of the tensors that a gradient creates, in bytes."""
    watch = Watch()
    with watch:
        gradient(network, x_0, steps, recompute=recompute)
    return watch.peak


class Watch(TorchDispatchMode):
    """Counter of the bytes of the tensors that operations create and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, Any] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        begun = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in begun:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return

        def gone(_: object) -> None:
            self.now -= size
            del self.alive[key]

        self.alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)
