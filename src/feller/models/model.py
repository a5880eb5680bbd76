"""A fitted model: all that is needed to draw from it."""

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, overload

import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from feller.core.distributed import SINGLE, ProcessGroup, local_range
from feller.core.errors import InputError, UsageError, check_kind, check_number, is_too_large, warn
from feller.core.pytree import Cond, State, concatenate, tree_map
from feller.core.rng import Rng, check_rng
from feller.core.run_folder import Run, to_run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.user_code import load_code
from feller.data.batches import Batch
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset, Modality
from feller.data.tables.dataframes import to_frame
from feller.data.tables.given_cells import CellConditions, words_of
from feller.data.tables.modality import Table
from feller.models.families.elbo import ELBO, ELBOEstimate
from feller.models.families.model_family import (
    LogProb,
    LogProbRequest,
    ModelFamily,
    OnProgress,
    PartialObservation,
    SampleRequest,
    default_batch_size,
    iter_batches,
)
from feller.models.spec import ModelSpec, draw_conditions, load_aux_network, load_spec, named_classes, resolve_given
from feller.networks.network_config import NetworkConfig, limit_parameter_bytes
from feller.networks.unwrapping import evaluation_mode
from feller.paths import Network, Path
from feller.sampling import Divergence, DormandPrince, Euler, Solver
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import MOST_CALLS, VELOCITY_SOLVERS, SamplerConfig
from feller.training.objective import ObjectiveConfig

GivenValues = Cond | Mapping[str, object]
"""Conditions or cells by their names."""
MAX_GUIDANCE = 100.0
"""Beyond which nothing but numbers without end comes out."""


def check_guidance_scale(guidance: Any) -> None:
    """Refuse a strength of guidance that is no number, or beyond all use."""
    if not isinstance(guidance, Real):
        raise UsageError("guidance as one number, such as 2", repr(guidance))
    if not abs(float(guidance)) <= MAX_GUIDANCE:
        raise UsageError(f"guidance between -{MAX_GUIDANCE:g} and {MAX_GUIDANCE:g}", f"{float(guidance):g}")


def no_progress(fraction: float) -> None:
    """Hear the share that is done, and do nothing."""


OnStep = Callable[[float, State], None]
"""(t, x) of a batch on its way."""


def no_callback(t: float, x: State) -> None:
    """See a batch on its way, and do nothing."""


Samples: TypeAlias = Dataset | pd.DataFrame
"""Rows of a table are a data frame; pictures, texts and all else are a data set."""


