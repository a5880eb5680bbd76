"""Plan a fit: data, recipe, private statistics."""

import pathlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.fitting.auxiliary_networks import written_by
from feller.app.workflows.private.ancestors import check_public, seen_by
from feller.app.workflows.private.leakage_report import check_rows
from feller.app.workflows.private.plan_dp_sgd import allow, apart, check_at_once, check_plan, check_private, plan
from feller.app.workflows.private.privacy_config import Wish
from feller.app.workflows.private.private_split import OPEN
from feller.app.workflows.private.private_statistics import NOT_PUBLIC, guard
from feller.app.workflows.private.probe_rows import check_own, stand_in, with_white
from feller.app.workflows.private.table_schema import (
    Charged,
    beware,
    beyond_line,
    find_columns,
    hidden_line,
    merged_line,
    warned,
)
from feller.app.workflows.run_config import Asked, asked_of, parts, print_of
from feller.core.errors import InputError, UsageError
from feller.core.pytree import leaves
from feller.core.run_folder import open_run
from feller.core.user_code import fingerprint as file_hash
from feller.data.crystals.files import holds_crystals
from feller.data.crystals.modality import Crystals
from feller.data.examples.registry import EXAMPLE
from feller.data.images.labelled import Labelled
from feller.data.images.modality import Images
from feller.data.loading.find import table_cells
from feller.data.loading.raw import FoundTable, about
from feller.data.loading.read import read
from feller.data.loading.targets import aimed
from feller.data.modality import Dataset, Modality
from feller.data.points.points import Points
from feller.data.shards.shard_names import is_sharded
from feller.data.tables.column import Boolean
from feller.data.tables.mixed import as_table
from feller.data.tables.modality import Table, left_out, tables
from feller.data.tables.schema import Schema, is_draft
from feller.data.tables.schema_lint import lint
from feller.models.model import Model, load_model
from feller.models.recipes.recipe import Recipe
from feller.models.recipes.registry import READS, find_recipe
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.noise.grid_noise import source
from feller.training.objectives.one_shot import AtOnce


def check_varied(dataset: Dataset) -> None:
    """Refuse rows of a table that are all the same; of a private fit that would tell of its rows, so do not ask there.

    Raises:
        InputError: Then.
    """
    rows = isinstance(dataset.modality, Points) or isinstance(as_table(dataset).modality, Table)
    if dataset.stream is not None or not rows or len(dataset) < 2 or dataset.given or dataset.target is not None:
        return
    if all(bool((leaf == leaf[:1]).all()) for leaf in leaves(dataset.values)):
        raise InputError(f"all {len(dataset):,} rows are the same, so there is nothing to learn; give rows that differ")


TABLES = (".csv", ".tsv", ".gz", ".parquet")
"""Files whose columns are found privately."""
FLOWS = "table-flow"
"""Recipe that has no use for columns whose numbers were found with noise: any of their cells may be missing."""
FEW = 10
"""Examples below which a model learns them by heart and nothing else."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A fit that is about to train."""

    asked: Asked
    dataset: Dataset
    recipe: Recipe
    older: Model | None
    """Where the weights start, and what a recipe of two stages learns from."""
    ledger: Ledger | None = None
    """What a private one has spent so far."""
    frequencies: dict[str, tuple[float, ...]] | None = None
    """Noisy shares of the classes of each condition; None where the exact ones may be told."""
    law: MarginalModel | None = None
    """Of rows of levels, from noisy counts, which the network learns before it sees a row."""
    parts: dict[str, str] = field(default_factory=dict)
    """What a run that goes on knows of the networks that its data need: see `Description`."""


