"""A path per leaf, one network for all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from feller.core.errors import UsageError
from feller.core.pytree import State, spread
from feller.core.rng import Draw
from feller.paths.path import Path
from feller.spaces import Product as ProductSpace
from feller.spaces import Space


def parts(path: Path) -> Iterator[Path]:
    """Yield every part of a path, or the path itself where it has none."""
    if isinstance(path, Product):
        for each in path.parts.values():
            yield from parts(each)
    else:
        yield path


def parts_map(function: Callable[[Path], Path], path: Path) -> Path:
    """Change every part of a path, or the path itself where it has none."""
    if not isinstance(path, Product):
        return function(path)
    return Product({name: parts_map(function, part) for name, part in path.parts.items()})


@dataclass(frozen=True)
class Product(Path):
    """Named leaves that move independently given both ends; the network sees them together.

    Source: Holderrieth et al. 2024, arXiv 2410.20587, proposition 4.
    """

    parts: dict[str, Path]

    def check_space(self, space: Space, name: str = "path") -> None:
        """Refuse other leaves, and paths that do not lead through theirs."""
        if not isinstance(space, ProductSpace):
            return
        if self.parts.keys() != space.parts.keys():
            expected = f"a path for each leaf of the space: {', '.join(space.parts)}"
            raise UsageError(argument=name, expected=expected, found=", ".join(self.parts))
        for leaf, path in self.parts.items():
            path.check_space(space.parts[leaf], f"{name}[{leaf!r}]")

    @property
    def leaf_names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(self.parts)

    def part(self, name: str) -> Path:
        """Return a part."""
        return self.parts[name]

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Sample each leaf; all share one time, or each has its own."""
        t = spread(t, x_1)
        return {name: part.sample(x_0[name], x_1[name], t[name], draw) for name, part in self.parts.items()}

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the target of each leaf."""
        t = spread(t, x_1)
        return {name: part.target(x_t[name], x_0[name], x_1[name], t[name]) for name, part in self.parts.items()}

    def sample_with_target(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> tuple[State, State]:
        """Return both of each leaf."""
        t = spread(t, x_1)
        both = {name: part.sample_with_target(x_0[name], x_1[name], t[name], draw) for name, part in self.parts.items()}
        return {name: x_t for name, (x_t, _) in both.items()}, {name: target for name, (_, target) in both.items()}

    def characteristics(self, prediction: State, x_t: State, t: State) -> State:
        """Return the characteristics of each leaf."""
        t = spread(t, x_t)
        return {name: part.characteristics(prediction[name], x_t[name], t[name]) for name, part in self.parts.items()}

    def read(self, prediction: State, x_t: State, t: State) -> State:
        """Read the answer of each leaf."""
        t = spread(t, x_t)
        return {name: part.read(prediction[name], x_t[name], t[name]) for name, part in self.parts.items()}

    def start(self, x_0: State) -> State:
        """Start each leaf."""
        return {name: part.start(x_0[name]) for name, part in self.parts.items()}
