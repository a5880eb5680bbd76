"""Change of the noise schedule after training, by mapping times and converting predictions.

Source: Lipman et al. 2024, arXiv 2412.06264, section 4.8.2.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import State, append_dims, broadcast_time, tree_map
from feller.networks.unwrapping import null_values
from feller.paths.affine import Affine
from feller.paths.discrete.mixture import Mixture
from feller.paths.geodesic import ManifoldPath
from feller.paths.path import Cond, Network, Path
from feller.paths.predictions import (
    DataPrediction,
    NoisePrediction,
    Prediction,
    ScorePrediction,
    VelocityPrediction,
    conversion_coefficients,
    linear_combination,
)
from feller.paths.product import ProductPath
from feller.paths.schedules import AlphaSigma, Schedule

_Reschedulable = Affine | ManifoldPath | Mixture
_NEAR_END = 1e-6
"""Distance from t = 0 or t = 1 at which velocities are evaluated if a schedule is singular at this end."""


def reschedule(path: Path, network: Network, schedule: Schedule) -> tuple[Path, Network]:
    """Return the path with another schedule, and the network converted to it.

    The new path at time r is the old path at time t(r), multiplied by a factor s_r. At r and t(r), both paths have the
    same ratio of data to source. The network is evaluated at t(r), and its prediction is converted to the new schedule.
    The pair supports the same solvers, diffusion coefficients and guidance. Solved exactly, both flows end in the same
    state.

    Schedules may differ at their ends. If the new schedule starts with alpha above 0 (`VP`), its start s_r x_0 omits
    that part of the data, with the same bias as after training on this schedule. If the old schedule starts with
    alpha above 0, the network is evaluated at t = 0 until the new path reaches the initial ratio of the old path,
    which nearly removes the bias. If the old schedule ends with some noise (`VE`), the prediction at t = 1 removes
    the noise to first order.

    Args:
        path: Path that the network was trained on.
        network: Network, possibly with guidance.
        schedule: New schedule, used for all leaves of a product. Paths that are not affine require alpha + sigma = 1.

    Raises:
        UsageError: If the path is user-defined, or the schedule does not fit it.
    """
    new_path = _with_schedule(path, schedule)
    old_paths = _leaf_paths(path)

    def rescheduled_network(x_r: State, r: State, cond: Cond) -> State:
        r = broadcast_time(r, x_r)
        leaves = tree_map(lambda old_path, r: _RescheduledLeaf(old_path, schedule, r), old_paths, r)
        x_t = tree_map(lambda leaf, x: leaf.state(x), leaves, x_r)
        t = tree_map(lambda leaf: leaf.time, leaves)
        return tree_map(
            lambda leaf, x, prediction: leaf.new_prediction(x, prediction), leaves, x_r, network(x_t, t, cond)
        )

    rescheduled_network.null_values = null_values(network)  # pyrefly: ignore[missing-attribute] - read by guidance
    return new_path, rescheduled_network


def match_snr(old: Schedule, new: Schedule, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return t(r) and s_r such that x_r of the new schedule is s_r x_t of the old schedule; r is in float64.

    For ratios outside the range of the old schedule, t is clamped to 0 or 1.
    """
    alpha, sigma, *_ = _alpha_sigma_tensors(new, r)
    t = torch.where(sigma > 0, old.t_from_snr(alpha / sigma), 1.0)  # t_from_snr requires a finite ratio
    t = torch.where(alpha > 0, t, 0.0).clamp(0, 1)
    old_alpha, old_sigma, *_ = _alpha_sigma_tensors(old, t)
    # Divide by the larger coefficient, so that neither end gives 0 / 0.
    return t, torch.where(old_alpha >= old_sigma, alpha / old_alpha, sigma / old_sigma)


