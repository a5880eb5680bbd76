"""Chains of models with a twist: Gaussian steps shifted by the gradient of the twist, and jumps of tokens."""

import abc
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from feller.control.inverse.inverse_problem import Measurement
from feller.control.inverse.operators import LinearOperator
from feller.control.inverse.particles import Outlook, TwistedChain
from feller.control.rewards.reward import RewardFunction, evaluate_reward
from feller.core.pytree import Cond, State, append_dims
from feller.core.rng import RandomStream
from feller.paths import Affine, Network, Path
from feller.paths.predictions import DataPrediction, VelocityPrediction, convert
from feller.paths.processes import Process
from feller.paths.schedules import AlphaSigma, shared_alpha_sigma
from feller.sampling import Ancestral, LinearStep, MemorylessEuler
from feller.sampling.solvers.linear_step import alpha_sigma_at
from feller.sampling.solvers.solver import expand_time


class Twist(abc.ABC):
    """Base class of estimated log likelihoods of what is asked for, given the expected data."""

    @abc.abstractmethod
    def log_likelihood(self, x_1: State, variance: float) -> Float[Tensor, " b"]:
        """Return the log likelihood of each particle, up to a constant of the time; exact for a variance of 0.

        It has no gradient if what is asked for has none.

        Args:
            x_1: Expected data of all particles.
            variance: Variance of the data given the particle, in squared state units.
        """

    def shift(self, log_twist: Float[Tensor, " b"], gradient: Tensor, variance: float) -> Float[Tensor, " b *d"]:
        """Return the shift of a Gaussian step with this variance, from the twist and its gradient in the state.

        It is the variance times the gradient, but at most one standard deviation per entry. A longer shift would give
        weights without a variance where the twist is not linear over the step.
        """
        size = gradient.flatten(1).norm(dim=1) * math.sqrt(variance / math.prod(gradient.shape[1:]))
        return variance * gradient / append_dims(1 + size, gradient)


@dataclass(frozen=True)
class MeasurementTwist(Twist):
    """Likelihood of measurements with normal noise, one measurement per particle.

    Expected data A x have the covariance noise^2 + r^2 A A^T for a linear operator A and data of variance r^2, as in
    pseudo-inverse guidance; for other operators it is taken as noise^2 + r^2.
    """

    measurement: Measurement

    def log_likelihood(self, x_1: State, variance: float) -> Float[Tensor, " b"]:
        measurement, rows = self.measurement, torch.arange(len(x_1), device=x_1.device)
        residual, data_variance = measurement.residual(x_1, rows), variance * measurement.scale**2
        operator, noise_variance = measurement.operator, measurement.noise**2
        if variance == 0 or not isinstance(operator, LinearOperator):
            return -residual.square().flatten(1).sum(1) / (2 * (noise_variance + data_variance))
        given, like = residual.detach(), measurement.to_data_units(x_1).detach()
        whitened = operator.whiten(given, like, noise_variance / data_variance) / data_variance
        half = (given * whitened).flatten(1).sum(1) / 2
        return half - (residual * whitened).flatten(1).sum(1)  # the gradient is A^T times the whitened residual

    def shift(self, log_twist: Float[Tensor, " b"], gradient: Tensor, variance: float) -> Float[Tensor, " b *d"]:
        """Return the shift to the mean of the step times the twist, a normal density along the gradient.

        Its curvature is that of Gauss and Newton: the squared gradient over twice the negative log likelihood.
        """
        curvature = gradient.square().flatten(1).sum(1) / (-2 * log_twist).clamp(min=torch.finfo(gradient.dtype).tiny)
        return variance * gradient / append_dims(1 + variance * curvature, gradient)


@dataclass(frozen=True)
class RewardTwist(Twist):
    """Reward of the expected data, in nats; the particles follow the distribution tilted by exp(reward)."""

    reward: RewardFunction
    cond: Cond = field(default_factory=dict)

    def log_likelihood(self, x_1: State, variance: float) -> Float[Tensor, " b"]:
        return evaluate_reward(self.reward, x_1, self.cond)


@dataclass(frozen=True)
class GaussianChain(TwistedChain):
    """Memoryless chain of a flow, whose steps are shifted by their variance times the gradient of the twist.

    The last step has no noise: it goes to the expected data.
    """

    process: Process
    path: Affine
    twist: Twist

    def look(self, x: State, t: float) -> Outlook:
        scales = alpha_sigma_at(self.path.schedule, t)
        if t == 1:
            return Outlook(self.twist.log_likelihood(x, 0.0).detach(), {})
        time = expand_time(x, t)
        with torch.enable_grad():
            x_t = x.detach().requires_grad_()
            velocity = self.process(x_t, time).velocity
            batch_scales = shared_alpha_sigma(self.path.schedule, time)
            x_1 = convert(velocity, VelocityPrediction(), DataPrediction(), x_t, batch_scales)
            log_twist = self.twist.log_likelihood(x_1, self._data_variance(scales))
            gradient = torch.zeros_like(x_t)
            if log_twist.requires_grad:
                gradient = torch.autograd.grad(log_twist.sum(), x_t)[0]
        return Outlook(log_twist.detach(), {"velocity": velocity.detach(), "gradient": gradient})

    def move(self, x: State, outlook: Outlook, t: float, s: float, rng: RandomStream) -> tuple[State, Tensor]:
        step = self._step(t, s)
        mean = step.mean(x, outlook.values["velocity"])
        if step.variance == 0:
            return mean, outlook.log_twist.new_zeros(len(x))
        shift = self.twist.shift(outlook.log_twist, outlook.values["gradient"], step.variance)
        noise = step.variance**0.5 * rng.normal(x.shape, x.dtype, x.device)
        log_ratio = -(shift * (noise + shift / 2)).double().flatten(1).sum(1) / step.variance
        return mean + shift + noise, log_ratio

    def _step(self, t: float, s: float) -> LinearStep:
        solver = Ancestral if s == 1 else MemorylessEuler
        return solver(self.path.schedule).linear_step(t, s)

    @staticmethod
    def _data_variance(scales: AlphaSigma) -> float:
        """Return the variance of the data given the state, for data of variance 1."""
        alpha, sigma = map(float, scales[:2])
        return sigma**2 / (sigma**2 + alpha**2)


@dataclass(frozen=True)
class TokenChain(TwistedChain):
    """Chain of a path of tokens; the twist is that of the most likely data, and steps are those of the model."""

    network: Network
    path: Path
    cond: Cond
    twist: Twist

    def look(self, x: State, t: float) -> Outlook:
        if t == 1:
            return Outlook(self.twist.log_likelihood(x, 0.0), {})
        time = expand_time(x, t)
        prediction = self.network(x, time, self.cond)
        x_1 = self.path.complete_prediction(prediction, x, time).argmax(-1)
        return Outlook(self.twist.log_likelihood(x_1, 1 - t), {"prediction": prediction})

    def move(self, x: State, outlook: Outlook, t: float, s: float, rng: RandomStream) -> tuple[State, Tensor]:
        now = self.path.characteristics(outlook.values["prediction"], x, expand_time(x, t))
        return now.jumps.apply(x, s, rng), outlook.log_twist.new_zeros(len(x))
