"""Model families without a process in time: autoregressive, graphical, regressors, codes, embeddings."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import Draw
from feller.data.modality import Target
from feller.paths.path import Path
from feller.paths.processes import Characteristics


class Timeless(Path):
    """A path that is the data at all times, and drives no process. Implement one member to add a family."""

    @property
    @abc.abstractmethod
    def otherwise(self) -> str:
        """Why there is no process, and what to use in its place."""

    def sample(self, x_0: State, x_1: State, t: State, draw: Draw | None = None) -> State:
        """Return the data."""
        return x_1

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Return the data; what else is asked of a network, its objective tells."""
        return x_1

    def characteristics(self, prediction: State, x_t: State, t: State) -> Characteristics:
        """Refuse: there is no process in time."""
        raise TypeError(self.otherwise)


@dataclass(frozen=True)
class Alike(Timeless):
    """A path that is the data at all times: the network answers with a vector, and like data with like ones, [b, d]."""

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network finds what data are like and draws none; ask it for vectors"


@dataclass(frozen=True)
class Autoregressive(Timeless):
    """p(x_1) is the product of the laws of each token given those before it: a path that is the data at all times.

    The network sees the data and answers with the logits of each token given those before it;
    `sampling.autoregressive.decode` draws.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law goes token after token, not along time; draw from it with `decode`"


@dataclass(frozen=True)
class AnyOrder(Autoregressive):
    """p(row) is the product of the laws of each column given those that were written before it.

    The network answers with the logits of each token; `sampling.autoregressive.row_decode` draws.
    """

    anyhow: bool = True
    """The network has learned every order; else that of the table alone, so that what is known must come first."""


@dataclass(frozen=True)
class Codes(Timeless):
    """A path that is the data at all times: the network answers with what its codes tell of them."""

    @property
    def instead(self) -> str:
        """Write data with it."""
        return (
            "this run writes pictures as codes and draws none; see how it copies some with `feller evaluate --data`, or"
            " let a model of texts and pictures learn its codes"
        )

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network writes data as codes and draws none; use its `encode` and `decode`"


@dataclass(frozen=True)
class Estimates(Timeless):
    """A path that is the data at all times: the network sees them and answers with a target, [b, answers].

    Answers are numbers less their means, in their deviations, or logits of classes.
    """

    about: Target
    """What is told of the data."""

    @property
    def instead(self) -> str:
        """Ask it."""
        return (
            f"this run tells {', '.join(self.about.names)} of data and draws none; ask it about some with `feller"
            " evaluate --data`, or name it as a --reward of another run"
        )

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network tells of data and draws none; ask it with `evaluation.regressor`"


@dataclass(frozen=True)
class Filled(Timeless):
    """A path that is zero at all times: a network learns the data from its conditions alone."""

    @property
    def instead(self) -> str:
        """Fill in with it."""
        return "this run fills in what is missing by its expectation and draws none; give it something to fill in"

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network answers at once and draws none; use `models.infilling.infill`"

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, draw: Draw | None = None) -> Tensor:
        """Return zeros: a state would give the answer away."""
        return torch.zeros_like(x_1)


@dataclass(frozen=True)
class Graphical(Timeless):
    """p(row) is the exponential of a sum of potentials, over Z: a path that is the data at all times.

    The network holds the potentials; it draws whole rows, those of which some columns are known too.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law draws whole rows, not along time; draw from it with `marginals`"


@dataclass(frozen=True)
class Interleaved(Timeless):
    """p(tokens) is the product of the laws of each token given those before it in its sample.

    The network sees tokens and answers, at each place, with the logits of the token that comes next. Text, pictures and
    what fills their holes are one sequence, see `sampling.autoregressive.masked_spans`;
    `sampling.autoregressive.document_decode` draws.
    """

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this law goes token after token, not along time; draw documents with `generate`"


@dataclass(frozen=True)
class Resynthesis(Timeless):
    """A path that is the sounds at all times: the network answers with what it makes of their log mels."""

    @property
    def instead(self) -> str:
        """Let it make sounds of a model's log mels."""
        return (
            "this run is a vocoder, which makes sounds of log mels and draws none; see how it copies some with `feller"
            " evaluate --data`, or name it as the vocoder of a run that draws speech"
        )

    @property
    def otherwise(self) -> str:
        """Say so."""
        return "this network makes sounds of log mels and draws none; use its `sound`"
