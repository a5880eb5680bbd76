"""Sampler of a run: samples by number, and completion of rows with gaps."""

import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from feller.app.config import SampleConfig, SamplerOptions
from feller.app.reporter import SILENT, Tell
from feller.app.workflows.run_config import is_described, record_of
from feller.app.workflows.run_status import unfinished
from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.errors import UsageError
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.serialization import to_dict
from feller.data.files import sample_folder
from feller.data.loading.file_formats import load_table
from feller.data.loading.in_memory import DataSource, check_frame, with_index
from feller.data.loading.raw import RawTable, error_context
from feller.data.modality import Dataset
from feller.data.tables.dataframes import from_frame
from feller.data.tables.encoding import outside
from feller.data.tables.given_cells import BETWEEN, CellCondition, check_words, table_with, words_of
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.models.families.model_family import PartialObservation
from feller.models.model import Model, load_model, no_callback, no_progress
from feller.paths import TokenSampler
from feller.sampling.sampler_config import ORDERS, RATES, SamplerConfig
from feller.training.engine import get_engine
from feller.training.parallelize import compile_network

WAYS = 200
"""Of filling a row, that are weighed where a model writes columns in one order."""


def complete_rows(
    model: Model, complete: DataSource, sampling: SamplerConfig, draws: Rng, tell: Tell
) -> tuple[Dataset, RawTable]:
    """Fill the gaps of rows; return what was drawn, and the cells of the whole rows.

    Args:
        model: Of a table.
        complete: Table whose gaps are filled, a file or a data frame.
        sampling: How symbols are drawn.
        draws: Source of all randomness.
        tell: Hears how it goes.

    Raises:
        InputError: If the table with gaps is damaged, or outside the schema.
        UsageError: If no row has what is given.
    """
    modality = cast(Table, model.spec.modality)
    named = isinstance(complete, str | os.PathLike)
    if isinstance(complete, pd.DataFrame):
        complete, _ = with_index(complete, modality.schema.names)
        check_frame(complete)
    partial = load_table(pathlib.Path(str(complete))) if named else from_frame(cast(pd.DataFrame, complete))
    with error_context(str(complete) if named else "the data frame"):
        codes, kept = modality.known(partial)
    for warning in outside(modality.schema, partial):
        tell.note(warning)
    ways = 0 if model.family.has_exact_infilling else WAYS
    if ways:
        tell.say(
            f"this model writes columns in one order: each row is chosen among {ways} ways of filling it, which is"
            " nearly right; fit with --objective.shuffled 1 to fill them exactly"
        )
    known, here = (
        PartialObservation(
            *modality.observed_tokens(codes, kept), num_candidates=ways, forbidden=modality.missing_tokens
        ),
        get_engine(),
    )
    tell.task("sampling")
    drawn = model.sample_dataset(
        len(codes),
        given={},
        observed=known,
        sampling=sampling,
        rng=draws,
        process_group=here,
        on_progress=tell.progress,
    )
    tell.done()
    return drawn, modality.completed(partial, drawn.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """Samples that could be drawn; those with the same numbers are the same, however many are drawn together."""

    model: Model
    given: dict[str, CellCondition]
    guidance: float
    sampling: SamplerConfig
    known: str | None
    seed: int
    compiled: bool = False
    """Whether the network is, which changes samples by rounding."""
    seen: Callable[[float, State], None] = no_callback

    @property
    def draws(self) -> Rng:
        """Source of all randomness."""
        return Rng(self.seed).fold_in("sample")

    def check(self) -> None:
        """Refuse what is given and the model does not know, before any work."""
        table = self.model.spec.modality.view(Table)
        if table is None:
            self.model.parse_conditions(1, self.given or None, self.draws)
        elif self.given:
            table.given_cells(self.given)

    def draw(
        self, n: int, *, first: int = 0, ranks: ProcessGroup = SINGLE, tell: Callable[[float], None] = no_progress
    ) -> Dataset:
        """Draw n samples, the first of which has this number.

        Raises:
            UsageError: If something that is given or known is none of the model's.
        """
        model, draws = self.model, replace(self.draws, first_example=first)
        return model.sample_dataset(
            n,
            given=self.given or None,
            guidance=self.guidance,
            sampling=self.sampling,
            observed=None if self.known is None else _known(model, self.known, n),
            rng=draws,
            process_group=ranks,
            on_progress=tell,
            on_step=self.seen,
        )

    def write(self, drawn: Dataset, place: pathlib.Path, *, first: int = 0, total: int = 0) -> None:
        """Write samples, as a part of more where their first is not number 0; what is given of rows stays as it is."""
        modality = drawn.modality
        with sample_folder.sample_numbering(first, total):
            if (table := modality.view(Table)) and self.given:
                table.write_given(drawn.values, table.given_cells(self.given), place)
            else:
                modality.write(drawn.values, drawn.given, place)

    @property
    def record(self) -> dict[str, Any]:
        """What decides the samples, beside the model."""
        given = {name: BETWEEN.join(one) if isinstance(one, tuple) else one for name, one in self.given.items()}
        asked = {"seed": self.seed, "given": given, "guidance": self.guidance, "known": self.known}
        return {**asked, "compiled": self.compiled, "sampling": to_dict(self.sampling)}


def ready(
    run: Run,
    config: SampleConfig = SampleConfig(),  # noqa: B008 - frozen
    *,
    weights: pathlib.Path | None = None,
    seen: Callable[[float, State], None] = no_callback,
    tell: Tell = SILENT,
) -> Drawing:
    """Read a model and look at what is asked of its samples.

    Args:
        run: Holds the model.
        config: What is asked; number and place of the samples do not matter here.
        weights: Which of the run's weights draw; by default their average.
        seen: Hears time and states of a batch on their way, of a process in time.
        tell: Hears how it goes.

    Raises:
        InputError: If the run is damaged.
        UsageError: If an argument is wrong.
    """
    model = load_model(run, file=weights)
    if weights is None and (stopped := unfinished(run)):
        tell.say(stopped)
    guidance = 1.0 if config.guidance is None else config.guidance
    calls, jump = config.sampler.calls, _share(config.sampler.superpose)
    known = None if config.gaps.known is None else config.gaps.known.replace("\\n", "\n")
    given = words_of(config.given or {})
    model.check_guidance(guidance)
    _check_says(model, known=known, calls=calls, jump=jump)
    model.network.to(get_engine().device)
    if config.sampler.compile:
        if not model.family.is_process:
            raise UsageError(
                "this model's network draws part after part, and not in calls to compile", remedy="Leave it out"
            )
        compile_network(model.network)
    default = model.spec.sampling
    if calls is not None and (config.sampler.solver or default.solver) == "dopri5":
        raise UsageError("dopri5 chooses its own number", remedy="Leave it out", argument="calls")
    sampling = replace(
        default,
        solver=config.sampler.solver or default.solver,
        nfe=default.nfe if calls is None else calls,
        token_sampler=choice_of(config.sampler) or default.token_sampler,
        unmasking_order=_made("order", config.sampler.order, ORDERS) or default.unmasking_order,
        rates=_made("rates", config.sampler.rates, RATES) or default.rates,
        jump_weight=default.jump_weight if jump is None else jump,
    )
    about = model.spec
    if calls is not None and model.family.is_process:
        _, method, times = sampling.resolve(about.path, about.space)
        used = method.nfe_per_step * (len(times) - 1)
        if used < calls:
            tell.say(f"{sampling.solver} takes {method.nfe_per_step} calls a step, so that {used} of {calls} are used")
    if (table := about.modality.view(Table)) is not None:
        cells = table.given_cells(given)  # what is refused counts for nothing
        several = {choice.column.name for choice in cells.choices.values()}
        if not is_described(record_of(run)):
            check_words(table.schema, given)
        for name, one in given.items():
            if isinstance(one, str) and name not in several:
                for warning in outside(table.schema, table_with(name, one)):
                    tell.note(warning)
    return Drawing(
        model=model,
        given=given,
        guidance=guidance,
        sampling=sampling,
        known=known,
        seed=config.seed,
        compiled=config.sampler.compile,
        seen=seen,
    )


def choice_of(options: SamplerOptions) -> TokenSampler | None:
    """Return how symbols are drawn; None where nothing is said of it."""
    if options.temperature is options.top_k is options.top_p is None:
        return None
    return TokenSampler(1.0 if options.temperature is None else options.temperature, options.top_k, options.top_p)


def _made(flag: str, name: str | None, classes: Mapping[str, type]) -> Any:
    """Return an object of the class with a name; None without a name."""
    if name is None:
        return None
    if name not in classes:
        raise UsageError.unknown_name(flag, name, classes)
    return classes[name]()


def _share(text: str | None) -> float | None:
    """Return the share of the jumps."""
    if text is None:
        return None
    name, _, share = text.partition("=")
    if name != "jump":
        raise UsageError("jump=SHARE", repr(text), argument="superpose")
    try:
        return float(share)
    except ValueError:
        raise UsageError("jump=SHARE with a share from 0 to 1", repr(text), argument="superpose") from None


def _check_says(model: Model, *, known: str | None, calls: int | None, jump: float | None) -> None:
    """Refuse what says nothing to a model of this kind, instead of taking no notice of it."""
    about = model.spec
    if known is not None and about.modality.view(Text) is None:
        raise UsageError(
            f"fills in text, and this model's data are {about.modality.display_name}",
            remedy="Leave it out",
            argument="known",
        )
    if not model.family.is_process and (calls is not None or jump is not None):
        flag = "calls" if jump is None else "superpose"
        raise UsageError("is of a process in time, and this model draws no such", remedy="Leave it out", argument=flag)


def _known(model: Model, text: str, n: int) -> PartialObservation:
    """Return what a text says, for each sample."""
    modality = cast(Text, model.spec.modality)
    values, kept = modality.observed_tokens(text)
    return PartialObservation(values.expand(n, -1), kept.expand(n, -1))
