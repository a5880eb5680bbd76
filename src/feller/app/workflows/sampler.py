"""Sampling from a run, in which each sample depends only on its index, and imputation of missing table cells."""

import math
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from feller.app.config import SampleConfig
from feller.app.option_groups import RowOptions, SamplerOptions, TokenOptions
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.run_config import is_described, read_fit_record
from feller.app.workflows.run_status import incomplete_notice
from feller.app.workflows.shares import ColumnShares, fair_shares, parse_shares, shares_observation
from feller.core.distributed import SINGLE, ProcessGroup
from feller.core.errors import UsageError, warn
from feller.core.precision import check_precision, parse_precision
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.core.run_folder import Run, open_run
from feller.core.serialization import to_dict
from feller.data.arrays.modality import STEPS, Arrays
from feller.data.files import sample_folder
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset
from feller.data.tables.encoding import outside
from feller.data.tables.given_cells import BETWEEN, check_words, table_with, words_of
from feller.data.tables.histories import with_conditions_on_cells
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.models.autoguided import autoguided
from feller.models.families.model_family import GuidanceScale, PartialObservation
from feller.models.fitted_times import fit_times
from feller.models.model import (
    Model,
    check_guidance_scale,
    load_model,
    no_callback,
    no_progress,
    single_guidance_scale,
)
from feller.paths import TokenSampler
from feller.paths.time_distributions import Shifted, TimeDistribution, Uniform
from feller.sampling.guidance_config import GuidanceVariant
from feller.sampling.sampler_config import ORDERS, RATES, SamplerConfig
from feller.training.engine import get_engine
from feller.training.parallelize import compile_network

ERROR_GRID = "error"
"""Value of --grid for times that are fitted to the model."""
PROCESS_OPTIONS = ("superpose", "nfe", "grid", "guidance_method", "guidance_interval", "guide")
"""Names of the sampler options that only continuous-time processes have."""