@dataclass(frozen=True, repr=False, init=False)
class Model:
    """A description and a network that fits it."""

    spec: ModelSpec
    network: nn.Module
    objective: ObjectiveConfig | None
    """What it was trained with, where that is known."""

    def __init__(
        self,
        network: Callable[..., object],
        objective: ObjectiveConfig | Path | ModelFamily | None = None,
        *,
        data: Modality | Dataset | tuple[int, ...] | None = None,
        times: tuple[float, float] = (0.0, 1.0),
        classes: Sequence[str] = (),
        null: Mapping[str, int] | None = None,
        sampling: SamplerConfig | None = None,
    ) -> None:
        """Put a network of your own, what it was trained for and the kind of data together.

        Args:
            network: Called as network(x, t), times [b]; network(x, t, label) or network(x, t, cond), a dict, where
                there are classes; or network(x), where it knows no time: the first way that it takes. A module, or a
                function of tensors, whose modules are found, without state, without chance and row by row, that leaves
                its arguments as they are. Of its answer the part `sample` or `logits` counts, or the only one.
            objective: What it was trained with, such as `FlowMatching`; or a path alone, by default an `Affine` one
                from normal noise with a velocity: say `Affine(prediction=NoisePrediction())` where it answers with the
                noise, `DataPrediction()` where it answers with the data. The betas that diffusers calls linear are
                `VP()`; `LinearVP()` is alpha = t. For symbols it answers with logits. Or a family, where it is no
                process on a path: `AutoregressiveModel()` is a language model, whose first token its
                `config.bos_token_id` names.
            data: What the data are: a modality, such as `images(32, 32)`; the data themselves, whose classes are then
                drawn as often as there; or the shape of one example: (d,) for points in their own units, (channels,
                height, width) with 1 or 3 channels for pictures in [-1, 1], any other for arrays of numbers. By default
                the shape of the objective's space.
            times: Its times at the source and at the data, (1, 0) where it runs backwards; a velocity then points
                there.
            classes: Names of the classes, in the order of their numbers, where `data` is a shape.
            null: Number of each condition that stands for "not given", where it was trained to do without; then
                guidance is possible. By default that of the objective, or as its `null_values` say.
            sampling: How samples are drawn.

        Raises:
            UsageError: If the network does not answer in the shape of the state, or is not without state, without
                chance and row by row, or changes what it is given; or if what is said of it does not go together.
        """
        from feller.models.export.user_network import build_model

        model = build_model(network, objective, data=data, times=times, classes=classes, null=null, sampling=sampling)
        object.__setattr__(self, "spec", model.spec)
        object.__setattr__(self, "network", model.network)
        object.__setattr__(self, "objective", model.objective)

    @classmethod
    def from_spec(cls, spec: ModelSpec, network: nn.Module, objective: ObjectiveConfig | None = None) -> "Model":
        """Return the model of a network that a description has built, and what that was trained with."""
        model = cls.__new__(cls)
        object.__setattr__(model, "spec", spec)
        object.__setattr__(model, "network", network)
        object.__setattr__(model, "objective", objective)
        return model

    @property
    def family(self) -> ModelFamily:
        """What the network means."""
        return self.spec.family

    def __repr__(self) -> str:
        """Say in a line what it is; `spec` tells all."""
        kind = type(self.spec.modality).__name__
        weights = sum(part.numel() for part in self.network.parameters())
        return f"<Model of {kind} that {self.family.describe()}, {weights:,} weights>"

    def sample_conditions(self, n: int, requested: dict[str, str], rng: Rng) -> Cond:
        """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

        Raises:
            UsageError: If a condition or its value is unknown.
        """
        return draw_conditions(self.spec, n, requested, rng)

    def parse_conditions(self, n: int, given: GivenValues | None, rng: Rng) -> tuple[Cond, dict[str, State]]:
        """Return the conditions of n samples, and the leaves of their states that are given; arguments as `sample`.

        Raises:
            UsageError: If a condition, a leaf or its value is unknown, or two say different things.
        """
        return resolve_given(self.spec, n, given, rng)

    def sample(
        self,
        n: int,
        *,
        given: GivenValues | None = None,
        guidance: float = 1.0,
        sampling: SamplerConfig | None = None,
        solver: Solver | str | None = None,
        nfe: int | None = None,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
    ) -> Samples:
        """Draw n samples in the units of the data: of a table a DataFrame, of all else a `Dataset`.

        Args:
            n: Number of samples.
            given: Conditions: a class by its name, or by its position where no class is called by a number, or [n] of
                either; others are drawn as often as in the training data. Of a table cells: one, a list of those
                that may be, or a tuple of the ends of a range of numbers or times, ends included.
            guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.
            sampling: Solver and number of calls; by default the model's own.
            solver: A name, or one of your own, in place of that named there; the number of calls stays.
            nfe: Network calls per sample, in place of those named there.
            rng: Source of all randomness.

        Raises:
            UsageError: If n is below 1, a condition or a solver is unknown, rows with what is given are too rare, or
                guidance is asked of a model without conditions.
        """
        check_rng(rng)
        if solver is not None and not isinstance(solver, str):
            check_kind("solver", solver, Solver, "feller.Midpoint(), or a name such as midpoint")
        if isinstance(solver, str):
            sampling, solver = replace(sampling or self.spec.sampling, solver=solver), None
        if nfe is not None:
            sampling = self._with_calls(sampling or self.spec.sampling, solver, nfe)
        numbers = named_classes(self.spec, given)
        samples = self.sample_dataset(n, given=numbers, guidance=guidance, sampling=sampling, solver=solver, rng=rng)
        return self.to_dataframe(samples, given) if samples.modality.samples_as_frame else samples

    def _with_calls(self, sampling: SamplerConfig, solver: Solver | None, nfe: int) -> SamplerConfig:
        """Return how samples are drawn in so many calls; warn where a solver takes others."""
        check_number("nfe", nfe, ge=1, le=MOST_CALLS)
        kind = solver or VELOCITY_SOLVERS.get(sampling.solver, Euler)()
        name, calls = (sampling.solver if solver is None else type(solver).__name__), kind.nfe_per_step
        if isinstance(solver, DormandPrince) or (solver is None and sampling.solver == "dopri5"):
            warn(f"{name} chooses its own steps, so that nfe={nfe} has no effect")
        elif self.family.is_process and nfe < calls:
            raise UsageError(argument="nfe", expected=f"at least {calls} for {name}", found=nfe)
        elif self.family.is_process and nfe % calls:
            warn(f"{name} takes {calls} calls a step: {nfe - nfe % calls} of nfe={nfe} are used")
        return replace(sampling, nfe=nfe)

    def to_dataframe(self, samples: Dataset, given: GivenValues | None = None) -> pd.DataFrame:
        """Return samples as a data frame, in which what was given of rows stands as it came."""
        table = samples.modality.view(Table)
        if table is None or not given:
            return samples.frame()
        return to_frame(table.with_given(samples.values, table.given_cells(words_of(given))), table.schema)

    def sample_dataset(
        self,
        n: int,
        *,
        given: GivenValues | None = None,
        guidance: float = 1.0,
        sampling: SamplerConfig | None = None,
        solver: Solver | None = None,
        observed: PartialObservation | None = None,
        clamped: dict[str, State] | None = None,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
        batch_size: int | None = None,
        process_group: ProcessGroup = SINGLE,
        on_progress: Callable[[float], None] = no_progress,
        on_step: OnStep = no_callback,
    ) -> Dataset:
        """Draw n samples as a data set; which batch a sample is in does not matter.

        Arguments and errors as for `sample`, and those of `SampleRequest`.

        Args:
            n: Number of samples.
            given: Conditions, or cells of rows; tensors hold positions of classes, as data do, not their names.
            guidance: 1 is the plain conditional.
            sampling: Solver and number of calls; by default the model's own.
            solver: In place of that named there.
            observed: What is given of each sample and kept, where the data are symbols.
            clamped: Leaves of the state that are given, [n, ...] each; the others are drawn beside them.
            rng: Source of all randomness; its `first_example` is the number of the first sample.
            batch_size: Samples drawn together; by default what suits the device.
            process_group: Processes that share the work; all get all samples.
            on_progress: Hears the share that is done.
            on_step: Hears time and states of a batch on its way, where there is one.
        """
        if not isinstance(n, Integral) or n < 1:
            raise UsageError("at least 1, a whole number", repr(n), argument="n")
        modality = self.spec.modality
        if given and (table := modality.view(Table)) is not None:
            given, observed = None, _observed_cells(table, words_of(given), n)
        cond, leaf_values = self.parse_conditions(n, given, rng)
        given = modality.add_derived_conditions(cond)
        oversample = observed is None and (sampling or self.spec.sampling).raking_oversample
        factor = oversample or 1
        request = self._request(
            n * factor,
            given,
            observed=observed,
            clamped={**leaf_values, **(clamped or {})},
            sampling=sampling,
            solver=solver,
            guidance=guidance,
            on_step=on_step,
            on_progress=on_progress,
        )
        ends = self._sample_batches(
            request, replace(rng, first_example=rng.first_example * factor), batch_size, process_group
        )
        parts = process_group.gather([modality.decode(x_1) for _, x_1 in ends])
        values = concatenate(*(values for part in parts for values in part))
        if oversample:
            raking = rng.fold_in(
                "rake", *([rng.first_example] if rng.first_example else [])
            )  # each part has its own shuffle
            values = modality.resample(values, n, raking)
        return Dataset(values, given, modality, ())

    def save(
        self,
        out: str,
        *,
        make: Callable[..., nn.Module] | NetworkConfig | None = None,
        data: str | os.PathLike[str] = "",
        test: str | os.PathLike[str] = "",
        overwrite: bool = False,
    ) -> Run:
        """Write the model as a run, which every command opens; code of yours is named by its file with --code.

        A run holds weights and no code, so it remembers what makes the network by name. That is built anew here, with
        these weights, and must answer the same.

        Args:
            out: The run folder.
            make: What makes the network: a class or function of a file of yours that has no arguments, or an
                architecture of feller; by default the network's class.
            data: What it learned from, all of it: a file, a folder or `example:NAME`, for `evaluate`.
            test: File or folder of like rows that it did not learn from; samples are judged beside them. Without it
                nothing counts as held out, but the test part that an example has.
            overwrite: Replace the run in `out`.

        Raises:
            UsageError: If nothing is known that makes the network, or it makes another one; or `out` is there; or
                `data` or `test` are no place of data.
        """
        from feller.models.export.model_saving import save_model

        return save_model(self, out, make=make, data=data, test=test, overwrite=overwrite)

    def sample_pairs(self, n: int, rng: Rng, on_progress: Callable[[float], None] = no_progress) -> Batch:
        """Draw n pairs of source and end, as states, with conditions as often as in the training data."""
        given = self.spec.modality.add_derived_conditions(self.sample_conditions(n, {}, rng))
        x_0, x_1 = zip(*self._sample_batches(self._request(n, given, on_progress=on_progress), rng), strict=True)
        return {"x_0": concatenate(*x_0), "x_1": concatenate(*x_1), "given": given}

    def _request(
        self, n: int, cond: Cond, *, sampling: SamplerConfig | None = None, guidance: float = 1.0, **more: Any
    ) -> SampleRequest:
        """Say what is asked of the family; what is left out is as the model has it."""
        self.check_guidance(guidance)
        spec = self.spec
        return SampleRequest(
            n=n,
            space=spec.space,
            sampling=sampling or spec.sampling,
            cond=cond,
            guidance=guidance,
            droppable=self.droppable(),
            eos_token_id=spec.modality.eos_token_id,
            **more,
        )

    def _sample_batches(
        self, request: SampleRequest, rng: Rng, batch_size: int | None = None, process_group: ProcessGroup = SINGLE
    ) -> Iterator[tuple[State, State]]:
        """Yield source and end of our samples, batch by batch; which batch a sample is in does not matter."""
        self.family.check_request(request)
        for rows, report_batch, device in self._batches(request.n, batch_size, process_group, request.on_progress):
            batch_rng = replace(rng, first_example=rng.first_example + rows.start)
            with evaluation_mode(self.network):
                ends = self.family.sample(self.network, request.subset(rows, device, report_batch), batch_rng)
            yield ends

    def _batches(
        self, n: int, size: int | None, process_group: ProcessGroup, on_progress: Callable[[float], None]
    ) -> Iterator[tuple[slice, OnProgress, torch.device]]:
        """Yield our rows of n, some at a time, who hears of them, and the device where they go."""
        device = next(self.network.parameters()).device
        size = size or default_batch_size(self.spec.space, device)
        local_rows = local_range(process_group, n, size)
        for rows, report_batch in iter_batches(range(local_rows.start, local_rows.stop), size, on_progress):
            yield rows, report_batch, device

    def log_prob(
        self,
        data: Dataset | DataSource,
        *,
        guidance: float = 1.0,
        sampling: SamplerConfig | None = None,
        divergence: Divergence | None = None,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
        process_group: ProcessGroup = SINGLE,
        on_progress: Callable[[float], None] = no_progress,
    ) -> Float[Tensor, " n"]:
        """Return the log probability of examples, [n], in nats; of numbers the log of their density.

        It is exact for tables and texts that are written column after column or token after token, and for graphical
        models. A density is that of the flow, with respect to the volume of its space: for points and pictures in their
        own units, on a manifold that of the manifold, such as area of the unit sphere, or radians. Whole levels are
        filled up with uniform noise; the mean over it bounds their log probability from below. A condition that the
        data lack counts as not given. With guidance it is the density of what `sample` draws with that guidance, which
        is no tilted density.

        Args:
            data: Examples like those of the fit: a data set, or what `feller.read` takes, such as a file, a DataFrame,
                or an array in the units of the data.
            guidance: As for `sample`: 1 is the plain conditional.
            sampling: Of flows: solver and calls of the way back from data to source; by default an adaptive one at
                1e-6.
            divergence: Of flows: by default exact up to 32 degrees of freedom, and estimated with one probe beyond.
            rng: Source of probes and filling noise.
            process_group: Processes that share the work; all get all numbers.
            on_progress: Hears which share is done.

        Raises:
            UsageError: If guidance is asked of a model without conditions, the model's process is no flow, its data
                have no density or a bound of their probability alone, or it cannot do without a condition that these
                data lack.
        """
        if self.family.is_discrete:
            if self.family.has_bounds_only:
                raise UsageError(
                    argument="log_prob",
                    expected="a model whose probabilities are exact",
                    found=f"one that {self.family.describe()}, of which a bound is known",
                    remedy="Ask code_length(data), which bounds -log p from above",
                )
            if guidance != 1.0 or sampling is not None or divergence is not None:
                raise UsageError("guidance, sampling and divergence are of flows, and this model writes symbols")
            return -self.nll(data, rng=rng, process_group=process_group, on_progress=on_progress)
        self.check_guidance(guidance)
        spec = self.spec
        scale = spec.modality.log_scale
        if scale is None:
            raise UsageError(
                argument="log_prob",
                expected="data with a density, or a model that writes symbols in some order",
                found=f"{spec.modality.display_name}, whose states fill no volume",
                remedy="Fit a table with recipe table or table-marginals for exact probabilities",
            )

        def state(values: State, batch_rng: Rng) -> State:
            return spec.modality.dequantize(values, batch_rng.stream("fill"))

        network = cfg(self.network, guidance, droppable=self.droppable())
        options = {"sampling": sampling, "divergence": divergence}
        return self._log_prob(network, data, state, options, rng, process_group, on_progress).value - scale

    def _log_prob(
        self,
        network: Network,
        data: Dataset | DataSource,
        state: Callable[[State, Rng], State],
        options: dict[str, Any],
        rng: Rng,
        process_group: ProcessGroup,
        on_progress: Callable[[float], None],
    ) -> LogProb:
        """Ask the family about some examples at a time, and gather what all processes find."""
        spec = self.spec
        data = data if isinstance(data, Dataset) else self.examples(data)
        parts = [torch.empty(0, 2, dtype=torch.float64, device=next(self.network.parameters()).device)]
        for rows, report_batch, device in self._batches(len(data), None, process_group, on_progress):
            some = data.subset(torch.arange(rows.start, rows.stop))
            batch_rng = replace(rng, first_example=rng.first_example + rows.start)
            inputs = {"x_1": state(some.values, batch_rng), "cond": self._with_nulls(some)}
            inputs = tree_map(lambda leaf, device=device: leaf.to(device), inputs)
            request = LogProbRequest(**inputs, space=spec.space, eos_token_id=spec.modality.eos_token_id, **options)
            with evaluation_mode(self.network):
                parts.append(torch.stack(self.family.log_prob(network, request, batch_rng), 1).double())
            report_batch(1.0)
        return LogProb(*torch.cat(process_group.gather(torch.cat(parts))).unbind(1))

    def examples(self, data: DataSource, *, lenient: bool = False) -> Dataset:
        """Read examples as this model sees them, one for each row; warns of cells that no row that it learned has.

        Args:
            data: The examples.
            lenient: Take such cells for some that are near, also where the schema of the model refuses them.

        Raises:
            InputError: If a cell of a table is of another type than its column.
        """
        own = self.spec.modality
        found = read(data, like=own.lenient if lenient else own, every_row=True)
        for line in found.modality.strange(found):
            warn(line)
        return replace(found, modality=own)

    def supports_conditions(self, data: Dataset) -> bool:
        """Tell whether examples have all conditions that the model was not trained to do without."""
        return bool(self.spec.cond_dropout) or self.spec.frequencies.keys() <= data.given.keys()

    def _with_nulls(self, data: Dataset) -> Cond:
        """Return the conditions of examples; those that they lack are not given."""
        missing = self.spec.frequencies.keys() - data.given.keys()
        if not self.supports_conditions(data):
            raise UsageError(
                f"these data have no {', '.join(sorted(missing))}, without which this model cannot be asked"
            )
        nulls = {name: torch.full((len(data),), len(self.spec.frequencies[name]), dtype=torch.long) for name in missing}
        return {**data.given, **nulls}

    @overload
    def nll(
        self,
        data: Dataset | DataSource,
        *,
        elbo: ELBO | None = ...,
        times: int = ...,
        return_std_err: Literal[False] = ...,
        rng: Rng = ...,
        process_group: ProcessGroup = ...,
        on_progress: Callable[[float], None] = ...,
    ) -> Float64[Tensor, " n"]: ...

    @overload
    def nll(
        self,
        data: Dataset | DataSource,
        *,
        elbo: ELBO | None = ...,
        times: int = ...,
        return_std_err: Literal[True],
        rng: Rng = ...,
        process_group: ProcessGroup = ...,
        on_progress: Callable[[float], None] = ...,
    ) -> ELBOEstimate: ...

    def nll(
        self,
        data: Dataset | DataSource,
        *,
        elbo: ELBO | None = None,
        times: int = 128,
        return_std_err: bool = False,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
        process_group: ProcessGroup = SINGLE,
        on_progress: Callable[[float], None] = no_progress,
    ) -> Float64[Tensor, " n"] | ELBOEstimate:
        """Return the code length of each example of symbols in nats, [n]: -log p, or an upper bound on it.

        It is exact for autoregressive models and for models of whole rows. Otherwise it is an estimate of a bound, with
        a standard error that `return_std_err=True` returns beside it; more `times` make it smaller. The bound holds
        for the chain along the rates that `elbo` names. By default these are the rates with a tight bound, which are
        not those that `sample` uses where the source is no mask; `rates_of(path)` of `feller.models.families.elbo`
        names those.

        Args:
            data: Examples like those of the fit, or what `feller.read` takes: one number comes back for each row. A
                condition that they lack counts as not given.
            elbo: Rates that are compared; by default `tightest(path)`.
            times: Network calls for each example, where it is a bound.
            return_std_err: Return `(nats, std_err)`, a named tuple; the error is 0 where the code length is exact.
            rng: Source of times and noise.
            process_group: Processes that share the work; all get all numbers.
            on_progress: Hears which share is done.

        Raises:
            UsageError: If the data are no symbols, or some rows would be left out.
        """
        if not self.family.is_discrete:
            raise UsageError("only symbols have a code length", remedy="Ask numbers for log_prob, their log density")

        def state(values: State, batch_rng: Rng) -> State:
            return self.spec.modality.encode(values)

        options = {"elbo": elbo, "times": times}
        log_probs = self._log_prob(self.network, data, state, options, rng, process_group, on_progress)
        return ELBOEstimate(-log_probs.value, log_probs.std_err) if return_std_err else -log_probs.value

    def droppable(self) -> tuple[str, ...]:
        """Return the conditions that the network can do without."""
        return tuple(name for name in self.spec.frequencies if name in getattr(self.network, "null_values", {}))

    def check_guidance(self, guidance: float) -> None:
        """Refuse guidance that the model does not know."""
        spec = self.spec
        check_guidance_scale(guidance)
        if guidance == 1.0:
            return
        names = ", ".join(spec.frequencies)
        if not names:
            raise UsageError(
                argument="guidance",
                expected="a model with conditions",
                found="one without any",
                remedy="Leave it out",
            )
        if not self.droppable() or not spec.cond_dropout:
            null = ", ".join(f"{name!r}: {len(shares)}" for name, shares in spec.frequencies.items())
            raise UsageError(
                argument="guidance",
                expected=f"a model that was trained to do without {names}",
                found='no number for "not given"' if not self.droppable() else "one whose cond_dropout was 0",
                remedy=f"Train it with cond_dropout=0.1 and null={{{null}}}, or leave it out",
            )


