"""Command `feller data`."""

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
from feller.app.config import SchemaConfig
from feller.app.options import flags_of, non_default_options
from feller.core.errors import UsageError
from feller.data.examples.registry import EXAMPLE_INFOS, EXAMPLE_PREFIX, parse_example
from feller.data.path_checks import require_data

SUBCOMMAND_FLAGS = {
    "schema": ("file", "out", "schema", *flags_of(SchemaConfig)),
    "memory": ("file", "out", "of"),
    "scenes": ("out", "n"),
}
"""Subcommand name -> flags of the subcommand, except --json."""


@dataclass(frozen=True, kw_only=True)
class DataReadingFlags:
    """Options for loading data."""

    schema: OptionalText = None
    """Schema file of a table, written by `feller data schema`, which edits this schema if given."""
    space: Annotated[OptionalText, Choices(registries=("feller.data.points.named_spaces:NAMES",))] = None
    """Manifold of numeric rows, as for `feller fit`."""
    longest: PositiveInt = None
    """Maximum size of an example, as for `feller fit`; unit: pixels, atoms, residues, seconds or tokens."""
    vocabulary: Annotated[OptionalText, Choices(registries=("feller.data.text.dataset:NAMES",))] = None
    """Text tokens, as for `feller fit`: characters, bytes, subwords or subwords:NUMBER."""
    project: bool = False
    """Project points that are not on --space to the nearest point on it."""
    nested: bool = False
    """In a folder of images or texts, read all folders inside a class folder too."""
    links: bool = False
    """In a folder of images or texts, follow symbolic links that point outside the folder."""


@dataclass(frozen=True, kw_only=True)
class WritingFlags:
    """Options of the subcommands of `feller data`."""

    of: Annotated[RunPath, flag_name("--run")] = None
    """Run whose model will retrieve the documents, for the subcommand memory (default: the newest)."""
    out: OptionalText = None
    """Output path (default: schema.json, memory.npz, or the folder scenes). For an example that consists of files, such
    as spoken-words: a new folder to copy the files to."""
    n: Annotated[OptionalInt, aliases("-n")] = None
    """Number of training pairs of image and text, for the subcommand scenes (default: 8000, all)."""


