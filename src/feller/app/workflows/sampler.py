"""Sampler of a run: samples by number, and completion of rows with gaps."""

import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pandas as pd

from feller.app.config import SampleConfig, SamplerOptions
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_config import is_described, read_fit_record
from feller.app.workflows.run_status import incomplete_notice
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

N_COMPLETIONS = 200
"""Of filling a row, that are weighed where a model writes columns in one order."""


def complete_rows(
    model: Model, complete: DataSource, sampling: SamplerConfig, rng: Rng, reporter: Reporter
) -> tuple[Dataset, RawTable]:
    """Fill the gaps of rows; return what was drawn, and the cells of the whole rows.

    Args:
        model: Of a table.
        complete: Table whose gaps are filled, a file or a data frame.
        sampling: How symbols are drawn.
        rng: Source of all randomness.
        reporter: Hears how it goes.

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
        codes, observed_mask = modality.known(partial)
    for warning in outside(modality.schema, partial):
        reporter.note(warning)
    ways = 0 if model.family.has_exact_infilling else N_COMPLETIONS
    if ways:
        reporter.log(
            f"this model writes columns in one order: each row is chosen among {ways} ways of filling it, which is"
            " nearly right; fit with --objective.shuffle-prob 1 to fill them exactly"
        )
    observation, engine = (
        PartialObservation(
            *modality.observed_tokens(codes, observed_mask), num_candidates=ways, forbidden=modality.missing_tokens
        ),
        get_engine(),
    )
    reporter.start("sampling")
    samples = model.sample_dataset(
        len(codes),
        given={},
        observed=observation,
        sampling=sampling,
        rng=rng,
        process_group=engine,
        on_progress=reporter.progress,
    )
    reporter.finish()
    return samples, modality.completed(partial, samples.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """Samples that could be drawn; those with the same numbers are the same, however many are drawn together."""

    model: Model
    cond_texts: dict[str, CellCondition]
    guidance: float
    sampling: SamplerConfig
    observed_text: str | None
    seed: int
    is_compiled: bool = False
    """Whether the network is, which changes samples by rounding."""
    on_step: Callable[[float, State], None] = no_callback

    @property
    def rng(self) -> Rng:
        """Source of all randomness."""
        return Rng(self.seed).fold_in("sample")

    def check(self) -> None:
        """Refuse what is given and the model does not know, before any work."""
        table = self.model.spec.modality.view(Table)
        if table is None:
            self.model.parse_conditions(1, self.cond_texts or None, self.rng)
        elif self.cond_texts:
            table.given_cells(self.cond_texts)

    def draw(
        self,
        n: int,
        *,
        first: int = 0,
        ranks: ProcessGroup = SINGLE,
        on_progress: Callable[[float], None] = no_progress,
    ) -> Dataset:
        """Draw n samples, the first of which has this number.

        Raises:
            UsageError: If something that is given or known is none of the model's.
        """
        model, rng = self.model, replace(self.rng, first_example=first)
        return model.sample_dataset(
            n,
            given=self.cond_texts or None,
            guidance=self.guidance,
            sampling=self.sampling,
            observed=None if self.observed_text is None else _text_observation(model, self.observed_text, n),
            rng=rng,
            process_group=ranks,
            on_progress=on_progress,
            on_step=self.on_step,
        )

    def write(self, samples: Dataset, place: pathlib.Path, *, first: int = 0, total: int = 0) -> None:
        """Write samples, as a part of more where their first is not number 0; what is given of rows stays as it is."""
        modality = samples.modality
        with sample_folder.sample_numbering(first, total):
            if (table := modality.view(Table)) and self.cond_texts:
                table.write_given(samples.values, table.given_cells(self.cond_texts), place)
            else:
                modality.write(samples.values, samples.given, place)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the samples, beside the model."""
        conditions = {
            name: BETWEEN.join(one) if isinstance(one, tuple) else one for name, one in self.cond_texts.items()
        }
        options = {"seed": self.seed, "given": conditions, "guidance": self.guidance, "known": self.observed_text}
        return {**options, "compiled": self.is_compiled, "sampling": to_dict(self.sampling)}


