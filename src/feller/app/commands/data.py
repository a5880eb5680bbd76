"""feller data."""

import pathlib
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from feller.app.commands.flag_types import (
    Choices,
    DataOrWord,
    FileArgument,
    OptionalInt,
    OptionalText,
    PositiveInt,
    RunPath,
    aliases,
    flag_name,
)
from feller.app.options import flags_of, non_default_options
from feller.core.errors import UsageError
from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX, parse_example
from feller.data.path_checks import require_data

SUBCOMMAND_FLAGS = {"schema": ("file", "out"), "memory": ("file", "out", "of"), "scenes": ("out", "n")}
"""Words that are no data, and the flags that each takes; --json and the word itself go without saying."""


@dataclass(frozen=True, kw_only=True)
class DataReadingFlags:
    """How the data are read."""

    schema: OptionalText = None
    """What the columns of a table are: a file that `feller data schema` wrote."""
    space: Annotated[OptionalText, Choices(registries=("feller.data.points.named_spaces:NAMES",))] = None
    """Where rows of numbers lie, as for `feller fit`."""
    longest: PositiveInt = None
    """Longer side of pictures, most atoms or residues, seconds of sounds, or symbols of a text, as for `feller fit`."""
    vocabulary: Annotated[OptionalText, Choices(registries=("feller.data.text.dataset:NAMES",))] = None
    """Symbols of a text, as for `feller fit`: characters, bytes, subwords or subwords:NUMBER."""
    project: bool = False
    """Move points beside --space to the nearest on it."""


@dataclass(frozen=True, kw_only=True)
class WritingFlags:
    """What is written."""

    of: Annotated[RunPath, flag_name("--run")] = None
    """Behind memory: the run of the model that will look them up; the newest by default."""
    out: OptionalText = None
    """Where to write; by default schema.json, memory.npz, or the folder scenes. Of spoken-words a new folder, for
    what it is made of."""
    n: Annotated[OptionalInt, aliases("-n")] = None
    """Of scenes: pairs of a picture and a text to train on, by default all 8000."""


READING_FLAGS = tuple(flags_of(DataReadingFlags))
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

    name: Annotated[DataOrWord, Choices(registries=("feller.app.commands.data:SUBCOMMAND_FLAGS",))] = None
    """An example's name, or a file or folder to look into; or schema, to write down what the columns of a table are; or
    memory, to build of documents what a model looks up; or scenes, to write pictures with texts: shapes and creatures,
    instructions about them, and a memory."""
    file: FileArgument = None
    """Behind schema the table to describe: .csv, .tsv, .parquet, or example:adult; behind memory a file or folder of
    documents."""
    json: bool = False
    """Print a JSON object, last on standard output."""
    data_loading: Annotated[DataReadingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=DataReadingFlags)
    """How the data are read, as for `feller fit`; by default as they themselves say."""
    writing: Annotated[WritingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=WritingFlags)
    """What is written, behind schema, memory, scenes and spoken-words."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.app.terminal import make_reporter, show_numbers

        reporter = make_reporter()
        if self.name is None:
            listing = {f"{EXAMPLE_PREFIX}{name}": shipped.summary for name, shipped in EXAMPLE_INFOS.items()}
            show_numbers(dict(listing), reporter)
            return {"examples": listing}
        example = self.name.removeprefix(EXAMPLE_PREFIX)
        if self.writing.out is not None and example in EXAMPLE_INFOS:
            return self._copy(example, reporter)
        self._check(SUBCOMMAND_FLAGS.get(self.name, READING_FLAGS))
        does = {"schema": self._write_schema, "memory": self._build_datastore, "scenes": self._write_scenes}
        return does.get(self.name, self._describe_data)(reporter)

    def _check(self, takes: tuple[str, ...]) -> None:
        """Refuse flags that say nothing to what is asked for."""
        for name in set(non_default_options(self)) - {*takes, "name", "json"}:
            flag = {"file": "a second place", "of": "--run", "n": "-n"}.get(name, f"--{name}")
            if takes is READING_FLAGS:
                whose = [f"`feller data {word}`" for word, flags in SUBCOMMAND_FLAGS.items() if name in flags]
                raise UsageError(f"{flag} belongs to {' and '.join(whose)}", remedy="Leave it out")
            raise UsageError(f"feller data {self.name} has no use for {flag}", remedy="Leave it out")

    def _describe_data(self, reporter: Any) -> dict[str, Any]:
        """Say what is in some data."""
        word = str(self.name)
        name = word if word.startswith(EXAMPLE_PREFIX) or word not in EXAMPLE_INFOS else f"{EXAMPLE_PREFIX}{word}"
        require_data(name)
        from feller.app.terminal import show_numbers
        from feller.data.loading.dataset_reader import read

        with reporter.spinner(f"reading {name}"):
            data = read(name, **{flag: getattr(self.data_loading, flag) for flag in READING_FLAGS})
        facts: dict[str, Any] = {
            "data": name,
            "kind": type(data.modality).__name__,
            "examples": data.total,
            "shape": _shape(data.values),
        }
        facts |= {condition: ", ".join(classes) for condition, classes in data.modality.conditions.items()}
        if name.startswith(EXAMPLE_PREFIX):
            shipped, _ = parse_example(name)
            facts |= {"parts": ", ".join(shipped.parts), "source": shipped.source, "licence": shipped.licence}
        show_numbers(facts, reporter)
        for note in data.notes:
            reporter.log(note)
        return facts

    def _copy(self, name: str, reporter: Any) -> dict[str, Any]:
        """Copy the folder that an example is made of."""
        from feller.data.examples.example_files import copy_example

        self._check(("out",))
        out = str(self.writing.out)
        count = copy_example(name, pathlib.Path(out))
        reporter.log(f"{count} files: {out}; look into it with: feller data {out}")
        return {"data": f"{EXAMPLE_PREFIX}{name}", "folder": out, "files": count}

    def _write_scenes(self, reporter: Any) -> dict[str, Any]:
        """Write pictures with texts."""
        from feller.app.terminal import show_numbers
        from feller.data.examples.example_files import PAIRS, write_scenes

        n = PAIRS if self.writing.n is None else self.writing.n
        facts = write_scenes(pathlib.Path(self.writing.out or "scenes"), n)
        show_numbers(facts, reporter)
        return facts

    def _write_schema(self, reporter: Any) -> dict[str, Any]:
        """Write down what the columns of a table are."""
        from feller.app.terminal import show_numbers
        from feller.app.workflows.draft_schema import draft_schema

        facts = draft_schema(self._second("FILE --out schema.json"), self.writing.out or "schema.json")
        show_numbers(
            {key: value for key, value in facts.items() if key not in ("warnings", "columns", "note")}, reporter
        )
        show_numbers(dict(facts["columns"]), reporter)
        for warning in facts["warnings"]:
            reporter.log(f"look at this: {warning}")
        reporter.log(facts["note"])
        return facts

    def _build_datastore(self, reporter: Any) -> dict[str, Any]:
        """Build what a model looks up."""
        from feller.app.terminal import show_own_warnings
        from feller.app.workflows.documents.build_datastore import write_datastore
        from feller.app.workflows.run_config import find_run

        source, place = self._second("DOCUMENTS --run RUN --out memory.npz"), self.writing.out or "memory.npz"
        run = find_run(self.writing.of, None, reporter)
        with show_own_warnings(reporter):
            count = write_datastore(run, source, place)
        reporter.log(f"{count:,} documents: {place}; look them up with: feller sample {run.path} --memory {place}")
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
