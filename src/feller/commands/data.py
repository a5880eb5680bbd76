"""feller data."""

from dataclasses import dataclass
from typing import Any, ClassVar

from feller.commands.arguments import DataPlace, Text


@dataclass(frozen=True, kw_only=True)
class Data:
    """List the examples inside the package, or say what is in DATA."""

    deep: ClassVar[str] = ""

    name: DataPlace = None
    """An example's name, or a file or folder to look into."""
    space: Text = None
    """Where rows of numbers lie, as for `feller fit`."""
    project: bool = False
    """Move points beside --space to the nearest on it."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.terminal import show, speaker
        from feller.data.examples import EXAMPLES
        from feller.data.read import read

        tell = speaker()
        if self.name is None:
            listing = {f"example:{name}": example.summary for name, example in EXAMPLES.items()}
            show(dict(listing), tell)
            return {"examples": listing}
        name = self.name if self.name.startswith("example:") or self.name not in EXAMPLES else f"example:{self.name}"
        data = read(name, space=self.space, project=self.project)
        about: dict[str, Any] = {
            "data": name,
            "kind": type(data.modality).__name__,
            "examples": len(data),
            "shape": _shape(data.values),
        }
        for condition, classes in data.modality.conditions.items():
            about[condition] = ", ".join(classes)
        if name.startswith("example:"):
            example = EXAMPLES[name.removeprefix("example:").partition("/")[0]]
            about |= {"parts": ", ".join(example.parts), "source": example.source, "licence": example.licence}
        show(about, tell)
        for note in data.notes:
            tell.say(note)
        return about


def _shape(values: Any) -> str:
    """Say how large an example is, or each leaf of it."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_shape(leaf)}" for name, leaf in values.items())
    return "x".join(map(str, values.shape[1:]))