class _RescheduledLeaf:
    """Conversion between one leaf of the new path, at times r, and the same leaf of the old path."""

    def __init__(self, path: _Reschedulable, schedule: Schedule, r: Tensor) -> None:
        self.path = path
        old_schedule = path.schedule
        if not isinstance(old_schedule, Schedule):
            raise UsageError(f"{type(old_schedule).__name__} depends on the token, so it cannot be rescheduled")
        is_shared = r.ndim == 1 and len(r) > 0 and r.stride(0) == 0
        times = (r[:1] if is_shared else r).double()  # solvers pass one expanded time
        if isinstance(path, ManifoldPath) or getattr(path, "prediction", None) == VelocityPrediction():
            times = _avoid_singular_ends(old_schedule, schedule, times)
        t, self.state_scale = match_snr(old_schedule, schedule, times)
        old_scales, new_scales = _alpha_sigma_tensors(old_schedule, t), _alpha_sigma_tensors(schedule, times)
        self.old_scales, self.new_scales = AlphaSigma(*old_scales), AlphaSigma(*new_scales)
        (old_alpha, old_sigma, old_d_alpha, _), (self.alpha, self.sigma, d_alpha, _) = old_scales, new_scales
        self.rate = d_alpha / old_d_alpha
        self.is_near_data = old_alpha >= old_sigma
        # Before an old start with data, E[x_1 | x] is kept; past an old end with noise, the score is kept, so that
        # E[x_0 | x] falls with the ratio. Both ratios are 1 within the old path.
        snr_ratio = self.alpha * old_sigma / (self.sigma * old_alpha)
        self.data_ratio = torch.where((t > 0) | (old_alpha <= 0), 1.0, snr_ratio)
        self.noise_ratio = torch.where((t < 1) | (old_sigma <= 0), 1.0, 1 / snr_ratio)
        self.time = t.to(r.dtype).expand(r.shape)

    def state(self, x: Tensor) -> Tensor:
        """Convert a state of the new path to one of the old path; only affine paths may differ in scale."""
        return x / append_dims(self.state_scale.to(x.dtype), x) if isinstance(self.path, Affine) else x

    def new_prediction(self, x: Tensor, prediction: Tensor) -> Tensor:
        """Convert a prediction for the old path to one for the new path."""
        if isinstance(self.path, Affine):
            c, d = self._weights(self.path.prediction)
            return linear_combination(c, x, d, prediction)
        if isinstance(self.path, ManifoldPath):
            return linear_combination(0.0, x, self.rate, prediction)
        return prediction

    def _weights(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Return c and d of the conversion of predictions: new prediction = c x + d (old prediction), at state x."""
        if isinstance(prediction, DataPrediction):
            return torch.where(self.noise_ratio < 1, (1 - self.noise_ratio**2) / self.alpha, 0.0), self.noise_ratio**2
        on_state = torch.where(self.data_ratio < 1, (1 - self.data_ratio) / self.sigma, 0.0)
        if isinstance(prediction, NoisePrediction):
            return on_state, self.data_ratio * self.noise_ratio
        if isinstance(prediction, ScorePrediction):
            return torch.where(self.data_ratio < 1, -on_state / self.sigma, 0.0), self.data_ratio / self.state_scale
        # Convert through E[x_0 | x] if alpha >= sigma, else through E[x_1 | x], to avoid quotients of small numbers.
        coefficients = []
        for endpoint, weight in (
            (NoisePrediction(), self.noise_ratio),
            (DataPrediction(), torch.ones_like(self.noise_ratio)),
        ):
            on_state, on_old = conversion_coefficients(prediction, endpoint, self.old_scales)
            on_new_state, on_end = conversion_coefficients(endpoint, prediction, self.new_scales)
            coefficients.append(
                (on_new_state + weight * on_end * on_state / self.state_scale, weight * on_end * on_old)
            )
        (source_c, source_d), (data_c, data_d) = coefficients
        return torch.where(self.is_near_data, source_c, data_c), torch.where(self.is_near_data, source_d, data_d)


def _alpha_sigma_tensors(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return alpha, sigma and their derivatives as tensors in the shape of t."""
    a, b, c, d = (torch.as_tensor(value, dtype=t.dtype, device=t.device).expand(t.shape) for value in schedule(t))
    return a, b, c, d


def _avoid_singular_ends(old: Schedule, new: Schedule, r: Tensor) -> Tensor:
    """Move times away from an end where the Wronskian of either schedule is 0 or infinite.

    The Wronskian is alpha' sigma - alpha sigma', by which conversions divide.
    """
    t, _ = match_snr(old, new, r)
    is_singular = torch.zeros_like(r, dtype=torch.bool)
    for schedule, time in ((old, t), (new, r)):
        wronskian = torch.as_tensor(AlphaSigma(*_alpha_sigma_tensors(schedule, time)).wronskian)
        is_singular = is_singular | (wronskian <= 0) | ~wronskian.isfinite()
    return torch.where(is_singular, r.clamp(_NEAR_END, 1 - _NEAR_END), r)


def _with_schedule(path: Path, schedule: Schedule) -> Path:
    if isinstance(path, ProductPath):
        return ProductPath({name: _with_schedule(leaf, schedule) for name, leaf in path.leaf_paths.items()})
    if isinstance(path, _Reschedulable):
        return replace(path, schedule=schedule)
    raise UsageError(f"{type(path).__name__} does not support rescheduling; affine, manifold and mixture paths do")


def _leaf_paths(path: Path) -> Any:
    return (
        {name: _leaf_paths(leaf) for name, leaf in path.leaf_paths.items()} if isinstance(path, ProductPath) else path
    )
