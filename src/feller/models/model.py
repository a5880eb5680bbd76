"""Fitted models, which consist of a specification and a network: sampling and log-likelihood."""

import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, cast, overload

import pandas as pd
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from feller.core.distributed import SINGLE, ProcessGroup, local_range
from feller.core.errors import InputError, UsageError, check_integer, check_kind, is_too_large, warn
from feller.core.pytree import Cond, State, concatenate, tree_map
from feller.core.rng import Rng, check_rng
from feller.core.run_folder import Run, to_run
from feller.core.safetensors_io import load_tensors, load_weights
from feller.core.user_code import load_code
from feller.data.batches import Batch
from feller.data.loading.dataset_reader import read
from feller.data.loading.in_memory import DataSource
from feller.data.modality import Dataset, Modality
from feller.data.tables import raking
from feller.data.tables.dataframes import to_frame
from feller.data.tables.given_cells import CellConditions, words_of
from feller.data.tables.histories import Histories, with_conditions_on_cells
from feller.data.tables.modality import Table
from feller.models.families.elbo import ELBO, ELBOEstimate
from feller.models.families.model_family import (
    GuidanceScale,
    LogProb,
    LogProbRequest,
    ModelFamily,
    OnProgress,
    PartialObservation,
    SampleRequest,
    default_batch_size,
    iter_batches,
)
from feller.models.given_conditions import draw_conditions, named_classes, resolve_given
from feller.models.spec import ModelSpec, load_aux_network, load_spec
from feller.networks.network_config import NetworkConfig, limit_parameter_bytes
from feller.networks.unwrapping import evaluation_mode
from feller.paths import Network, Path
from feller.sampling import Divergence, DormandPrince, Euler, Solver
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import MOST_CALLS, VELOCITY_SOLVERS, SamplerConfig
from feller.spaces import Tokens
from feller.training.objective import ObjectiveConfig

GivenValues = Cond | Mapping[str, object]
"""Values of conditions or table cells, by name."""
MAX_GUIDANCE = 100.0
"""Maximum absolute value of the guidance scale; larger scales would give infinite samples."""


def single_guidance_scale(guidance: GuidanceScale) -> float:
    """Return a guidance scale; UsageError for a dict of scales, which only processes in time support."""
    if isinstance(guidance, Mapping):
        raise UsageError("one guidance scale", f"a scale for each of {', '.join(guidance)}", argument="guidance")
    return guidance


def check_guidance_scale(guidance: Any) -> None:
    """Raise a UsageError if a guidance scale, or one of the scales in a dict, is not a number or is too large."""
    if isinstance(guidance, Mapping):
        for scale in guidance.values():
            check_guidance_scale(scale)
        return
    if not isinstance(guidance, Real):
        raise UsageError("one guidance scale, such as 2", repr(guidance))
    if not abs(float(guidance)) <= MAX_GUIDANCE:
        raise UsageError(f"a guidance scale between -{MAX_GUIDANCE:g} and {MAX_GUIDANCE:g}", f"{float(guidance):g}")


def no_progress(fraction: float) -> None:
    """Ignore the completed fraction; the default progress callback."""


OnStep = Callable[[float, State], None]
"""Callback with the time t and the states x of a batch, (t, x)."""


def no_callback(t: float, x: State) -> None:
    """Ignore the time and states of a batch; the default callback after each solver step."""


Samples: TypeAlias = Dataset | pd.DataFrame
"""Samples of a model: a data frame for tables, a dataset for images, text and other data."""


