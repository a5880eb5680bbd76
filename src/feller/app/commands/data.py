"""feller data."""

import pathlib
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from feller.app.commands.flag_types import Counted, DataOrWord, FilePlace, Offers, RunText, Text, Whole, named, short
from feller.app.options import changed, flags_of
from feller.core.errors import UsageError
from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX, parse_example
from feller.data.path_checks import require_data

TAKES = {"schema": ("file", "out"), "memory": ("file", "out", "of"), "scenes": ("out", "n")}
"""Words that are no data, and the flags that each takes; --json and the word itself go without saying."""


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How the data are read."""

    schema: Text = None
    """What the columns of a table are: a file that `feller data schema` wrote."""
    space: Annotated[Text, Offers(tables=("feller.data.points.named_spaces:NAMES",))] = None
    """Where rows of numbers lie, as for `feller fit`."""
    longest: Counted = None
    """Longer side of pictures, most atoms or residues, seconds of sounds, or symbols of a text, as for `feller fit`."""
    vocabulary: Annotated[Text, Offers(tables=("feller.data.text.dataset:NAMES",))] = None
    """Symbols of a text, as for `feller fit`: characters, bytes, subwords or subwords:NUMBER."""
    project: bool = False
    """Move points beside --space to the nearest on it."""


@dataclass(frozen=True, kw_only=True)
class WritingFlags:
    """What is written."""

    of: Annotated[RunText, named("--run")] = None
    """Behind memory: the run of the model that will look them up; the newest by default."""
    out: Text = None
    """Where to write; by default schema.json, memory.npz, or the folder scenes. Of spoken-words a new folder, for
    what it is made of."""
    n: Annotated[Whole, short("-n")] = None
    """Of scenes: pairs of a picture and a text to train on, by default all 8000."""


READS = tuple(flags_of(ReadingFlags))
"""Flags that say how data are read."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """List the examples inside the package, or say what is in DATA.

    Words that are no data:
    - `feller data schema FILE` describes a table.
    - `feller data memory DOCUMENTS` builds what `feller sample` looks up.
    - `feller data spoken-words --out FOLDER` copies the folder that it is made of.
    - `feller data scenes` writes pictures with texts.
    """

    name: Annotated[DataOrWord, Offers(tables=("feller.app.commands.data:TAKES",))] = None
    """An example's name, or a file or folder to look into; or schema, to write down what the columns of a table are; or
    memory, to build of documents what a model looks up; or scenes, to write pictures with texts: shapes and creatures,
    instructions about them, and a memory."""
    file: FilePlace = None
    """Behind schema the table to describe: .csv, .tsv, .parquet, or example:adult; behind memory a file or folder of
    documents."""
    json: bool = False
    """Print a JSON object, last on standard output."""
    reading: Annotated[ReadingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadingFlags)
    """How the data are read, as for `feller fit`; by default as they themselves say."""
    writing: Annotated[WritingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=WritingFlags)
    """What is written, behind schema, memory, scenes and spoken-words."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import show, speaker

        tell = speaker()
        if self.name is None:
            listing = {f"{EXAMPLE_PREFIX}{name}": shipped.summary for name, shipped in EXAMPLE_INFOS.items()}
            show(dict(listing), tell)
            return {"examples": listing}
        example = self.name.removeprefix(EXAMPLE_PREFIX)
        if self.writing.out is not None and example in EXAMPLE_INFOS:
            return self._copy(example, tell)
        self._check(TAKES.get(self.name, READS))
        does = {"schema": self._describe, "memory": self._remember, "scenes": self._write_scenes}
        return does.get(self.name, self._look)(tell)

    def _check(self, takes: tuple[str, ...]) -> None:
        """Refuse flags that say nothing to what is asked for."""
        for name in set(changed(self)) - {*takes, "name", "json"}:
            flag = {"file": "a second place", "of": "--run", "n": "-n"}.get(name, f"--{name}")
            if takes is READS:
                whose = [f"`feller data {word}`" for word, flags in TAKES.items() if name in flags]
                raise UsageError(f"{flag} belongs to {' and '.join(whose)}", remedy="Leave it out")
            raise UsageError(f"feller data {self.name} has no use for {flag}", remedy="Leave it out")

    def _look(self, tell: Any) -> dict[str, Any]:
        """Say what is in some data."""
        word = str(self.name)
        name = word if word.startswith(EXAMPLE_PREFIX) or word not in EXAMPLE_INFOS else f"{EXAMPLE_PREFIX}{word}"
        require_data(name)
        from feller.app.terminal import show
        from feller.data.loading.dataset_reader import read

        with tell.waiting(f"reading {name}"):
            data = read(name, **{flag: getattr(self.reading, flag) for flag in READS})
        about: dict[str, Any] = {
            "data": name,
            "kind": type(data.modality).__name__,
            "examples": data.total,
            "shape": _shape(data.values),
        }
        about |= {condition: ", ".join(classes) for condition, classes in data.modality.conditions.items()}
        if name.startswith(EXAMPLE_PREFIX):
            shipped, _ = parse_example(name)
            about |= {"parts": ", ".join(shipped.parts), "source": shipped.source, "licence": shipped.licence}
        show(about, tell)
        for note in data.notes:
            tell.say(note)
        return about

    def _copy(self, name: str, tell: Any) -> dict[str, Any]:
        """Copy the folder that an example is made of."""
        from feller.data.examples.example_files import copy_example

        self._check(("out",))
        out = str(self.writing.out)
        count = copy_example(name, pathlib.Path(out))
        tell.say(f"{count} files: {out}; look into it with: feller data {out}")
        return {"data": f"{EXAMPLE_PREFIX}{name}", "folder": out, "files": count}

    def _write_scenes(self, tell: Any) -> dict[str, Any]:
        """Write pictures with texts."""
        from feller.app.terminal import show
        from feller.data.examples.example_files import PAIRS, write_scenes

        n = PAIRS if self.writing.n is None else self.writing.n
        about = write_scenes(pathlib.Path(self.writing.out or "scenes"), n)
        show(about, tell)
        return about

    def _describe(self, tell: Any) -> dict[str, Any]:
        """Write down what the columns of a table are."""
        from feller.app.terminal import show
        from feller.app.workflows.draft_schema import describe

        about = describe(self._second("FILE --out schema.json"), self.writing.out or "schema.json")
        show({key: value for key, value in about.items() if key not in ("warnings", "columns", "note")}, tell)
        show(dict(about["columns"]), tell)
        for warning in about["warnings"]:
            tell.say(f"look at this: {warning}")
        tell.say(about["note"])
        return about

    def _remember(self, tell: Any) -> dict[str, Any]:
        """Build what a model looks up."""
        from feller.app.terminal import heard
        from feller.app.workflows.documents.build_datastore import keep
        from feller.app.workflows.run_config import find_run

        source, place = self._second("DOCUMENTS --run RUN --out memory.npz"), self.writing.out or "memory.npz"
        run = find_run(self.writing.of, None, tell)
        with heard(tell):
            count = keep(run, source, place)
        tell.say(f"{count:,} documents: {place}; look them up with: feller sample {run.path} --memory {place}")
        return {"run": str(run.path), "memory": place, "documents": count}

    def _second(self, rest: str) -> str:
        """Return the second place."""
        if self.file is None:
            raise UsageError(expected=f"what it is about: feller data {self.name} {rest}")
        return self.file


def _shape(values: Any) -> str:
    """Say how large an example is, or each leaf of it."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_shape(leaf)}".strip() for name, leaf in values.items())
    return "x".join(map(str, values.shape[1:]))
