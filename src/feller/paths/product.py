"""Product paths: each leaf (component) of the state has its own path, and one network predicts for all leaves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from feller.core.errors import UsageError, check_kind
from feller.core.pytree import State, broadcast_time
from feller.core.rng import RandomStream
from feller.paths.path import Path
from feller.spaces import Product as ProductSpace
from feller.spaces import Space


def iter_leaf_paths(path: Path) -> Iterator[Path]:
    """Yield the paths of the leaves (components) of a product path; for any other path, yield the path itself."""
    if isinstance(path, ProductPath):
        for leaf in path.leaf_paths.values():
            yield from iter_leaf_paths(leaf)
    else:
        yield path


def map_leaf_paths(function: Callable[[Path], Path], path: Path) -> Path:
    """Return a path with a function applied to the path of each leaf of a product path, or to any other path itself."""
    if not isinstance(path, ProductPath):
        return function(path)
    return ProductPath({name: map_leaf_paths(function, leaf) for name, leaf in path.leaf_paths.items()})


@dataclass(frozen=True)
class ProductPath(Path):
    """Path of a state with named leaves (components), which are independent given x_0 and x_1; they share a network.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 4.
    """

    leaf_paths: dict[str, Path]

    def __post_init__(self) -> None:
        check_kind("leaf_paths", self.leaf_paths, dict, '{"position": feller.Affine()}')
        for name, path in self.leaf_paths.items():
            example = "feller.Affine(), or feller.Product({...}) for a product of spaces"
            check_kind(f"leaf_paths[{name!r}]", path, Path, example)

    def check_space(self, space: Space, name: str = "path") -> None:
        if not isinstance(space, ProductSpace):
            return
        if self.leaf_paths.keys() != space.leaf_spaces.keys():
            expected = f"one path for each leaf (component) of the space: {', '.join(space.leaf_spaces)}"
            raise UsageError(argument=name, expected=expected, found=", ".join(self.leaf_paths))
        for leaf, path in self.leaf_paths.items():
            path.check_space(space.leaf_spaces[leaf], f"{name}[{leaf!r}]")

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return tuple(self.leaf_paths)

    def leaf_path(self, name: str) -> Path:
        return self.leaf_paths[name]

    def sample(self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None) -> State:
        t = broadcast_time(t, x_1)
        return {name: path.sample(x_0[name], x_1[name], t[name], rng) for name, path in self.leaf_paths.items()}

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        t = broadcast_time(t, x_1)
        return {name: path.target(x_t[name], x_0[name], x_1[name], t[name]) for name, path in self.leaf_paths.items()}

    def sample_with_target(
        self, x_0: State, x_1: State, t: State, rng: RandomStream | None = None
    ) -> tuple[State, State]:
        t = broadcast_time(t, x_1)
        pairs = {
            name: path.sample_with_target(x_0[name], x_1[name], t[name], rng) for name, path in self.leaf_paths.items()
        }
        return {name: x_t for name, (x_t, _) in pairs.items()}, {name: target for name, (_, target) in pairs.items()}

    def characteristics(self, prediction: State, x_t: State, t: State) -> State:
        t = broadcast_time(t, x_t)
        return {
            name: path.characteristics(prediction[name], x_t[name], t[name]) for name, path in self.leaf_paths.items()
        }

    def complete_prediction(self, prediction: State, x_t: State, t: State) -> State:
        t = broadcast_time(t, x_t)
        return {
            name: path.complete_prediction(prediction[name], x_t[name], t[name])
            for name, path in self.leaf_paths.items()
        }

    def initial_state(self, x_0: State) -> State:
        return {name: path.initial_state(x_0[name]) for name, path in self.leaf_paths.items()}