@dataclass(frozen=True, repr=False, init=False)
class Model:
    """Fitted model: a specification and its network."""

    spec: ModelSpec
    network: nn.Module
    objective: ObjectiveConfig | None
    """Training objective of the network; None if it is unknown."""

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
        """Build a model from a user network, its training objective and its data modality.

        Args:
            network: Module or function of tensors, called as network(x, t) with times [b], as network(x, t, label) or
                network(x, t, cond) with a dict if there are classes, or as network(x) if it takes no time; the first
                signature that works is used. It must be deterministic, stateless, independent per row, and must not
                modify its arguments. An output with an attribute `sample` or `logits`, or with one entry, is unwrapped.
            objective: Training objective, such as `FlowMatching`; or a path only, by default `Affine()` with velocity
                prediction from normal noise. Use `Affine(prediction=NoisePrediction())` for noise prediction and
                `DataPrediction()` for x_1 prediction. The linear betas of diffusers are `VP()`; `LinearVP()` is for
                alpha = t. Networks on tokens return logits. Or a family without a path: `AutoregressiveModel()` for
                language models, whose first token is `config.bos_token_id`.
            data: Modality, such as `images(32, 32)`; or a dataset, whose class frequencies are then used in sampling;
                or the shape of one example: (d,) for points in their own units, (channels, height, width) with 1 or 3
                channels for images in [-1, 1], any other for arrays. By default the shape of the objective's space.
            times: Times of the network at the source and at the data; (1, 0) for reversed time, with velocities that
                point to the source.
            classes: Class names in the order of their numbers, if `data` is a shape.
            null: Null value of each droppable condition, for classifier-free guidance. By default that of the
                objective, or `null_values` of the network.
            sampling: Sampler settings.

        Raises:
            UsageError: If the network's output does not have the shape of the state, the network is stateful, random,
                mixes rows or modifies its inputs, or the arguments are inconsistent.
        """
        from feller.models.export.user_network import build_model

        model = build_model(network, objective, data=data, times=times, classes=classes, null=null, sampling=sampling)
        object.__setattr__(self, "spec", model.spec)
        object.__setattr__(self, "network", model.network)
        object.__setattr__(self, "objective", model.objective)

    @classmethod
    def from_spec(cls, spec: ModelSpec, network: nn.Module, objective: ObjectiveConfig | None = None) -> "Model":
        """Create a model from a specification, a network built from it, and its training objective."""
        model = cls.__new__(cls)
        object.__setattr__(model, "spec", spec)
        object.__setattr__(model, "network", network)
        object.__setattr__(model, "objective", objective)
        return model

    @property
    def family(self) -> ModelFamily:
        """Model family of the network."""
        return self.spec.family

    def __repr__(self) -> str:
        modality = type(self.spec.modality).__name__
        num_weights = sum(parameter.numel() for parameter in self.network.parameters())
        return f"<Model of {modality} that {self.family.describe()}, {num_weights:,} weights>"

    def sample_conditions(self, n: int, requested: Mapping[str, object], rng: Rng) -> Cond:
        """Return the conditions of n samples: those requested; other classes have their training frequencies.

        Other conditions are null. `requested` maps the names of conditions to their values.

        Raises:
            UsageError: If a condition or its value is unknown.
        """
        return draw_conditions(self.spec, n, requested, rng)

    def conditions_of(self, data: Dataset, n: int, rng: Rng) -> Cond:
        """Return the conditions of n random examples of a dataset, or those of `sample_conditions` if none is selected.

        Raises:
            UsageError: If the dataset is empty or lacks a condition that has no null value.
        """
        if not self.spec.modality.selected_conditions or not len(data):
            return self.sample_conditions(n, {}, rng)
        index = rng.stream("conditions").randint(len(data), (n,))
        return {
            name: values[index] for name, values in self._with_nulls(data).items() if name in self.spec.condition_names
        }

    def parse_conditions(self, n: int, given: GivenValues | None, rng: Rng) -> tuple[Cond, dict[str, State]]:
        """Convert conditions given by a user to network conditions and observed components (leaves) of the state.

        Arguments are those of `sample`.

        Raises:
            UsageError: If a condition, a leaf or one of their values is unknown, or if two values conflict.
        """
        return resolve_given(self.spec, n, given, rng)

    def sample(
        self,
        n: int,
        *,
        given: GivenValues | None = None,
        guidance: GuidanceScale = 1.0,
        sampling: SamplerConfig | None = None,
        solver: Solver | str | None = None,
        nfe: int | None = None,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
    ) -> Samples:
        """Sample n examples in data units: a DataFrame for tables, else a `Dataset`.

        Args:
            n: Number of samples.
            given: Value of each given condition: a class name, a class index (unless class names are numbers), a number
                or other value of a condition that was selected at the fit, or n of these. Other classes are sampled
                with their training frequencies, and other conditions are left open. For tables, each given cell: a
                value, a list of allowed values, or a tuple with both ends of a closed range.
            guidance: Classifier-free guidance scale: 1 is conditional, 0 unconditional, above 1 sharper. Or a scale for
                each of several conditions, by name, in the order in which they are added.
            sampling: Solver and NFE; default: those of the model.
            solver: Solver or its name, which replaces that of `sampling` with the same NFE.
            nfe: Number of network evaluations per sample, which replaces that of `sampling`.
            rng: Random streams.

        Raises:
            UsageError: If n is below 1, if a condition or the solver is unknown, if rows with the given cells are too
                rare, or if the model does not support guidance.
        """
        check_rng(rng)
        if solver is not None and not isinstance(solver, str):
            check_kind("solver", solver, Solver, "feller.Midpoint(), or a name such as midpoint")
        if isinstance(solver, str):
            sampling, solver = replace(sampling or self.spec.sampling, solver=solver), None
        if nfe is not None:
            sampling = self._with_calls(sampling or self.spec.sampling, solver, nfe)
        conditions = named_classes(self.spec, given)
        samples = self.sample_dataset(n, given=conditions, guidance=guidance, sampling=sampling, solver=solver, rng=rng)
        return self.to_dataframe(samples, given) if samples.modality.samples_as_frame else samples

    def _with_calls(self, sampling: SamplerConfig, solver: Solver | None, nfe: int) -> SamplerConfig:
        """Return the sampler settings with `nfe` network evaluations.

        A warning states if the solver uses another number, and an error if `nfe` does not suffice for one step.
        """
        check_integer("nfe", nfe, ge=1, le=MOST_CALLS)
        step_solver = solver or VELOCITY_SOLVERS.get(sampling.solver, Euler)()
        name = sampling.solver if solver is None else type(solver).__name__
        steps = step_solver.num_steps(nfe)
        used = step_solver.num_evaluations(steps)
        if isinstance(solver, DormandPrince) or (solver is None and sampling.solver == "dopri5"):
            warn(f"{name} has adaptive steps, so nfe={nfe} has no effect")
        elif self.family.is_process and not steps:
            raise UsageError(
                argument="nfe", expected=f"at least {step_solver.num_evaluations(1)} for {name}", found=nfe
            )
        elif self.family.is_process and used < nfe:
            warn(f"{name} uses {used} of nfe={nfe} evaluations")
        return replace(sampling, nfe=nfe)

    def to_dataframe(self, samples: Dataset, given: GivenValues | None = None) -> pd.DataFrame:
        """Convert samples to a data frame; cells in `given` keep the form in which they were given."""
        table = with_conditions_on_cells(samples.modality)
        if table is None or not given:
            return samples.frame()
        return to_frame(table.with_given(samples.values, table.given_cells(words_of(given))), table.schema)

    def with_text_length(self, length: int) -> "Model":
        """Return this model with texts of another number of tokens, for sampling and evaluation.

        The number of network evaluations of a process changes in proportion. Texts longer than those of the training
        are an extrapolation.

        Raises:
            UsageError: If the length is below 1, or the model does not generate texts of any length.
        """
        check_integer("length", length, ge=1)
        spec, modality = self.spec, self.spec.modality.with_text_length(length)
        if modality is None or not spec.architecture.takes_any_length:
            raise UsageError(
                argument="length",
                expected="a model of text with tokens at positions, such as the recipe text-blocks",
                found=f"a model of {spec.modality.display_name}, which {self.family.describe()}",
                remedy="Leave it out",
            )
        space = cast(Tokens, spec.space)
        nfe = min(max(-(-spec.sampling.nfe * length // space.shape[0]), 1), MOST_CALLS)
        resized = replace(
            spec,
            modality=modality,
            space=replace(space, shape=(length,)),
            sampling=replace(spec.sampling, nfe=nfe),
        )
        return Model.from_spec(resized, self.network, self.objective)

    def sample_dataset(
        self,
        n: int,
        *,
        given: GivenValues | None = None,
        guidance: GuidanceScale = 1.0,
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
        """Sample n examples as a dataset; each sample is independent of the other samples in its batch.

        Arguments and errors are those of `sample` and of `SampleRequest`.

        Args:
            n: Number of samples.
            given: Conditions, or cells of rows; tensors hold class indices, not class names.
            guidance: Classifier-free guidance scale, where 1 is conditional.
            sampling: Solver and NFE; default: those of the model.
            solver: Solver that replaces the one named in `sampling`.
            observed: Observed entries of each sample: tokens, or numbers after training with `inpaint_prob`.
            clamped: Observed components (leaves) of the state, [n, ...] each; the other leaves are sampled given these.
            rng: Random streams; `first_example` is the index of the first sample.
            batch_size: Number of samples per batch; by default chosen for the device.
            process_group: Processes that share the work; each returns all samples.
            on_progress: Progress callback, called with the completed fraction.
            on_step: Callback with the time and states of a batch, called after each solver step of processes in time.
        """
        if not isinstance(n, Integral) or n < 1:
            raise UsageError("an integer of at least 1", repr(n), argument="n")
        modality = self.spec.modality
        if given and (table := with_conditions_on_cells(modality)) is not None:
            given, observed = None, _observed_cells(table, words_of(given), n)
        cond, leaf_values = self.parse_conditions(n, given, rng)
        given = modality.add_derived_conditions(cond)
        self.check_guidance(guidance)
        request = SampleRequest(
            n=n,
            space=self.spec.space,
            sampling=sampling or self.spec.sampling,
            cond=given,
            observed=observed,
            clamped={**leaf_values, **(clamped or {})},
            solver=solver,
            guidance=guidance,
            droppable=self.droppable(),
            eos_token_id=modality.eos_token_id,
            on_step=on_step,
            on_progress=on_progress,
        )
        if observed is None and request.sampling.raking_oversample:
            values = self._sample_raked(request, rng, batch_size, process_group)
        else:
            values = self._sample_values(request, rng, batch_size, process_group)
        return Dataset(values, given, modality, ())

    def _sample_values(
        self, request: SampleRequest, rng: Rng, batch_size: int | None, process_group: ProcessGroup
    ) -> State:
        """Return the values of samples."""
        batches = self._sample_batches(request, rng, batch_size, process_group)
        gathered = process_group.gather([self.spec.modality.decode(x_1) for _, x_1 in batches])
        return concatenate(*(values for chunk in gathered for values in chunk))

    def _sample_raked(
        self, request: SampleRequest, rng: Rng, batch_size: int | None, process_group: ProcessGroup
    ) -> State:
        """Return the values of samples that are selected from more candidates, in parts of `ROWS_PER_PART` samples.

        A sample depends on its part, so that separate calls that draw whole parts return the same samples.
        """
        parts = []
        for rows, report_part in iter_batches(request.n, raking.ROWS_PER_PART, request.on_progress):
            n, first = rows.stop - rows.start, rng.first_example + rows.start
            factor = raking.candidates_per_row(n, request.sampling.raking_oversample)
            part = replace(request, n=n * factor, on_progress=report_part)
            candidates = self._sample_values(
                part, replace(rng, first_example=first * factor), batch_size, process_group
            )
            raking_rng = replace(rng, first_example=first).fold_in("rake", *([first] if first else []))
            parts.append(self.spec.modality.resample(candidates, n, raking_rng))
        return concatenate(*parts)

    def save(
        self,
        out: str,
        *,
        make: Callable[..., nn.Module] | NetworkConfig | None = None,
        data: str | os.PathLike[str] = "",
        test: str | os.PathLike[str] = "",
        overwrite: bool = False,
    ) -> Run:
        """Write the model as a run folder, which the commands accept.

        User code is passed to the commands with --code. A run stores weights but no code, so the run records the name
        of the function that builds the network. To test the record, the network is rebuilt with these weights, and its
        outputs are compared.

        Args:
            out: Run folder.
            make: Function or class in a user file that builds the network and takes no arguments, or a network config
                of feller; default: the network's class.
            data: All training data, for `evaluate`: a file, a folder or `example:NAME`.
            test: File or folder of held-out rows, for `evaluate`. By default the test split is held out if `data` is an
                `example:NAME`, else nothing.
            overwrite: True to replace an existing run in `out`.

        Raises:
            UsageError: If no function builds the network, if the function builds a different network, if `out` exists,
                or if `data` or `test` is not a data location.
        """
        from feller.models.export.model_saving import save_model

        return save_model(self, out, make=make, data=data, test=test, overwrite=overwrite)

    def sample_pairs(self, n: int, rng: Rng, on_progress: Callable[[float], None] = no_progress) -> Batch:
        """Sample n pairs of source and end state; conditions are sampled with their training frequencies.

        Return a batch with the source states `x_0`, the end states `x_1` and the conditions `given`.
        """
        spec = self.spec
        cond = spec.modality.add_derived_conditions(self.sample_conditions(n, {}, rng))
        request = SampleRequest(
            n=n,
            space=spec.space,
            sampling=spec.sampling,
            cond=cond,
            eos_token_id=spec.modality.eos_token_id,
            on_progress=on_progress,
        )
        x_0, x_1 = zip(*self._sample_batches(request, rng), strict=True)
        return {"x_0": concatenate(*x_0), "x_1": concatenate(*x_1), "given": cond}

    def _sample_batches(
        self, request: SampleRequest, rng: Rng, batch_size: int | None = None, process_group: ProcessGroup = SINGLE
    ) -> Iterator[tuple[State, State]]:
        """Yield the source and end states of the samples that this process computes, in batches."""
        self.family.check_request(request)
        for rows, report_batch, device in self._batches(request.n, batch_size, process_group, request.on_progress):
            batch_rng = replace(rng, first_example=rng.first_example + rows.start)
            with evaluation_mode(self.network):
                states = self.family.sample(self.network, request.subset(rows, device, report_batch), batch_rng)
            yield states

    def _batches(
        self, n: int, size: int | None, process_group: ProcessGroup, on_progress: Callable[[float], None]
    ) -> Iterator[tuple[slice, OnProgress, torch.device]]:
        """Yield the batches of the n rows that this process computes: (rows, progress callback, device)."""
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
        """Return the log probability of each example in nats, [n]; for continuous data the log density.

        Log probabilities are exact for graphical models, and for tables and text that are generated column by column or
        token by token. A log density is that of the flow, with respect to the volume of its space: in data units for
        points and images, and the manifold's own volume on a manifold, such as area on the unit sphere. Quantised
        values are dequantised with uniform noise; the mean over the noise is a lower bound on their log probability.
        Missing conditions take the null value. With guidance, the density is that of guided samples, which is not a
        tilted density.

        Args:
            data: Examples in the format of the training data: a dataset, or an input of `feller.read`, such as a file,
                a DataFrame, or an array in data units.
            guidance: Classifier-free guidance scale, where 1 is conditional.
            sampling: For flows: solver and NFE of the integration from data to source; default: adaptive solver with
                tolerance 1e-6.
            divergence: For flows: divergence estimator; default: exact up to 32 dimensions, else one Hutchinson probe.
            rng: Random streams for probes and dequantisation noise.
            process_group: Processes that share the work; each returns all values.
            on_progress: Progress callback, called with the completed fraction.

        Raises:
            UsageError: If the model does not support guidance, if its process is not a flow, if its data have no
                density or only a bound on it, or if a condition without a null value is missing.
        """
        if self.family.is_discrete:
            if self.family.has_bounds_only:
                raise UsageError(
                    argument="log_prob",
                    expected="a model with exact probabilities",
                    found=f"one that {self.family.describe()} and has only a likelihood bound",
                    remedy="Use nll(data), an upper bound of -log p",
                )
            if guidance != 1.0 or sampling is not None or divergence is not None:
                raise UsageError("guidance, sampling and divergence apply only to flows, but this model is discrete")
            return -self.nll(data, rng=rng, process_group=process_group, on_progress=on_progress)
        self.check_guidance(guidance)
        spec = self.spec
        scale = spec.modality.log_scale
        if scale is None:
            has_latents = bool(spec.modality.aux_networks) and spec.modality.has_density
            raise UsageError(
                argument="log_prob",
                expected="data with a density, or a discrete model with exact probabilities",
                found=f"latents of {spec.modality.display_name}, whose likelihood is none of the data"
                if has_latents
                else f"{spec.modality.display_name}, which has no density",
                remedy="Fit without --latent"
                if has_latents
                else "Fit a table with recipe table or table-marginals for exact probabilities",
            )
        network = cfg(self.network, guidance, droppable=self.droppable())
        log_probs = self._log_prob(
            network, data, rng, process_group, on_progress, sampling=sampling, divergence=divergence
        )
        return log_probs.value - scale

    def _log_prob(
        self,
        network: Network,
        data: Dataset | DataSource,
        rng: Rng,
        process_group: ProcessGroup,
        on_progress: Callable[[float], None],
        *,
        sampling: SamplerConfig | None = None,
        divergence: Divergence | None = None,
        elbo: ELBO | None = None,
        times: int = 128,
    ) -> LogProb:
        """Compute log probabilities in batches, and gather them from all processes."""
        spec, modality = self.spec, self.spec.modality
        data = data if isinstance(data, Dataset) else self.examples(data)
        if (incomplete := modality.first_without_density(data.values)) is not None:
            raise InputError(
                f"complete {modality.display_name}, as in training",
                "missing entries",
                "Fill them with `feller sample --complete`",
                row=incomplete + 1,
            )
        chunks = [torch.empty(0, 2, dtype=torch.float64, device=next(self.network.parameters()).device)]
        for rows, report_batch, device in self._batches(len(data), None, process_group, on_progress):
            batch = data.subset(torch.arange(rows.start, rows.stop))
            batch_rng = replace(rng, first_example=rng.first_example + rows.start)
            if self.family.is_discrete:
                x_1 = modality.encode(batch.values)
            else:
                x_1 = modality.dequantize(batch.values, batch_rng.stream("fill"))
            inputs = {"x_1": x_1, "cond": self._with_nulls(batch)}
            request = LogProbRequest(
                **tree_map(lambda leaf, device=device: leaf.to(device), inputs),
                space=spec.space,
                eos_token_id=modality.eos_token_id,
                sampling=sampling,
                divergence=divergence,
                elbo=elbo,
                times=times,
            )
            with evaluation_mode(self.network):
                chunks.append(torch.stack(self.family.log_prob(network, request, batch_rng), 1).double())
            report_batch(1.0)
        return LogProb(*torch.cat(process_group.gather(torch.cat(chunks))).unbind(1))

    def column_probs(
        self,
        codes: Int64[Tensor, "n k"],
        observed: Bool[Tensor, "n k"],
        column: int,
        *,
        rng: Rng = Rng(0),  # noqa: B008 - frozen
    ) -> Float64[Tensor, "n values"]:
        """Return the conditional probabilities of all codes of a table column given the observed cells of each row.

        Args:
            codes: Codes of the modelled columns; the codes of unobserved cells are ignored.
            observed: Mask of observed cells. Rows in which the column is observed get probability 1 for its code.
            column: Index of the column among the modelled columns.
            rng: Random streams, for models whose probabilities are averages over completions of the row.

        Raises:
            UsageError: If the model has no conditional probabilities of columns.
        """
        table = self.spec.modality.view(Table)
        if table is None:
            raise UsageError("a model of a table", f"a model of {self.spec.modality.display_name}", argument="column")
        tokens, mask = table.observed_tokens(codes, observed)
        observation, chunks = PartialObservation(tokens, mask), []
        for rows, _, device in self._batches(len(codes), None, SINGLE, no_progress):
            batch_rng = replace(rng, first_example=rng.first_example + rows.start)
            with evaluation_mode(self.network):
                chunks.append(
                    self.family.column_probs(self.network, observation.subset(rows, device), column, batch_rng).cpu()
                )
        return torch.cat(chunks) if chunks else torch.zeros(0, table.counts[column], dtype=torch.float64)

    def examples(self, data: DataSource, *, lenient: bool = False) -> Dataset:
        """Read examples in the model's modality, one per row; warn of cell values that occur in no training row.

        Args:
            data: Examples in the format of the training data.
            lenient: True to replace invalid cells by similar valid cells, even if the model's schema refuses invalid
                cells.

        Raises:
            InputError: If the type of a table cell is not that of its column.
        """
        modality = self.spec.modality
        dataset = read(data, like=modality.lenient if lenient else modality, every_row=True)
        for notice in dataset.modality.strange(dataset):
            warn(notice)
        return replace(dataset, modality=modality)

    def supports_conditions(self, data: Dataset) -> bool:
        """Return True if the examples have a value for each condition that has no null value."""
        return bool(self.spec.cond_dropout) or {*self.spec.condition_names} <= data.given.keys()

    def _with_nulls(self, data: Dataset) -> Cond:
        """Return the conditions of examples, with null values for missing ones; UsageError if one has no null value."""
        missing = {*self.spec.condition_names} - data.given.keys()
        if not self.supports_conditions(data):
            raise UsageError(f"these data have no {', '.join(sorted(missing))}, which this model needs")
        nulls = {name: self.spec.null_condition(name, len(data)) for name in missing}
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
        """Return the negative log-likelihood of each discrete example in nats, [n], or an upper bound on it.

        The value is exact for autoregressive and graphical models. For other models it is an estimate of the negative
        ELBO, whose standard error decreases with `times`. This bound holds for the chain with the rates of `elbo`. The
        default rates give a tight bound, but differ from the rates of `sample` unless the source is a mask;
        `feller.models.families.elbo.sampling_elbo(path)` returns the sampler's rates.

        Args:
            data: Examples in the format of the training data: a dataset, or an input of `feller.read`; one value per
                row is returned. Missing conditions take the null value.
            elbo: Choice of the rates in the bound; default: `tightest_elbo(path)`.
            times: Number of network evaluations per example for a bound.
            return_std_err: True to return a named tuple `(nats, std_err)`; the standard error is 0 for exact values.
            rng: Random streams for times and noise.
            process_group: Processes that share the work; each returns all values.
            on_progress: Progress callback, called with the completed fraction.

        Raises:
            UsageError: If the data are not discrete, or if some rows would be skipped.
        """
        if not self.family.is_discrete:
            raise UsageError("nll needs discrete data", remedy="Use log_prob for continuous data")
        log_probs = self._log_prob(self.network, data, rng, process_group, on_progress, elbo=elbo, times=times)
        return ELBOEstimate(-log_probs.value, log_probs.std_err) if return_std_err else -log_probs.value

    def droppable(self) -> tuple[str, ...]:
        """Return the names of the conditions that have a null value."""
        return tuple(name for name in self.spec.condition_names if name in getattr(self.network, "null_values", {}))

    def check_guidance(self, guidance: GuidanceScale) -> None:
        """Raise a UsageError if the model does not support sampling with a guidance scale."""
        spec = self.spec
        check_guidance_scale(guidance)
        if guidance == 1.0:
            return
        if not self.family.is_process:
            single_guidance_scale(guidance)
        names = ", ".join(spec.condition_names)
        if isinstance(guidance, Mapping):
            for name in guidance:
                if name not in spec.condition_names:
                    raise UsageError.unknown_name("guidance", name, spec.condition_names)
        if not names:
            raise UsageError(
                argument="guidance", expected="a model with conditions", found="one without any", remedy="Drop guidance"
            )
        if not self.droppable() or not spec.cond_dropout:
            nulls = {name: spec.null_condition(name, 1).flatten()[0].item() for name in spec.condition_names}
            raise UsageError(
                argument="guidance",
                expected=f"a model trained with condition dropout of {names}",
                found="no null value" if not self.droppable() else "cond_dropout 0",
                remedy=f"Train the model with cond_dropout=0.1 and null={nulls}, or drop guidance",
            )


def _observed_cells(table: Table | Histories, given: CellConditions, n: int) -> PartialObservation:
    """Convert given cells to observed tokens of n rows."""
    cells = table.given_cells(given)
    state, mask = table.observed_tokens(cells.codes.expand(n, -1), cells.observed.expand(n, -1))
    return PartialObservation(
        state, mask, code_weights={j: choice.acceptance_probs for j, choice in cells.choices.items()}
    )


def load_model(
    run: Run | str | os.PathLike[str], *, file: pathlib.Path | None = None, code: str | os.PathLike[str] | None = None
) -> Model:
    """Load a model from its run folder; no code in the folder is executed.

    Args:
        run: Run, or path of its folder.
        file: Weights file; default: that of the EMA weights.
        code: Python file with custom components of the model, which is executed; not needed if the components are
            already imported.

    Raises:
        InputError: If the folder is damaged, incomplete, or was written by a newer version of feller.
    """
    run = to_run(run)
    if code is not None:
        load_code(code, run.path)
    spec = load_spec(run)
    file = file or run.ema_weights
    if not file.is_file():
        status = "no EMA weights" if run.weights.is_file() else "no weights yet"
        raise InputError(
            f"the run has {status}", remedy=f"Finish the fit with: feller fit --resume --out {run.path}", file=run.path
        )
    weights, _ = load_tensors(file)
    weight_bytes = sum(tensor.nbytes for tensor in weights.values())
    try:
        # tied weights have separate values until they are tied
        network = limit_parameter_bytes(2 * weight_bytes, lambda: spec.build(Rng(0)))
    except InputError as error:
        raise InputError(f"the network does not match the weights in {file}: {error}", file=run.model) from error
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        if is_too_large(error):
            raise InputError(
                f"the network is larger than the weights in {file} or than the memory",
                remedy="Copy the whole run",
                file=run.model,
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the network cannot be built: {reason}", file=run.model) from error
    try:
        load_weights(weights, network)
    except RuntimeError as error:
        raise InputError(
            f"the weights do not match {run.model}: the files come from different models",
            remedy="Copy the whole run",
            file=file,
        ) from error
    for name, module in spec.modality.aux_networks.items():
        load_aux_network(run, name, module, spec.aux_hashes.get(name))
    return Model.from_spec(spec, network.eval())