READING_FLAGS = tuple(flags_of(DataReadingFlags))
"""Names of the data loading flags."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """List the built-in examples, or inspect DATA or a run: its shape, and what `fit --condition` can condition on.

    Subcommands:
    - `feller data schema FILE` drafts the schema of a table, or edits the schema in --schema.
    - `feller data memory DOCUMENTS` builds a datastore of documents for `feller sample --memory`.
    - `feller data spoken-words --out FOLDER` copies the files of the example spoken-words.
    - `feller data scenes` writes images with texts.
    """

    name: Annotated[DataOrWord, Choices(registries=("feller.app.commands.data:SUBCOMMAND_FLAGS",))] = None
    """File, folder, example or run to inspect; or a subcommand: schema (draft a table schema), memory (build a
    datastore of documents for retrieval), spoken-words (copy the recordings and transcripts of the example) or scenes
    (write images with texts: shapes and creatures, editing instructions, and documents to retrieve)."""
    file: FileArgument = None
    """Input of a subcommand: for schema a table (.csv, .tsv, .parquet, or example:adult), for memory a file or
    folder of documents."""
    json: bool = False
    """Print a JSON object as the last line of standard output."""
    data_loading: Annotated[DataReadingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=DataReadingFlags)
    """Options for loading data, as for `feller fit`; inferred from the data by default."""
    writing: Annotated[WritingFlags, tyro.conf.OmitArgPrefixes] = field(default_factory=WritingFlags)
    """Options of schema, memory, scenes and spoken-words."""
    edits: Annotated[SchemaConfig, tyro.conf.OmitArgPrefixes] = field(default_factory=SchemaConfig)
    """Edits of the schema, for the subcommand schema."""

    def run(self, words: list[str]) -> dict[str, Any]:
        from feller.app.terminal import make_reporter, show_numbers

        reporter = make_reporter()
        if self.name is None:
            listing = {f"{EXAMPLE_PREFIX}{name}": entry.summary for name, entry in EXAMPLE_INFOS.items()}
            show_numbers(dict(listing), reporter)
            return {"examples": listing}
        example = self.name.removeprefix(EXAMPLE_PREFIX)
        if self.writing.out is not None and example in EXAMPLE_INFOS:
            return self._copy(example, reporter)
        self._check(SUBCOMMAND_FLAGS.get(self.name, READING_FLAGS))
        subcommands = {"schema": self._write_schema, "memory": self._build_datastore, "scenes": self._write_scenes}
        return subcommands.get(self.name, self._describe_data)(reporter)

    def _check(self, allowed: tuple[str, ...]) -> None:
        for name in set(non_default_options(self)) - {*allowed, "name", "json"}:
            flag = {"file": "a second positional argument", "of": "--run", "n": "-n"}.get(name, f"--{name}")
            if allowed is READING_FLAGS:
                commands = [
                    f"`feller data {subcommand}`" for subcommand, flags in SUBCOMMAND_FLAGS.items() if name in flags
                ]
                raise UsageError(f"{flag} is a flag of {' and '.join(commands)}", remedy="Leave it out")
            raise UsageError(f"feller data {self.name} does not take {flag}", remedy="Leave it out")

    def _describe_data(self, reporter: Any) -> dict[str, Any]:
        given_name = str(self.name)
        from feller.data.files.sample_folder import RUN

        if pathlib.Path(given_name, RUN).is_file():
            return self._describe_run(pathlib.Path(given_name), reporter)
        name = (
            given_name
            if given_name.startswith(EXAMPLE_PREFIX) or given_name not in EXAMPLE_INFOS
            else f"{EXAMPLE_PREFIX}{given_name}"
        )
        require_data(name)
        from feller.app.terminal import show_numbers
        from feller.data.images.image_loading import caption_columns
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
        captions = caption_columns(pathlib.Path(name)) if pathlib.Path(name).is_dir() else ()
        if candidates := (*data.properties, *data.modality.condition_columns(data.values), *captions):
            facts["condition_candidates"] = ", ".join(candidates)
        if name.startswith(EXAMPLE_PREFIX):
            entry, _ = parse_example(name)
            facts |= {"parts": ", ".join(entry.parts), "source": entry.source, "licence": entry.licence}
        show_numbers(facts, reporter)
        for note in data.notes:
            reporter.log(note)
        return facts

    def _describe_run(self, path: pathlib.Path, reporter: Any) -> dict[str, Any]:
        """Describe the data of a run, and the values that its conditions take."""
        from feller.app.terminal import show_numbers
        from feller.core.run_folder import Run
        from feller.models.spec import load_spec

        self._check(())
        modality = load_spec(Run(path)).modality
        facts: dict[str, Any] = {"run": str(path), "kind": type(modality).__name__}
        facts |= {condition: ", ".join(classes) for condition, classes in modality.conditions.items()}
        facts |= {name: kind.placeholder for name, kind in modality.selected_conditions.items()}
        show_numbers(facts, reporter)
        return facts

    def _copy(self, name: str, reporter: Any) -> dict[str, Any]:
        from feller.data.examples.example_files import copy_example

        self._check(("out",))
        out = str(self.writing.out)
        count = copy_example(name, pathlib.Path(out))
        reporter.log(f"{count} files: {out}; inspect them with: feller data {out}")
        return {"data": f"{EXAMPLE_PREFIX}{name}", "folder": out, "files": count}

    def _write_scenes(self, reporter: Any) -> dict[str, Any]:
        from feller.app.terminal import show_numbers
        from feller.data.examples.example_files import PAIRS, write_scenes

        n = PAIRS if self.writing.n is None else self.writing.n
        facts = write_scenes(pathlib.Path(self.writing.out or "scenes"), n)
        show_numbers(facts, reporter)
        return facts

    def _write_schema(self, reporter: Any) -> dict[str, Any]:
        from feller.app.terminal import show_numbers
        from feller.app.workflows.draft_schema import draft_schema

        source, out = self._second("FILE --out schema.json"), self.writing.out or "schema.json"
        facts = draft_schema(source, out, self.edits, self.data_loading.schema)
        excluded = ("notes", "relations", "warnings", "columns", "note")
        show_numbers({key: value for key, value in facts.items() if key not in excluded}, reporter)
        show_numbers(dict(facts["columns"]), reporter)
        for note in facts["notes"]:
            reporter.log(note)
        for relation in facts["relations"]:
            reporter.log(f"proposed relation: {relation}")
        for warning in facts["warnings"]:
            reporter.log(f"check this: {warning}")
        reporter.log(facts["note"])
        return facts

    def _build_datastore(self, reporter: Any) -> dict[str, Any]:
        from feller.app.terminal import show_own_warnings
        from feller.app.workflows.documents.build_datastore import write_datastore
        from feller.app.workflows.run_config import find_run

        source, path = self._second("DOCUMENTS --run RUN --out memory.npz"), self.writing.out or "memory.npz"
        run = find_run(self.writing.of, None, reporter)
        with show_own_warnings(reporter):
            count = write_datastore(run, source, path)
        reporter.log(f"{count:,} documents: {path}; retrieve from them with: feller sample {run.path} --memory {path}")
        return {"run": str(run.path), "memory": path, "documents": count}

    def _second(self, usage: str) -> str:
        """Return the input of the subcommand; UsageError, with `usage` as a hint, if it is missing."""
        if self.file is None:
            raise UsageError(expected=f"an input: feller data {self.name} {usage}")
        return self.file


def _shape(values: Any) -> str:
    """Return the shape of an example as text, or the shape of each of its tensors."""
    if isinstance(values, dict):
        return ", ".join(f"{name} {_shape(leaf)}".strip() for name, leaf in values.items())
    return "x".join(map(str, values.shape[1:]))
