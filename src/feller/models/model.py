"""A fitted model: all that is needed to draw from it."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from feller.core.distributed import ALONE, Ranks, own
from feller.core.errors import InputError, UsageError, is_too_large
from feller.core.pytree import Given, State, concatenate, tree_map
from feller.core.rng import Draws
from feller.core.run_folder import Run, as_run
from feller.core.safetensors_io import load_tensors, put
from feller.core.user_code import load_file
from feller.data.batches import Batch
from feller.data.loading.in_memory import DataSource
from feller.data.loading.read import read
from feller.data.modality import Dataset
from feller.models.conditions import asked, draw_conditions, meant
from feller.models.elbo import Bound, BoundEstimate, estimate_bound, tightest
from feller.models.generation import Generation, Known, batch_size
from feller.models.spec import Description, load_description, load_part
from feller.networks.architecture import Architecture, within
from feller.paths import Autoregressive, Graphical, TokenPath
from feller.sampling import Divergence, DormandPrince, Exact, Hutchinson, Solver, log_density
from feller.sampling.autoregressive.decode import log_likelihood
from feller.sampling.divergence import MOST_EXACT
from feller.sampling.guidance import cfg
from feller.sampling.likelihood import start_density
from feller.sampling.sampler_config import Sampling
from feller.spaces.tokens import until_end

MOST_GUIDANCE = 100.0
"""Beyond which nothing but numbers without end comes out."""


def check_strength(w: Any) -> None:
    """Refuse a strength of guidance that is no number, or beyond all use.

    Raises:
        UsageError: Then.
    """
    if not isinstance(w, Real):
        raise UsageError(f"expected guidance as one number, such as 2, got {w!r}")
    if not abs(float(w)) <= MOST_GUIDANCE:
        raise UsageError(f"expected guidance between -{MOST_GUIDANCE:g} and {MOST_GUIDANCE:g}, got {float(w):g}")


def untold(share: float) -> None:
    """Hear the share that is done, and do nothing."""


OnStep = Callable[[float, State], None]
"""(t, x) of a batch on its way."""


def unseen(t: float, x: State) -> None:
    """See a batch on its way, and do nothing."""


@dataclass(frozen=True, repr=False)
class Model:
    """A description and a network that fits it."""

    description: Description
    network: nn.Module

    def __repr__(self) -> str:
        """Say in a line what it is; `description` tells all."""
        kind, path = type(self.description.modality).__name__, type(self.description.path).__name__
        return f"<Model of {kind} by {path}, {sum(part.numel() for part in self.network.parameters()):,} weights>"

    def conditions(self, n: int, wanted: dict[str, str], draws: Draws) -> Given:
        """Return the conditions of n samples: those that are wanted, others drawn as often as in the data.

        Raises:
            UsageError: If a condition or its value is unknown.
        """
        return draw_conditions(self.description, n, wanted, draws)

    def asked(self, n: int, wanted: dict[str, str], draws: Draws) -> tuple[Given, dict[str, State]]:
        """Return the conditions of n samples, and the leaves of their states that are given, by what is wanted.

        Raises:
            UsageError: If a condition, a leaf or its value is unknown, or two say different things.
        """
        return asked(self.description, n, wanted, draws)

    def sample(
        self,
        n: int,
        *,
        given: Given | Mapping[str, str | int | Tensor] | None = None,
        guidance: float = 1.0,
        sampling: Sampling | None = None,
        solver: Solver | str | None = None,
        nfe: int | None = None,
        known: Known | None = None,
        fixed: dict[str, State] | None = None,
        draws: Draws = Draws(0),  # noqa: B008 - frozen
        batch: int | None = None,
        ranks: Ranks = ALONE,
        tell: Callable[[float], None] = untold,
        seen: OnStep = unseen,
    ) -> Dataset:
        """Draw n samples in the units of the data; which batch a sample is in does not matter.

        Args:
            n: Number of samples.
            given: Conditions, one class by its name or number, or numbers of classes, [n] each; beside names, and by
                default, the others are drawn as often as in the training data.
            guidance: 1 is the plain conditional, 0 the unconditional, more sharpens.
            sampling: Solver and number of calls; by default the model's own.
            solver: A name, or one of your own, in place of that named there; the number of calls stays.
            nfe: Network calls per sample, in place of those named there.
            known: What is given of each sample and kept, where the data are symbols.
            fixed: Leaves of the state that are given, [n, ...] each; the others are drawn beside them.
            draws: Source of all randomness; its `first` is the number of the first sample.
            batch: Samples drawn together; by default what suits the device.
            ranks: Processes that share the work; all get all samples.
            tell: Hears the share that is done.
            seen: Hears time and states of a batch on its way, where there is one.

        Raises:
            UsageError: If n is below 1, a condition or a solver is unknown, or guidance is asked of a model without
                conditions.
        """
        if not isinstance(n, Integral) or n < 1:
            raise UsageError(f"the number of samples must be at least 1, a whole number, got {n!r}")
        if nfe is not None:
            sampling = replace(sampling or self.description.sampling, calls=nfe)
        if isinstance(solver, str):
            sampling, solver = replace(sampling or self.description.sampling, solver=solver), None
        if solver is not None and not isinstance(solver, Solver):
            raise UsageError(f"a solver is a name, such as midpoint, or an object, feller.Midpoint(), got {solver!r}")
        modality = self.description.modality
        numbers, leaves_given = meant(self.description, n, given, draws)
        given, fixed = modality.complete(numbers), {**leaves_given, **(fixed or {})}
        chosen = known is None and (sampling or self.description.sampling).rake
        many = chosen or 1
        batch = batch or batch_size(self.description.space, next(self.network.parameters()).device)
        rows = own(ranks, n * many, batch)
        here = replace(draws, first=draws.first * many + rows.start)
        made = replace(self._generation(here, guidance, sampling, seen), solver=solver).ends(
            rows.stop - rows.start,
            tree_map(lambda leaf: leaf[rows], given),
            known=known if known is None else known.part(rows),
            fixed=tree_map(lambda leaf: leaf[rows], fixed),
            batch=batch,
            tell=tell,
        )
        parts = ranks.gather([modality.decode(x_1) for _, x_1 in made])
        values = concatenate(*(values for part in parts for values in part))
        if chosen:
            raking = draws.named("rake", *([draws.first] if draws.first else []))  # each part has its own shuffle
            values = modality.taken(values, n, raking)
        return Dataset(values, given, modality, ())

    def save(
        self,
        out: str,
        *,
        make: Callable[..., nn.Module] | Architecture | None = None,
        data: str = "",
        overwrite: bool = False,
    ) -> Run:
        """Write the model as a run, which every command opens; code of yours is named by its file with --code.

        A run holds weights and no code, so it remembers what makes the network by name. That is built anew here, with
        these weights, and must answer the same.

        Args:
            out: The run folder.
            make: What makes the network: a class or function of a file of yours that has no arguments, or an
                architecture of feller; by default the network's class.
            data: What it learned from, a file, a folder or `example:NAME`, for `evaluate`.
            overwrite: Replace the run in `out`.

        Raises:
            UsageError: If nothing is known that makes the network, or it makes another one; or `out` is there.
        """
        from feller.models.export.saved import save_model

        return save_model(self, out, make=make, data=data, overwrite=overwrite)

    def pairs(self, n: int, draws: Draws, tell: Callable[[float], None] = untold) -> Batch:
        """Draw n pairs of source and end, as states, with conditions as often as in the training data."""
        given = self.description.modality.complete(self.conditions(n, {}, draws))
        ends = list(self._generation(draws).ends(n, given, tell=tell))
        x_0, x_1 = (concatenate(*side) for side in zip(*ends, strict=True))
        return {"x_0": x_0, "x_1": x_1, "given": given}

    def log_density(
        self,
        data: Dataset | DataSource,
        *,
        guidance: float = 1.0,
        sampling: Sampling | None = None,
        divergence: Divergence | None = None,
        draws: Draws = Draws(0),  # noqa: B008 - frozen
        ranks: Ranks = ALONE,
        tell: Callable[[float], None] = untold,
    ) -> Float[Tensor, " n"]:
        """Return the log density of examples, [n], in nats.

        It is with respect to the volume of their space: for points and pictures in their own units, on a manifold that
        of the manifold, such as area of the unit sphere, or radians. Whole levels are filled up with uniform noise; the
        mean over it bounds their log probability from below. A condition that the data lack counts as not given. With
        guidance it is the density of what `sample` draws with that guidance, which is no tilted density.

        Args:
            data: Examples like those of the fit: a data set, or what `feller.read` takes, such as a file, a DataFrame,
                or an array in the units of the data.
            guidance: As for `sample`: 1 is the plain conditional.
            sampling: Solver and calls of the way back from data to source; by default an adaptive one at 1e-6.
            divergence: By default exact up to 32 degrees of freedom, and estimated with one probe beyond.
            draws: Source of probes and filling noise.
            ranks: Processes that share the work; all get all numbers.
            tell: Hears which share is done.

        Raises:
            UsageError: If guidance is asked of a model without conditions, the model's process is no flow, its data
                have no density, or it cannot do without a condition that these data lack.
        """
        self.check_guidance(guidance)
        about, data = self.description, self._read(data)
        network = cfg(self.network.eval(), guidance, absent=self.absent())
        scale = about.modality.log_scale
        if scale is None:
            raise UsageError(f"{type(about.modality).__name__} fill no volume of their states, so they have no density")
        path, solver, times = (sampling or Sampling("dopri5")).choose(about.path, about.space)
        if sampling is None:
            solver = DormandPrince(space=about.space, rtol=1e-6, atol=1e-6, per_example=True)
        device = next(self.network.parameters()).device
        if divergence is None:
            divergence = Exact() if getattr(about.space, "dimension", 0) <= MOST_EXACT else Hutchinson()
        parts = [torch.empty(0, dtype=torch.float64, device=device)]
        for some, given, here in self._pieces(data, device, draws, ranks, tell):
            source = functools.partial(start_density, path, about.space, valid=given.get("valid"))
            x = tree_map(lambda leaf: leaf.to(device), about.modality.fill(some.values, here.at("fill")))
            process = path.process(network, given)
            try:
                with torch.no_grad():  # with a gradient for the weights, the graph of the whole solve would be kept
                    found = log_density(
                        process,
                        x,
                        times[::-1],
                        solver,
                        here,
                        divergence=divergence,
                        source=source,
                        valid=given.get("valid"),
                    )
            except ValueError as error:
                raise UsageError(f"this model has no log density: {error}") from error
            parts.append(found.double())
        return torch.cat(ranks.gather(torch.cat(parts))) - scale

    def _read(self, data: Dataset | DataSource) -> Dataset:
        """Return examples as the model's kind of data has them, one for each row."""
        return data if isinstance(data, Dataset) else read(data, like=self.description.modality, every_row=True)

    def _pieces(
        self, data: Dataset, device: torch.device, draws: Draws, ranks: Ranks, tell: Callable[[float], None]
    ) -> Iterator[tuple[Dataset, Given, Draws]]:
        """Yield some of our examples at a time, with their conditions on the device and the draws of their numbers."""
        size = batch_size(self.description.space, device)
        rows = own(ranks, len(data), size)
        for start in range(rows.start, rows.stop, size):
            some = data.subset(torch.arange(start, min(start + size, rows.stop)))
            given = tree_map(lambda leaf: leaf.to(device), self._with_nulls(some))
            yield some, given, replace(draws, first=draws.first + start)
            tell((start + len(some) - rows.start) / max(rows.stop - rows.start, 1))

    def can_do_with(self, data: Dataset) -> bool:
        """Tell whether examples have all conditions that the model was not trained to do without."""
        return bool(self.description.drop) or self.description.frequencies.keys() <= data.given.keys()

    def _with_nulls(self, data: Dataset) -> Given:
        """Return the conditions of examples; those that they lack are not given."""
        missing = self.description.frequencies.keys() - data.given.keys()
        if not self.can_do_with(data):
            raise UsageError(
                f"these data have no {', '.join(sorted(missing))}, without which this model cannot be asked"
            )
        nulls = {
            name: torch.full((len(data),), len(self.description.frequencies[name]), dtype=torch.long)
            for name in missing
        }
        return {**data.given, **nulls}

    @overload
    def code_length(
        self,
        data: Dataset | DataSource,
        *,
        bound: Bound | None = ...,
        times: int = ...,
        return_std_err: Literal[False] = ...,
        draws: Draws = ...,
        ranks: Ranks = ...,
        tell: Callable[[float], None] = ...,
    ) -> Float64[Tensor, " n"]: ...

    @overload
    def code_length(
        self,
        data: Dataset | DataSource,
        *,
        bound: Bound | None = ...,
        times: int = ...,
        return_std_err: Literal[True],
        draws: Draws = ...,
        ranks: Ranks = ...,
        tell: Callable[[float], None] = ...,
    ) -> BoundEstimate: ...

    def code_length(
        self,
        data: Dataset | DataSource,
        *,
        bound: Bound | None = None,
        times: int = 128,
        return_std_err: bool = False,
        draws: Draws = Draws(0),  # noqa: B008 - frozen
        ranks: Ranks = ALONE,
        tell: Callable[[float], None] = untold,
    ) -> Float64[Tensor, " n"] | BoundEstimate:
        """Return the code length of each example of symbols in nats, [n]: -log p, or an upper bound on it.

        It is exact for autoregressive models and for models of whole rows. Otherwise it is an estimate of a bound, with
        a standard error that `return_std_err=True` returns beside it; more `times` make it smaller. The bound holds
        for the chain along the rates that `bound` names. By default these are the rates with a tight bound, which are
        not those that `sample` uses where the source is no mask; `feller.models.elbo.rates_of(path)` names those.

        Args:
            data: Examples like those of the fit, or what `feller.read` takes: one number comes back for each row. A
                condition that they lack counts as not given.
            bound: Rates that are compared; by default `tightest(path)`.
            times: Network calls for each example, where it is a bound.
            return_std_err: Return `(nats, std_err)`, a named tuple; the error is 0 where the code length is exact.
            draws: Source of times and noise.
            ranks: Processes that share the work; all get all numbers.
            tell: Hears which share is done.

        Raises:
            UsageError: If the data are no symbols, or some rows would be left out.
        """
        about, network, data = self.description, self.network.eval(), self._read(data)
        if not isinstance(about.path, TokenPath | Autoregressive | Graphical):
            raise UsageError("only symbols have a code length; ask numbers for their log density")
        device = next(network.parameters()).device
        parts = [torch.empty(0, 2, dtype=torch.float64, device=device)]
        for some, given, here in self._pieces(data, device, draws, ranks, tell):
            x_1 = about.modality.encode(some.values).to(device)
            if isinstance(about.path, Graphical):
                nats = -network(x_1, torch.zeros(len(x_1), device=device), given)
                found = BoundEstimate(nats, torch.zeros_like(nats))
            elif isinstance(about.path, Autoregressive):
                valid = None if about.modality.end is None else until_end(x_1, about.modality.end)
                with torch.no_grad():
                    nats = -log_likelihood(network, x_1, given, valid)
                found = BoundEstimate(nats, torch.zeros_like(nats))
            else:
                kind = bound or tightest(about.path)
                found = estimate_bound(about.path, about.space, network, x_1, given, here, kind=kind, times=times)
            parts.append(torch.stack(found, 1).double())
        nats, std_err = torch.cat(ranks.gather(torch.cat(parts))).unbind(1)
        return BoundEstimate(nats, std_err) if return_std_err else nats

    def absent(self) -> tuple[str, ...]:
        """Return the conditions that the network can do without."""
        return tuple(name for name in self.description.frequencies if name in getattr(self.network, "nulls", {}))

    def check_guidance(self, w: float) -> None:
        """Refuse guidance that the model does not know.

        Raises:
            UsageError: Then.
        """
        about = self.description
        check_strength(w)
        if w != 1.0 and not self.absent():
            raise UsageError("guidance needs conditions, and this model has none; leave it out")
        if w != 1.0 and not about.drop:
            raise UsageError(
                "guidance needs a model that was trained to do without conditions; this one had --objective.drop 0"
            )

    def _generation(
        self,
        draws: Draws,
        guidance: float = 1.0,
        sampling: Sampling | None = None,
        seen: OnStep = unseen,
    ) -> Generation:
        """Say how samples are drawn."""
        about = self.description
        self.check_guidance(guidance)
        return Generation(
            path=about.path,
            space=about.space,
            network=self.network.eval(),
            sampling=sampling or about.sampling,
            draws=draws,
            guidance=guidance,
            absent=self.absent(),
            end=about.modality.end,
            seen=seen,
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
    run = as_run(run)
    if code is not None:
        load_file(pathlib.Path(code))
    description = load_description(run)
    file = file or run.average
    if not file.is_file():
        what = "no average of its weights" if run.weights.is_file() else "no weights yet"
        raise InputError(f"{run.path} has {what}; finish it with: feller fit --resume --out {run.path}")
    weights, _ = load_tensors(file)
    held = sum(tensor.nbytes for tensor in weights.values())
    try:
        network = within(held, lambda: description.build(Draws(0)))
    except InputError as error:
        raise InputError(f"{run.model} asks for another network than {file} holds: {error}") from error
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:
        if is_too_large(error):
            raise InputError(
                f"{run.model} asks for a network of another size than the weights in {file}, or for more memory than"
                " there is; copy the whole run"
            ) from error
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{run.model} asks for a network that cannot be made: {why}") from error
    try:
        put(weights, network)
    except RuntimeError as error:
        raise InputError(f"{file} does not fit {run.model}: they are of two models; copy the whole run") from error
    for name, module in description.modality.modules.items():
        load_part(run, name, module, description.parts.get(name))
    return Model(description, network)