def begin(
    asked: Asked,
    wish: Wish | None,
    change: Callable[[Recipe], Recipe],
    paid: Callable[[Ledger], None] = lambda ledger: None,
    tell: Tell = SILENT,
    given: Any = None,
) -> Begun:
    """Read data, choose a recipe, and, where that is asked, see to it that nothing else is known of the rows.

    Args:
        asked: What a person says; the recipe may be auto, and the size empty for the usual one.
        wish: Privacy of each row; None without.
        change: Last word on the recipe.
        paid: Hears what was spent before there is a run to keep it.
        tell: Hears what should be looked at before anything is spent.
        given: Data in memory, of which the file that is asked for is a copy.

    Raises:
        InputError: If the data are not what they must be.
        UsageError: If an argument is wrong.
    """
    start = open_run(asked.start_from) if asked.start_from else None
    older = load_model(start) if start else None
    dataset, charged = _read(asked, wish, older.description.modality if older else None, change, paid, given)
    if wish is not None and asked.schema is not None:
        asked = replace(asked, draft=is_draft(pathlib.Path(asked.schema)))
        for line in beware(asked, dataset):
            tell.say(line)
    if wish is not None and not isinstance(as_table(dataset).modality, Table | Images | Labelled):
        raise UsageError(NOT_PUBLIC.format(dataset.modality.called))
    if asked.target:
        dataset.check_whole("--target")
        dataset = aimed(dataset, asked.target)
    dataset = written_by(dataset, asked.tokenizer, asked.size or "small") if asked.tokenizer else dataset
    if wish is not None and dataset.target is not None and not dataset.target.classes:
        raise UsageError("a private fit tells no numbers, which are scaled by the rows; ask for a class by --target")
    if wish is None and isinstance(dataset.modality, Table):
        dataset = dataset.seen_as(dataset.modality.with_shares_of(dataset.values))
    if wish is None:
        check_varied(dataset)
        if tell is SILENT:  # people hear it as a note of the run, and who calls from Python hears no notes
            for line in _few(dataset):
                warnings.warn(line, stacklevel=3)
    size = asked.size or "small"
    name, recipe = find_recipe(asked.recipe, _shown(asked.recipe, dataset, wish), size, older)
    recipe = change(recipe)
    _check_target(recipe, name, asked.target, older)
    check_at_once(recipe, older, asked.watched)
    if recipe.objective.one_shot:
        dataset.check_whole(f"the recipe {name}")
    if wish is not None:
        check_private(apart(recipe))
        check_own(name, recipe)
        if start is not None:
            check_public(start, asked.data, dataset)
    asked = replace(
        asked,
        recipe=name,
        size=asked.size or (asked_of(start).size if start else "small"),
        start_from=str(start.path) if start else None,
        ancestors=seen_by(start) if start else (),
        start_hash=file_hash(start.average) if start else "",
        held_out=recipe.held_out,
        fingerprint=print_of(as_read(dataset, recipe), wish.source("fingerprint").take(8).hex() if wish else None),
        shards={} if dataset.stream is None else dataset.stream.prints,
        salt=_salt(wish) if wish else "",
        code=file_hash(pathlib.Path(name.rpartition(":")[0])) if ":" in name else "",
        notes=_told(asked, dataset, wish, charged) if wish else (*dataset.notes, *_few(dataset)),
    )
    if wish is None:
        return Begun(asked, dataset.seen_as(recipe.modality or dataset.modality), recipe, older)
    learned = parts(asked, as_read(dataset, recipe))[0]
    if recipe.objective.one_shot:
        dataset = dataset.seen_as(recipe.modality or dataset.modality)
        learned = learned.seen_as(dataset.modality)
        with warned() as told:
            ledger, allowance = allow(wish, cast(AtOnce, recipe.objective), learned, charged)
        ledger = replace(ledger, table=asked.fingerprint)
        asked = replace(asked, private=allowance, notes=(*asked.notes, *told))
        return Begun(asked, dataset, recipe, None, ledger)
    check_plan(wish, apart(recipe), Ledger(charged.expenses, wish.chance(len(learned)), len(learned), charged.delta))
    counted = 0.0 if older else getattr(recipe.objective, "counted", 0.0)
    classed = dataset.seen_as(recipe.modality) if isinstance(recipe.modality, Images) else dataset
    with warned() as told:
        guarded = guard(wish, classed, learned, charged, counted)
    dataset = guarded.dataset
    recipe, planned = plan(wish, guarded, change(find_recipe(name, _shown(name, dataset, wish), size, older)[1]))
    dataset = dataset.seen_as(recipe.modality or dataset.modality)
    asked = replace(asked, private=planned, notes=(*asked.notes, *told))
    ledger = replace(guarded.ledger, table=asked.fingerprint)
    return Begun(asked, dataset, recipe, older, ledger, guarded.frequencies, guarded.law)


def _read(
    asked: Asked,
    wish: Wish | None,
    like: Modality | None,
    change: Callable[[Recipe], Recipe],
    paid: Callable[[Ledger], None],
    given: Any,
) -> tuple[Dataset, Charged]:
    """Read the data; where privacy is asked of a table that nobody described, find its columns privately."""
    how: dict[str, Any] = {
        "longest": asked.longest,
        "like": like,
        "kind": READS.get(asked.recipe),
        "space": asked.space,
        "project": asked.project,
        "vocabulary": asked.vocabulary,
    }
    if asked.schema is not None and like is not None:
        raise UsageError(f"the columns are those of {asked.start_from}: leave --schema out")
    path = pathlib.Path(asked.data)
    if wish is not None and is_sharded(asked.data):
        raise UsageError(
            "a private fit draws each row of all by a coin of its own, which shards that are read in turn do not allow;"
            " join them to one file that memory holds"
        )
    described = asked.schema is not None or like is not None or asked.data.startswith(EXAMPLE)
    if wish is not None and not described and path.suffix.lower() in TABLES:
        if asked.recipe == FLOWS:
            raise UsageError(f"the recipe {FLOWS} needs to know its numbers: describe the columns, and give --schema")
        if any(how.values()):
            flags = ("longest", "space", "project", "vocabulary")
            given = [f"--{flag}" for flag in flags if getattr(asked, flag)] or [f"--recipe {asked.recipe}"]
            raise UsageError(f"{', '.join(given)}: not of a private table; leave it out, or --epsilon")
        if holds_crystals(path):  # by its header, or the first row: a schema says that it is a table all the same
            raise UsageError(NOT_PUBLIC.format(Crystals.called))
        found = table_cells(path)
        _check_unpaid(asked, wish, found, change)
        schema, charged = find_columns(wish, found, asked.data, paid)
        with about(asked.data):
            return tables(found, schema), charged
    dataset = read(asked.data if given is None else given, schema=asked.schema, **how)
    dataset = dataset if wish is None else with_white(dataset, asked.data, like)
    if wish is not None and not described and isinstance(dataset.modality, Table):
        raise UsageError(
            f"the columns of {asked.data} were described by its cells, which is not private; give --schema, or a"
            f" table in a file of its own ({', '.join(TABLES)})"
        )
    return dataset, Charged()