def complete_arrays(sampler: "Sampler", complete: DataSource, reporter: Reporter) -> Dataset:
    """Impute the missing entries of arrays, also those after the end of a series; observed entries are kept.

    Series of a model with several lengths are completed to the longest length.

    Raises:
        InputError: If the file is damaged, or its arrays do not fit the model.
        UsageError: If the network was not trained with observed entries.
    """
    model = sampler.model
    modality = cast(Arrays, model.spec.modality)
    partial = read(complete, like=modality)
    mask = ~partial.values.isnan()
    observation = PartialObservation(modality.encode(partial.values), mask, are_numbers=True)
    given = {name: value for name, value in partial.given.items() if name not in ("valid", STEPS)}
    if modality.lengths:
        given[STEPS] = torch.full((len(partial),), len(modality.lengths) - 1)
    reporter.start("sampling")
    samples = model.sample_dataset(
        len(partial),
        given={**given, **sampler.cond_texts},
        guidance=sampler.guidance,
        sampling=sampler.sampling,
        observed=observation,
        rng=sampler.rng,
        process_group=get_engine(),
        on_progress=reporter.progress,
    )
    reporter.finish()
    return replace(samples, values=torch.where(mask, partial.values, samples.values.cpu()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """Sampler of a model. Each sample depends only on its index, and not on the number of samples drawn together."""

    model: Model
    cond_texts: dict[str, Any]
    """Given conditions by name, as texts; values of conditions that were selected at the fit are unchanged."""
    guidance: GuidanceScale
    sampling: SamplerConfig
    observed_text: str | None
    seed: int
    shares: tuple[ColumnShares, ...] = ()
    """Set distributions of table columns."""
    length: int | None = None
    """Number of tokens of each text, if it is not that of the training texts."""
    is_compiled: bool = False
    """True if the network is compiled; compiling changes the rounding of samples."""
    on_step: Callable[[float, State], None] = no_callback

    @property
    def rng(self) -> Rng:
        """Source of random numbers, addressed by sample index."""
        return Rng(self.seed).fold_in("sample")

    def check(self, n: int = 1) -> None:
        """Raise an error if the model does not support the conditions of n samples, given once or for each sample."""
        table = with_conditions_on_cells(self.model.spec.modality)
        if table is None:
            self.model.parse_conditions(n, self.cond_texts or None, self.rng)
        elif self.cond_texts:
            table.given_cells(self.cond_texts)

    def draw(
        self,
        n: int,
        *,
        first: int = 0,
        ranks: ProcessGroup = SINGLE,
        total: int | None = None,
        on_progress: Callable[[float], None] = no_progress,
    ) -> Dataset:
        """Draw n samples with the indices `first`, `first + 1`, and so on.

        Args:
            n: Number of samples.
            first: Index of the first sample; the index determines the random numbers of a sample.
            ranks: Processes that share the work; each returns all samples.
            total: Number of all samples, for which conditions are given, if they are drawn in several parts.
            on_progress: Callback with the completed fraction.

        Raises:
            UsageError: If a condition or an observed part does not match the model.
        """
        model, rng = self.model, replace(self.rng, first_example=first)
        given = (self.cond_texts if total is None else self._given_part(slice(first, first + n), total)) or None
        observed = None if self.observed_text is None else _text_observation(model, self.observed_text, n)
        if self.shares:
            table = cast(Table, model.spec.modality)
            given, observed = None, shares_observation(table, self.shares, self.cond_texts, n, rng)
        return model.sample_dataset(
            n,
            given=given,
            guidance=self.guidance,
            sampling=self.sampling,
            observed=observed,
            rng=rng,
            process_group=ranks,
            on_progress=on_progress,
            on_step=self.on_step,
        )

    def _given_part(self, rows: slice, total: int) -> dict[str, Any]:
        """Return the conditions of some of all samples."""
        kinds, given = self.model.spec.modality.selected_conditions, {}
        for name, value in self.cond_texts.items():
            if name in kinds:
                kinds[name].parse(name, value, total)  # checks the number of values
            given[name] = kinds[name].rows(value, rows) if name in kinds else value
        return given

    def write(self, samples: Dataset, place: pathlib.Path, *, first: int = 0, total: int = 0) -> None:
        """Write samples to a file or folder.

        Table cells that were given as conditions keep their original text.

        Args:
            samples: Samples to write.
            place: Path of the file or folder.
            first: Index of the first sample, from which numbered file names count.
            total: Number of all samples, if they are written in several parts; it determines the number of digits in
                file names.
        """
        modality = samples.modality
        with sample_folder.sample_numbering(first, total):
            if (table := with_conditions_on_cells(modality)) and self.cond_texts:
                table.write_given(samples.values, table.given_cells(self.cond_texts), place)
            else:
                modality.write(samples.values, samples.given, place)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that, together with the model, determine the samples."""
        conditions = {name: _setting(value) for name, value in self.cond_texts.items()}
        options: dict[str, Any] = {
            "seed": self.seed,
            "given": conditions,
            "guidance": self.guidance,
            "known": self.observed_text,
        }
        if self.length is not None:
            options["length"] = self.length
        if self.shares:
            options["shares"] = {str(share.column): share.probs.tolist() for share in self.shares}
        return {**options, "compiled": self.is_compiled, "sampling": to_dict(self.sampling)}


def _setting(value: Any) -> Any:
    """Return the value of a condition as JSON can store it."""
    if isinstance(value, tuple) and all(isinstance(end, str) for end in value):
        return BETWEEN.join(value)
    return value.tolist() if hasattr(value, "tolist") else sorted(value) if isinstance(value, set) else value


def make_sampler(
    run: Run,
    config: SampleConfig = SampleConfig(),  # noqa: B008 - frozen
    *,
    weights: pathlib.Path | None = None,
    on_step: Callable[[float, State], None] = no_callback,
    reporter: Reporter = SILENT,
) -> Sampler:
    """Load the model of a run and validate the sampling options.

    Args:
        run: Run with the model.
        config: Options of `feller sample`, except the number of samples and the output path, which are ignored.
        weights: File with the weights; None for the EMA weights.
        on_step: Callback (time, states of the batch) after each step of a continuous-time process.
        reporter: Progress and log output.

    Raises:
        InputError: If the run is damaged.
        UsageError: If an argument is wrong.
    """
    model = load_model(run, file=weights)
    if config.sampler.tokens.length is not None:
        model = model.with_text_length(config.sampler.tokens.length)
    if weights is None and (notice := incomplete_notice(run)):
        reporter.log(notice)
    guidance = 1.0 if config.guidance is None else config.guidance
    nfe, jump_weight = config.sampler.nfe, _parse_jump_weight(config.sampler.superpose)
    observed_text = None if config.infill.template is None else config.infill.template.replace("\\n", "\n")
    cond_texts = _conditions_of(config.given or {}, model)
    if config.sampler.guide is None:
        model.check_guidance(guidance)
    if isinstance(guidance, Mapping):
        for name in sorted(guidance.keys() & model.spec.modality.selected_conditions.keys() - cond_texts.keys()):
            warn(f"the guidance scale of {name} has no effect, because {name} is not given")
    _check_applicable(model, observed_text, config.sampler)
    variant = _guidance_variant(config.sampler, model.spec.sampling.guidance)
    if variant != model.spec.sampling.guidance and guidance == 1:
        warn("the variant of guidance has no effect with the guidance scale 1")
    if config.sampler.guide is not None:
        model, guidance = _autoguided(model, config.sampler.guide, guidance, variant), 1.0
    model.network.to(get_engine().device)
    if config.sampler.compile:
        if not model.family.is_process:
            raise UsageError("--compile does not apply to autoregressive models", remedy="Leave it out")
        compile_network(model.network)
    defaults = model.spec.sampling
    if nfe is not None and (config.sampler.solver or defaults.solver) == "dopri5":
        raise UsageError("dopri5 chooses its own number of network calls", remedy="Leave it out", argument="nfe")
    if config.sampler.grid and (config.sampler.solver or defaults.solver) == "dopri5":
        raise UsageError("dopri5 chooses its own steps", remedy="Leave it out", argument="grid")
    sampling = replace(
        defaults,
        solver=config.sampler.solver or defaults.solver,
        nfe=defaults.nfe if nfe is None else nfe,
        token_sampler=token_sampler_of(config.sampler.tokens) or defaults.token_sampler,
        unmasking_order=_made("order", config.sampler.tokens.order, ORDERS) or defaults.unmasking_order,
        rates=_made("rates", config.sampler.tokens.rates, RATES) or defaults.rates,
        jump_weight=defaults.jump_weight if jump_weight is None else jump_weight,
        guidance=variant,
        times=_step_times(config.sampler.grid, defaults.times),
        precision=parse_precision(config.sampler.precision or defaults.precision),
    )
    check_precision(sampling.precision, get_engine().device, option="--precision")
    spec = model.spec
    if nfe is not None and model.family.is_process:
        _, solver, times = sampling.resolve(spec.path, spec.space)
        used = solver.num_evaluations(len(times) - 1)
        if used < nfe:
            reporter.log(f"{sampling.solver} uses {used} of {nfe} network calls")
    if config.sampler.grid == ERROR_GRID:
        sampling = fit_times(model, sampling, guidance, Rng(config.seed).fold_in("times"))
    if (table := with_conditions_on_cells(spec.modality)) is not None:
        cells = table.given_cells(cond_texts)  # raises an error for impossible cells before any warning
        choice_columns = {choice.column.name for choice in cells.choices.values()}
        if not is_described(read_fit_record(run)):
            check_words(table.schema, cond_texts)
        for name, condition in cond_texts.items():
            if isinstance(condition, str) and name not in choice_columns:
                for warning in outside(table.schema, table_with(name, condition)):
                    reporter.note(warning)
    return Sampler(
        model=model,
        cond_texts=cond_texts,
        guidance=guidance,
        sampling=sampling,
        observed_text=observed_text,
        shares=_shares(model, config.infill.rows, Rng(config.seed).fold_in("shares")),
        length=config.sampler.tokens.length,
        seed=config.seed,
        is_compiled=config.sampler.compile,
        on_step=on_step,
    )


def _shares(model: Model, options: RowOptions, rng: Rng) -> tuple[ColumnShares, ...]:
    """Return the set distributions of table columns.

    Raises:
        UsageError: If a column or share is wrong, or the model is not one of table rows.
    """
    if not options.shares and options.fair is None:
        return ()
    table = model.spec.modality.view(Table)
    if table is None or not model.family.has_row_likelihood:
        raise UsageError(
            argument="fair" if options.fair is not None else "shares",
            expected="a model of table rows",
            found=f"a model of {model.spec.modality.display_name}",
            remedy="Fit the table with recipe table or table-marginals",
        )
    shares = parse_shares(model, table, options.shares or {}, rng)
    return shares if options.fair is None else fair_shares(model, table, options.fair, shares, rng)


def _conditions_of(given: Mapping[str, object], model: Model) -> dict[str, Any]:
    """Return given conditions: cells and classes as texts, values of selected conditions unchanged."""
    selected = model.spec.modality.selected_conditions
    texts = words_of({name: value for name, value in given.items() if name not in selected})
    return {**texts, **{name: value for name, value in given.items() if name in selected}}


def token_sampler_of(options: TokenOptions) -> TokenSampler | None:
    """Return the token sampler for the options; None if no option of token sampling is set."""
    if options.temperature is options.top_k is options.top_p is None:
        return None
    return TokenSampler(1.0 if options.temperature is None else options.temperature, options.top_k, options.top_p)


def _step_times(text: str | None, default: TimeDistribution) -> TimeDistribution:
    """Return the distribution of the step times that a text names; `error` is fitted later."""
    name, _, value = (text or "").partition("=")
    if text is None or text == ERROR_GRID:
        return default
    if text == "linear":
        return Uniform()
    try:
        if name == "shifted":
            return Shifted(float(value))
    except ValueError:
        pass
    raise UsageError("linear, shifted=S with a number S above 0, or error", repr(text), argument="grid")


def _autoguided(model: Model, guide: str, guidance: GuidanceScale, variant: GuidanceVariant) -> Model:
    """Return the model guided by that of another run.

    Raises:
        UsageError: If the scale is not one finite number, a variant is chosen, or the models do not fit.
    """
    if variant.method != "cfg":
        raise UsageError(argument="guidance_method", expected="no variant, with --guide", found=variant.method)
    check_guidance_scale(guidance)
    return autoguided(model, load_model(open_run(guide)), single_guidance_scale(guidance), variant.interval)


def _guidance_variant(options: SamplerOptions, default: GuidanceVariant) -> GuidanceVariant:
    interval = options.guidance_interval or default.interval
    if len(interval) != 2:
        raise UsageError("two times, such as 0.2 0.8", f"{len(interval)}", argument="guidance_interval")
    return replace(default, method=options.guidance_method or default.method, interval=(interval[0], interval[1]))


def _made(flag: str, name: str | None, classes: Mapping[str, type]) -> Any:
    """Return a new object of the class that `classes` maps `name` to; None for the name None.

    `flag` is the name of the option in the error for an unknown name.
    """
    if name is None:
        return None
    if name not in classes:
        raise UsageError.unknown_name(flag, name, classes)
    return classes[name]()


def _parse_jump_weight(text: str | None) -> float | None:
    if text is None:
        return None
    name, _, weight = text.partition("=")
    try:
        jump_weight = float(weight)
    except ValueError:
        jump_weight = math.nan
    if name != "jump" or not 0 <= jump_weight <= 1:
        raise UsageError("jump=WEIGHT with a weight from 0 to 1", repr(text), argument="superpose")
    return jump_weight


def _check_applicable(model: Model, observed_text: str | None, options: SamplerOptions) -> None:
    """Raise an error for options that do not apply to the model."""
    spec = model.spec
    if observed_text is not None and spec.modality.view(Text) is None:
        raise UsageError(
            f"fills in text; this model's data are {spec.modality.display_name}",
            remedy="Leave it out",
            argument="template",
        )
    flag = next((name for name in PROCESS_OPTIONS if getattr(options, name) not in (None, ())), None)
    if not model.family.is_process and flag is not None:
        raise UsageError("applies to continuous-time processes only", remedy="Leave it out", argument=flag)


def _text_observation(model: Model, text: str, n: int) -> PartialObservation:
    """Return the tokens of a text template as partially observed states of n samples."""
    modality = cast(Text, model.spec.modality)
    values, observed_mask = modality.observed_tokens(text)
    return PartialObservation(values.expand(n, -1), observed_mask.expand(n, -1))
