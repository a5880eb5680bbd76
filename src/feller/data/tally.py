"""What was done with which examples while they were read, for people."""

from collections.abc import Sequence


class Tally:
    """Names of examples, by what was said of them."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, said: str, name: str) -> None:
        """Say something of an example: a sentence with {} where the number of such examples and the first stand."""
        self._names.setdefault(said, []).append(name)

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for all that was said, with the number and the first of each."""
        return tuple(said.format(f"{len(names):,}, the first is {names[0]}") for said, names in self._names.items())


def first_of(things: Sequence[str], count: int = 10) -> str:
    """Return the first of some things, with dots where there are more."""
    return ", ".join(things[:count]) + (", ..." if len(things) > count else "")