def _check_unpaid(asked: Asked, wish: Wish, found: FoundTable, change: Callable[[Recipe], Recipe]) -> None:
    """Refuse what is wrong with what is asked before finding columns spends anything: on a table of the same names.

    Code of a person's own waits for the columns.

    Raises:
        UsageError: If anything is.
    """
    if ":" in asked.recipe:
        return
    n, kind = len(found.values), Table(Schema(tuple(Boolean(name) for name in found.columns)))
    nobody = Dataset(torch.zeros(n, len(found.columns), dtype=torch.int64), {}, kind)
    nobody = aimed(nobody, asked.target) if asked.target else nobody
    name, recipe = find_recipe(asked.recipe, nobody, asked.size or "small", None)
    recipe = change(recipe)
    _check_target(recipe, name, asked.target, None)
    check_at_once(recipe, None, asked.watched)
    if asked.watched:
        check_rows(asked.watched, as_read(nobody, recipe))
    check_private(apart(recipe))
    if not recipe.objective.one_shot:
        check_plan(wish, apart(recipe), Ledger((), wish.chance(n), n))


def _shown(recipe: str, dataset: Dataset, wish: Wish | None) -> Dataset:
    """Return what a recipe may look at: of private data, code of a person's own sees their kind and number alone."""
    own = wish is not None and ":" in recipe
    return stand_in(dataset, len(dataset), source(0, "shown")) if own else dataset


def _salt(wish: Wish) -> str:
    """Return what makes the rows that are kept back others than those of other runs."""
    salt = wish.source("kept back").take(8).hex()
    return salt if wish.unsafe_seed is None else f"{OPEN}{salt}"


def as_read(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return data as later commands will read them: a table by the schema that the model has."""
    return dataset.seen_as(recipe.modality) if isinstance(recipe.modality, Table) else dataset


def _check_target(recipe: Recipe, name: str, target: tuple[str, ...], older: Model | None) -> None:
    """Refuse what a regressor or a tokeniser cannot be, or a recipe that would take no notice of a target.

    Raises:
        UsageError: Then.
    """
    tells = recipe.objective.family == "regressor"
    if target and not tells:
        raise UsageError(f"the recipe {name} tells no {target[0]}; use --recipe regressor, or logistic-private")
    if older is not None and (tells or older.family.tells is not None):
        raise UsageError("a regressor starts from fresh weights, and nothing starts from one; leave out --start-from")
    writes = recipe.objective.family == "autoencoder"
    if older is not None and writes != (older.family.name == "autoencoder"):
        raise UsageError("a tokeniser starts from a tokeniser, and nothing else does; leave out --start-from")


def _told(asked: Asked, dataset: Dataset, wish: Wish, charged: Charged) -> tuple[str, ...]:
    """Warn of what an owner's schema, which is public, seems to tell of the rows, or of what noise hid of the columns.

    Of the rows their number alone is looked at; a schema that was found is noisy, and was paid for.
    """
    kind, n = as_table(dataset).modality, len(dataset)
    if not isinstance(kind, Table):
        return ()
    if asked.schema is not None:
        return lint(kind.schema, n)
    if not charged.expenses:
        return ()
    spent = Ledger(charged.expenses, wish.chance(n), n, charged.delta).epsilon()
    return (
        *hidden_line(kind.schema, asked.data, n, spent),
        *beyond_line(charged.beyond, asked.data),
        *merged_line(charged.kept),
        *left_out(kind.schema),
    )


def _few(dataset: Dataset) -> list[str]:
    """Warn of data that are too few to learn from."""
    if dataset.total >= FEW:
        return []
    return [f"examples to learn from: {dataset.total}, fewer than {FEW}; the model can do little but repeat them"]