def _observed_cells(table: Table, given: CellConditions, n: int) -> PartialObservation:
    """Return what is given of the rows of a table, for each of n."""
    cells = table.given_cells(given)
    state, mask = table.observed_tokens(cells.codes.expand(n, -1), cells.observed.expand(n, -1))
    return PartialObservation(
        state, mask, code_weights={j: choice.acceptance_probs for j, choice in cells.choices.items()}
    )


def load_model(
    run: Run | str | os.PathLike[str], *, file: pathlib.Path | None = None, code: str | os.PathLike[str] | None = None
) -> Model:
    """Read a model from its run folder; none of the folder's writer's code is executed.

    Args:
        run: The run, or its folder.
        file: Which of its weights; by default their average.
        code: File of your own that defines what the model is made of; it runs. None is needed if it is imported.

    Raises:
        InputError: If the folder is damaged, incomplete or newer than this version.
    """
    run = to_run(run)
    if code is not None:
        load_code(code, run.path)
    description = load_spec(run)
    file = file or run.ema_weights
    if not file.is_file():
        what = "no average of its weights" if run.weights.is_file() else "no weights yet"
        raise InputError(f"has {what}", remedy=f"Finish it with: feller fit --resume --out {run.path}", file=run.path)
    weights, _ = load_tensors(file)
    weight_bytes = sum(tensor.nbytes for tensor in weights.values())
    try:
        network = limit_parameter_bytes(weight_bytes, lambda: description.build(Rng(0)))
    except InputError as error:
        raise InputError(f"asks for another network than {file} holds: {error}", file=run.model) from error
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        if is_too_large(error):
            raise InputError(
                f"asks for a network of another size than the weights in {file}, or for more memory than there is",
                remedy="Copy the whole run",
                file=run.model,
            ) from error
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"asks for a network that cannot be made: {why}", file=run.model) from error
    try:
        load_weights(weights, network)
    except RuntimeError as error:
        raise InputError(
            f"does not fit {run.model}: they are of two models", remedy="Copy the whole run", file=file
        ) from error
    for name, module in description.modality.aux_networks.items():
        load_aux_network(run, name, module, description.aux_hashes.get(name))
    return Model.from_spec(description, network.eval())
