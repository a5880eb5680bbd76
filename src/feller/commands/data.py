"""feller data."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.commands.arguments import DataPlace, FilePlace, Text, Whole, named
from feller.errors import UsageError

SCHEMA, MEMORY = "schema", "memory"
"""Words that are no data."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """List the examples inside the package, or say what is in DATA.

    `feller data schema FILE` describes a table; `feller data memory DOCUMENTS --run RUN` builds what `feller sample RUN
    --memory` looks up.
    """

    deep: ClassVar[str] = ""

    name: DataPlace = None
    """An example's name, or a file or folder to look into; or schema, to write down what the columns of a table are; or
    memory, to build of documents what a model looks up."""
    file: FilePlace = None
    """The table to describe, behind schema: .csv, .tsv, .parquet, or example:adult; behind memory, a file or folder of
    documents."""
    of: Annotated[Text, named("--run")] = None
    """Behind memory: the run of the model that will look them up; the newest by default."""
    out: Text = None
    """Where to write; by default schema.json, or memory.npz."""
    schema: Text = None
    """What the columns of a table are: a file that `feller data schema` wrote."""
    space: Text = None
    """Where rows of numbers lie, as for `feller fit`."""
    longest: Whole = None
    """Longer side of pictures, most atoms or residues, or symbols of a text, as for `feller fit`."""
    vocabulary: Text = None
    """Symbols of a text, as for `feller fit`: characters, bytes, subwords or subwords:NUMBER."""
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
        if self.name == SCHEMA:
            return self._describe(tell)
        if self.name == MEMORY:
            return self._remember(tell)
        if self.file is not None or self.out is not None or self.of is not None:
            raise UsageError(
                "--out, --run and a second file belong to `feller data schema` and `feller data memory`; leave them out"
            )
        name = self.name if self.name.startswith("example:") or self.name not in EXAMPLES else f"example:{self.name}"
        data = read(
            name,
            size=self.longest,
            space=self.space,
            project=self.project,
            vocabulary=self.vocabulary,
            schema=self.schema,
        )
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

    def _describe(self, tell: Any) -> dict[str, Any]:
        """Write down what the columns of a table are."""
        from feller.commands.terminal import show
        from feller.journeys.describe import describe

        if self.file is None:
            raise UsageError("expected the table to describe: feller data schema FILE --out schema.json")
        if self.project or any(one is not None for one in (self.schema, self.space, self.longest, self.vocabulary)):
            raise UsageError("feller data schema takes a FILE and --out; leave other flags out")
        about = describe(self.file, self.out or "schema.json")
        show({key: value for key, value in about.items() if key not in ("warnings", "columns", "note")}, tell)
        show(dict(about["columns"]), tell)
        for warning in about["warnings"]:
            tell.say(f"look at this: {warning}")
        tell.say(about["note"])
        return about

    def _remember(self, tell: Any) -> dict[str, Any]:
        """Build what a model looks up."""
        from feller.commands.folder import find
        from feller.commands.terminal import heard
        from feller.journeys.documents.remembered import keep

        if self.file is None:
            raise UsageError("expected documents to look up: feller data memory DOCUMENTS --run RUN --out memory.npz")
        if self.project or any(one is not None for one in (self.schema, self.space, self.longest, self.vocabulary)):
            raise UsageError("feller data memory takes DOCUMENTS, --run and --out; leave other flags out")
        run, place = find(self.of, None, tell), self.out or "memory.npz"
        with heard(tell):
            count = keep(run, self.file, place)
        tell.say(f"{count:,} documents: {place}; look them up with: feller sample {run.path} --memory {place}")
        return {"run": str(run.path), "memory": place, "documents": count}


def _shape(values: Any) -> str:
    """Say how large an example is, or each leaf of it."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_shape(leaf)}" for name, leaf in values.items())
    return "x".join(map(str, values.shape[1:]))
