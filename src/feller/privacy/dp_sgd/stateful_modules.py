"""Detection of networks that store values of rows in their state, for example running means in buffers.

DP-SGD adds noise to gradients only. A network that writes row values into buffers or weights would release them without
noise, and its later gradients would depend on earlier rows. So a network is first run on batches of random rows. State
that then depends on the rows is refused; state that changes identically, such as a counter, is allowed. Later, state is
compared around each pass of real rows.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError
from feller.core.gradient import LossFunction
from feller.core.pytree import leaves, tree_map
from feller.core.rng import Rng

ROWS = 2
"""Number of random rows per trial batch."""
BATCHES = 3
"""Number of trial batches; their integer inputs are all 0, all 1, and random."""

_harmless_by_mode: WeakKeyDictionary[nn.Module, dict[tuple[bool, ...], frozenset[str]]] = WeakKeyDictionary()
"""Network -> training flags of its modules -> names of the state tensors that change independently of the rows."""


class _Snapshot:
    def __init__(self, network: nn.Module, weights: bool) -> None:
        """Copy buffers; with `weights` also parameters and plain tensor attributes."""
        self.network, self.weights = network, weights
        self.values, self.copies = list(self._tensors()), self.held()

    def _tensors(self) -> Iterator[tuple[str, dict[str, Any], str, Tensor | None]]:
        """Yield (name, owning dict, key, tensor) of the tracked state."""
        for path, module in self.network.named_modules():
            attributes = {key: value for key, value in vars(module).items() if isinstance(value, Tensor)}
            owners = [(module._buffers, module._buffers)]
            if self.weights:
                owners += [(module._parameters, module._parameters), (vars(module), attributes)]
            for owner, tensors in owners:
                for key, tensor in tensors.items():
                    yield f"{path}.{key}" if path else key, owner, key, tensor

    def changed_names(self) -> list[str]:
        """Return the names of changed, added or removed state."""
        current = {name: tensor for name, _, _, tensor in self._tensors()}
        copies = self.copies
        merged = {**copies, **current}
        return [
            name for name in merged if not (name in current and name in copies and _same(current[name], copies[name]))
        ]

    def held(self) -> dict[str, Tensor | None]:
        """Return copies of the current state."""
        return {name: None if tensor is None else tensor.detach().clone() for name, _, _, tensor in self._tensors()}

    @torch.no_grad()
    def restore(self, but: frozenset[str] = frozenset()) -> None:
        """Restore the state, except the entries named in `but`."""
        for name, owner, key, _ in list(self._tensors()):
            if name not in self.copies and name not in but:
                del owner[key]
        for name, owner, key, tensor in self.values:
            if name not in but:
                owner[key], copy = tensor, self.copies[name]
                if tensor is not None and copy is not None and not _same(tensor, copy):
                    tensor.copy_(copy)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return True if two values are equal; NaN equals NaN."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


@contextmanager
def forbid_row_state(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> Iterator[None]:
    """Context manager around a pass of rows: raise an error if the network stores values of rows in its state.

    `loss` is a function (network, example) -> loss of each example, [b]. `example` gives the shapes and dtypes of the
    random rows, on which the network is tried before the first pass.

    Raises:
        UsageError: If random rows or the rows of the pass change the state; the message names the module. Changes by
            the rows of the pass are undone.
    """
    modes = tuple(module.training for module in network.modules())
    by_mode = _harmless_by_mode.setdefault(network, {})
    if modes not in by_mode:
        by_mode[modes] = _find_harmless(loss, network, example)
    harmless, snapshot = by_mode[modes], _Snapshot(network, weights=False)
    try:
        yield
    except BaseException:
        snapshot.restore(but=harmless)
        raise
    changed = [name for name in snapshot.changed_names() if name not in harmless]
    if changed:
        snapshot.restore(but=harmless)
        raise _stateful_error(network, changed[0])


def _find_harmless(loss: LossFunction, network: nn.Module, example: dict[str, Any]) -> frozenset[str]:
    """Return the names of buffers and attributes that change in the same way for any batch, such as step counters.

    The loss is tried on random rows; the result is empty if the loss rejects them. A change that depends on the rows
    raises an error.
    """
    snapshot, changes = _Snapshot(network, weights=True), []
    try:
        for batch in range(BATCHES):
            changes.append(_changes_after(loss, network, _random_rows(example, batch), snapshot))
    except UsageError:
        raise
    except Exception:  # a loss may refuse random rows in any way
        return frozenset()
    names = frozenset().union(*changes)
    for name in sorted(names):
        first, *others = (values.get(name) for values in changes)
        if _has_nan(first) or not all(_same(first, other) for other in others):
            raise _stateful_error(network, name)
    return names


def _changes_after(
    loss: LossFunction, network: nn.Module, rows: dict[str, Any], snapshot: _Snapshot
) -> dict[str, Tensor | None]:
    device = next(leaves(rows)).device
    with ExitStack() as stack:
        stack.callback(snapshot.restore)
        for layer in network.modules():
            if isinstance(layer, nn.Embedding):
                stack.enter_context(layer.register_forward_pre_hook(_clamp_indices))
        # the same random numbers for each batch
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            loss(network, rows)
        current = snapshot.held()
        return {name: current.get(name) for name in snapshot.changed_names()}


def _clamp_indices(embedding: nn.Embedding, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Clamp indices to the embedding table: an out-of-range index aborts the process on a GPU."""
    return tuple(x.clamp(max=embedding.num_embeddings - 1) for x in args)


def _has_nan(value: Tensor | None) -> bool:
    return value is not None and value.is_floating_point() and bool(value.isnan().any())


def _random_rows(example: dict[str, Any], batch: int) -> dict[str, Any]:
    """Return rows of the same shapes and dtypes: uniform floats in (0, 1), integers 0 and 1, masks all True."""
    stream = Rng(batch).stream("random rows")

    def random_leaf(x: Tensor) -> Tensor:
        shape = (ROWS, *x.shape[1:])
        if x.dtype == torch.bool:
            return torch.ones(shape, dtype=x.dtype, device=x.device)
        if x.is_floating_point():
            return stream.uniform(shape, torch.float64).to(x)
        return stream.randint(2, shape).to(x) if batch > 1 else torch.full(shape, batch, dtype=x.dtype, device=x.device)

    return tree_map(random_leaf, example)


def _stateful_error(network: nn.Module, name: str) -> UsageError:
    path, _, key = name.rpartition(".")
    module_type = type(network.get_submodule(path)).__name__
    return UsageError(
        f"{path or 'the network'} is a {module_type} that stores values of rows in its {key} without noise",
        remedy="Use a layer without running statistics, such as GroupNorm or LayerNorm, or call eval() on the"
        " layer to freeze these values",
    )