def make_sampler(
    run: Run,
    config: SampleConfig = SampleConfig(),  # noqa: B008 - frozen
    *,
    weights: pathlib.Path | None = None,
    on_step: Callable[[float, State], None] = no_callback,
    reporter: Reporter = SILENT,
) -> Sampler:
    """Read a model and look at what is asked of its samples.

    Args:
        run: Holds the model.
        config: What is asked; number and place of the samples do not matter here.
        weights: Which of the run's weights draw; by default their average.
        on_step: Hears time and states of a batch on their way, of a process in time.
        reporter: Hears how it goes.

    Raises:
        InputError: If the run is damaged.
        UsageError: If an argument is wrong.
    """
    model = load_model(run, file=weights)
    if weights is None and (stopped := incomplete_notice(run)):
        reporter.log(stopped)
    guidance = 1.0 if config.guidance is None else config.guidance
    calls, jump = config.sampler.nfe, _parse_jump_weight(config.sampler.superpose)
    observed_text = None if config.infill.template is None else config.infill.template.replace("\\n", "\n")
    cond_texts = words_of(config.given or {})
    model.check_guidance(guidance)
    _check_applicable(model, observed_text=observed_text, nfe=calls, jump_weight=jump)
    model.network.to(get_engine().device)
    if config.sampler.compile:
        if not model.family.is_process:
            raise UsageError(
                "this model's network draws part after part, and not in calls to compile", remedy="Leave it out"
            )
        compile_network(model.network)
    default = model.spec.sampling
    if calls is not None and (config.sampler.solver or default.solver) == "dopri5":
        raise UsageError("dopri5 chooses its own number", remedy="Leave it out", argument="nfe")
    sampling = replace(
        default,
        solver=config.sampler.solver or default.solver,
        nfe=default.nfe if calls is None else calls,
        token_sampler=token_sampler_of(config.sampler) or default.token_sampler,
        unmasking_order=_made("order", config.sampler.order, ORDERS) or default.unmasking_order,
        rates=_made("rates", config.sampler.rates, RATES) or default.rates,
        jump_weight=default.jump_weight if jump is None else jump,
    )
    spec = model.spec
    if calls is not None and model.family.is_process:
        _, method, times = sampling.resolve(spec.path, spec.space)
        used = method.nfe_per_step * (len(times) - 1)
        if used < calls:
            reporter.log(
                f"{sampling.solver} takes {method.nfe_per_step} calls a step, so that {used} of {calls} are used"
            )
    if (table := spec.modality.view(Table)) is not None:
        cells = table.given_cells(cond_texts)  # what is refused counts for nothing
        several = {choice.column.name for choice in cells.choices.values()}
        if not is_described(read_fit_record(run)):
            check_words(table.schema, cond_texts)
        for name, one in cond_texts.items():
            if isinstance(one, str) and name not in several:
                for warning in outside(table.schema, table_with(name, one)):
                    reporter.note(warning)
    return Sampler(
        model=model,
        cond_texts=cond_texts,
        guidance=guidance,
        sampling=sampling,
        observed_text=observed_text,
        seed=config.seed,
        is_compiled=config.sampler.compile,
        on_step=on_step,
    )


def token_sampler_of(options: SamplerOptions) -> TokenSampler | None:
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


def _parse_jump_weight(text: str | None) -> float | None:
    """Return the share of the jumps."""
    if text is None:
        return None
    name, _, weight = text.partition("=")
    if name != "jump":
        raise UsageError("jump=SHARE", repr(text), argument="superpose")
    try:
        return float(weight)
    except ValueError:
        raise UsageError("jump=SHARE with a share from 0 to 1", repr(text), argument="superpose") from None


def _check_applicable(model: Model, *, observed_text: str | None, nfe: int | None, jump_weight: float | None) -> None:
    """Refuse what says nothing to a model of this kind, instead of taking no notice of it."""
    spec = model.spec
    if observed_text is not None and spec.modality.view(Text) is None:
        raise UsageError(
            f"fills in text, and this model's data are {spec.modality.display_name}",
            remedy="Leave it out",
            argument="template",
        )
    if not model.family.is_process and (nfe is not None or jump_weight is not None):
        flag = "nfe" if jump_weight is None else "superpose"
        raise UsageError("is of a process in time, and this model draws no such", remedy="Leave it out", argument=flag)


def _text_observation(model: Model, text: str, n: int) -> PartialObservation:
    """Return what a text says, for each sample."""
    modality = cast(Text, model.spec.modality)
    values, observed_mask = modality.observed_tokens(text)
    return PartialObservation(values.expand(n, -1), observed_mask.expand(n, -1))
