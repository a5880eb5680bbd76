"""Measurement operators: maps from values in data units to measurements."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import InputError, UsageError, check_number
from feller.core.rng import Rng
from feller.spaces import Euclidean


class Operator(abc.ABC):
    """Differentiable measurement operator, applied to each example. Subclasses implement `__call__`."""

    @property
    def unknown(self) -> Euclidean | None:
        """Space of unknown operator parameters, which are estimated together with the states; None for none."""
        return None

    def num_measurements(self, y: Float[Tensor, " *m"]) -> int:
        """Return the number of informative measurements per example; by default all measurements."""
        return y.numel()

    def zero_unmeasured(self, y: Float[Tensor, " b *m"]) -> Float[Tensor, " b *m"]:
        """Set uninformative measurements to 0; identity by default."""
        return y

    @abc.abstractmethod
    def __call__(self, values: Float[Tensor, " b *d"], unknown: Float[Tensor, " b *u"] | None = None) -> Tensor:
        """Return measurements, [b, ...]."""


@dataclass(frozen=True)
class DecodedOperator(Operator):
    """Operator on the values that a nonlinear function decodes from states, such as the pixels of latents."""

    operator: Operator
    decode: Callable[[Tensor], Tensor]
    """Differentiable function from states to data units."""

    @property
    def unknown(self) -> Euclidean | None:
        return self.operator.unknown

    def num_measurements(self, y: Float[Tensor, " *m"]) -> int:
        return self.operator.num_measurements(y)

    def zero_unmeasured(self, y: Float[Tensor, " b *m"]) -> Float[Tensor, " b *m"]:
        return self.operator.zero_unmeasured(y)

    def __call__(self, values: Float[Tensor, " b *d"], unknown: Float[Tensor, " b *u"] | None = None) -> Tensor:
        """Return the measurements of states."""
        return self.operator(self.decode(values), unknown)


class LinearOperator(Operator):
    """Linear operator. Its adjoint is derived by autograd; override `adjoint` if a faster implementation exists."""

    def adjoint(self, y: Float[Tensor, " b *m"], like: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Return A^T y, with the shape of `like`."""
        with torch.enable_grad():
            x = torch.zeros_like(like).requires_grad_()
            return torch.autograd.grad(self(x), x, y)[0]

    def pseudo_inverse(
        self, y: Float[Tensor, " b *m"], like: Float[Tensor, " b *d"], ridge: float = 0.0
    ) -> Float[Tensor, " b *d"]:
        """Return the ridge estimate (A^T A + ridge I)^-1 A^T y; for ridge 0 the minimum-norm least-squares solution.

        It equals A^T (A A^T + ridge I)^-1 y, the posterior mean of values with prior N(0, I) that are measured with
        noise of variance `ridge`. For values of variance v, divide the noise variance by v.

        The solver is CGLS (conjugate gradients for least squares; Paige and Saunders 1982, "LSQR", section 7), which
        does not square the condition number and accepts measurements outside the range of A. The residual is r = y - A
        x. An example stops when |A^T r - ridge x| / (|A| |r|) or |r| / |y| is at rounding level (eps^0.8), or after
        `MAX_CG_STEPS` steps. In the latter case, without a ridge, singular values below about 1 / `MAX_CG_STEPS` of the
        largest may be regularised away.

        Args:
            y: Measurements; uninformative measurements are ignored.
            like: Tensor with the shape of the values.
            ridge: Noise variance over value variance, at least 0.
        """
        y = self.zero_unmeasured(y).to(like)
        norms, tolerance = _square(y).sqrt(), torch.finfo(like.dtype).eps ** 0.8
        residual = y / _pad(torch.where(norms > 0, norms, 1.0), y)
        x, gradient = torch.zeros_like(like), self.adjoint(residual, like)
        direction, gradient_sq, max_gain = gradient, _square(gradient), torch.zeros_like(norms)
        is_active = gradient_sq > 0
        for _ in range(MAX_CG_STEPS):
            if not is_active.any():
                break
            forward_direction = self(direction)
            forward_sq, direction_sq = _square(forward_direction), _square(direction)
            max_gain = torch.maximum(max_gain, torch.where(is_active, forward_sq / direction_sq.clamp(min=EPS), 0.0))
            step = torch.where(is_active, gradient_sq / (forward_sq + ridge * direction_sq).clamp(min=EPS), 0.0)
            x = x + _pad(step, direction) * direction
            residual = residual - _pad(step, forward_direction) * forward_direction
            gradient = self.adjoint(residual, like) - ridge * x
            previous_sq, gradient_sq, residual_sq = gradient_sq, _square(gradient), _square(residual)
            has_converged = (gradient_sq <= tolerance**2 * (max_gain + ridge) * residual_sq) | (
                (residual_sq <= tolerance**2) & (ridge == 0)
            )
            is_active = is_active & ~has_converged
            direction = gradient + _pad(gradient_sq / previous_sq.clamp(min=EPS), direction) * direction
        return x * _pad(norms, x)

    def whiten(self, y: Float[Tensor, " b *m"], like: Float[Tensor, " b *d"], ridge: float) -> Float[Tensor, " b *m"]:
        """Return (A A^T + ridge I)^-1 y, by conjugate gradients on measurements.

        Args:
            y: Measurements; uninformative measurements are ignored.
            like: Tensor with the shape of the values.
            ridge: Noise variance over value variance, above 0.
        """
        residual = self.zero_unmeasured(y).to(like)
        tolerance = torch.finfo(like.dtype).eps ** 0.8
        x, direction, residual_sq = torch.zeros_like(residual), residual, _square(residual)
        target_sq = tolerance**2 * residual_sq
        for _ in range(MAX_CG_STEPS):
            is_active = residual_sq > target_sq
            if not is_active.any():
                break
            image = self.zero_unmeasured(self(self.adjoint(direction, like))) + ridge * direction
            slope = (direction * image).flatten(1).sum(1)
            step = _pad(torch.where(is_active, residual_sq / slope.clamp(min=EPS), 0.0), x)
            x, residual = x + step * direction, residual - step * image
            previous_sq, residual_sq = residual_sq, _square(residual)
            direction = residual + _pad(residual_sq / previous_sq.clamp(min=EPS), direction) * direction
        return x


MAX_CG_STEPS = 200
"""Maximum number of conjugate gradient steps."""
EPS = 1e-30
"""Lower bound on divisors, against division by zero."""
MAX_BLUR_WIDTH, MAX_MEASUREMENTS = 1000.0, 1_000_000
"""Upper bounds of blur width in pixels and number of measurements, to limit memory."""


def _square(y: Tensor) -> Tensor:
    return y.square().flatten(1).sum(1)


def _pad(factors: Tensor, y: Tensor) -> Tensor:
    return factors.reshape(-1, *(1,) * (y.ndim - 1))


@dataclass(frozen=True, eq=False)
class Inpaint(LinearOperator):
    """Inpainting: values outside the mask are measured; masked entries of the measurements are ignored."""

    mask: Bool[Tensor, " *d"]
    """True for entries that are not measured and are to be filled in."""

    def num_measurements(self, y: Float[Tensor, " *m"]) -> int:
        return y.numel() - int(self.mask.expand(y.shape).sum())

    def zero_unmeasured(self, y: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        """Set masked measurements to 0; they may be NaN."""
        return self(y)

    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        return torch.where(self.mask.to(values.device), 0.0, values)


@dataclass(frozen=True)
class Downsample(LinearOperator):
    """Downsampling of images by average pooling: each block of `factor` x `factor` pixels becomes one pixel."""

    factor: int = 2

    def __post_init__(self) -> None:
        check_number("factor", self.factor, ge=1)

    def __call__(self, values: Float[Tensor, "b c h w"], unknown: Tensor | None = None) -> Tensor:
        """Return pooled images, [b, c, h / factor, w / factor]."""
        if values.shape[-1] % self.factor or values.shape[-2] % self.factor:
            height, width = values.shape[-2:]
            raise UsageError(
                f"image size {height} x {width} is not divisible by the factor {self.factor}",
                remedy="Use a factor that divides both sides",
            )
        return F.avg_pool2d(values, self.factor)


@dataclass(frozen=True)
class Blur(LinearOperator):
    """Gaussian blur of images, with mirrored borders."""

    width: float = 1.0
    """Standard deviation of the Gaussian kernel, in pixels."""

    def __post_init__(self) -> None:
        _check_width(self.width)

    def __call__(self, values: Float[Tensor, "b c h w"], unknown: Tensor | None = None) -> Tensor:
        return gaussian_blur(
            values, torch.tensor(self.width, dtype=values.dtype, device=values.device).expand(len(values))
        )

    def adjoint(self, y: Float[Tensor, "b c h w"], like: Tensor) -> Float[Tensor, "b c h w"]:
        return self(y)


@dataclass(frozen=True)
class UnknownBlur(Operator):
    """Blind deblurring: Gaussian blur of unknown width; the log width is estimated together with the image."""

    unknown = Euclidean((1,))

    width: float = 1.0
    """Initial width (standard deviation) of the kernel, in pixels."""
    longest: float = 4.0

    def __post_init__(self) -> None:
        _check_width(self.width)

    def __call__(self, values: Float[Tensor, "b c h w"], unknown: Float[Tensor, "b 1"] | None = None) -> Tensor:
        widths = torch.full_like(values[:, 0, 0, 0], self.width)
        if unknown is not None:
            widths = (widths * unknown[:, 0].exp()).clamp(0.05, self.longest)
        return gaussian_blur(values, widths, math.ceil(3 * self.longest))


def _check_width(width: float) -> None:
    if not 0 < width <= MAX_BLUR_WIDTH:
        raise UsageError(f"a blur width above 0 and at most {MAX_BLUR_WIDTH:g} pixels", f"{width:g}")


def gaussian_blur(values: Float[Tensor, "b c h w"], widths: Float[Tensor, " b"], radius: int | None = None) -> Tensor:
    """Blur each image with a Gaussian kernel of its own width, with mirrored borders.

    Args:
        values: Images.
        widths: Standard deviation of the kernel of each image, in pixels.
        radius: Half width at which kernels are cut off, in pixels; by default three times the largest width.
    """
    radius = math.ceil(3 * float(widths.max())) if radius is None else radius
    offsets = torch.arange(-radius, radius + 1, device=values.device)
    kernel = torch.softmax(-(offsets / widths[:, None]).square() / 2, 1)
    rows, columns = (_mirrored_convolution(kernel, offsets, size) for size in values.shape[-2:])
    return torch.einsum("bij,bcjk,blk->bcil", rows, values, columns)


def _mirrored_convolution(
    kernel: Float[Tensor, "b k"], offsets: Int[Tensor, " k"], size: int
) -> Float[Tensor, "b size size"]:
    """Return the matrix of a convolution along an axis of length `size`; beyond the border, pixels are mirrored.

    `offsets` are the positions of the kernel's entries relative to the output pixel.
    """
    index = (torch.arange(size, device=kernel.device)[:, None] + offsets).remainder(2 * size)
    index = torch.where(index < size, index, 2 * size - 1 - index)
    return torch.einsum("bk,ikj->bij", kernel, F.one_hot(index, size).to(kernel.dtype))


@dataclass(frozen=True)
class Grayscale(LinearOperator):
    """Operator that returns the luminance of RGB images (ITU-R BT.601 weights)."""

    def __call__(self, values: Float[Tensor, "b c h w"], unknown: Tensor | None = None) -> Tensor:
        """Return luminance, [b, 1, h, w]."""
        if values.shape[1] != 3:
            raise UsageError("grayscale needs RGB images; these have no colour channels")
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=values.dtype, device=values.device)
        return (values * weights[:, None, None]).sum(1, keepdim=True)


@dataclass(frozen=True)
class CompressedSensing(LinearOperator):
    """Compressed sensing: random projections of all values. The seed determines the projections."""

    num_sums: int
    """Number of measurements per example."""
    seed: int = 0
    _weight_cache: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Cached projection matrix for each number of values."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_sums <= MAX_MEASUREMENTS:
            raise UsageError(f"1 to {MAX_MEASUREMENTS:,} measurements", f"{self.num_sums:,}")

    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        flat = values.flatten(1)
        return flat @ self._weights(flat).T

    def adjoint(self, y: Float[Tensor, "b m"], like: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        return (y @ self._weights(like.flatten(1))).view_as(like)

    def _weights(self, flat: Float[Tensor, "b d"]) -> Float[Tensor, "m d"]:
        """Return the projection matrix for the size of `flat`, from the cache if possible."""
        size = flat.shape[1]
        if size not in self._weight_cache:
            weights = Rng(self.seed).stream("sums").normal((self.num_sums, size), torch.float64)
            self._weight_cache[size] = weights / math.sqrt(size)
        return self._weight_cache[size].to(flat)


@dataclass(frozen=True)
class PhaseRetrieval(Operator):
    """Phase retrieval: magnitudes of the Fourier transform. They do not determine the position of the image."""

    smooth: float = 1e-3
    """Constant added under the square root of the magnitude, so that the gradient at 0 is finite."""

    def __call__(self, values: Float[Tensor, "b c h w"], unknown: Tensor | None = None) -> Tensor:
        """Return magnitudes, [b, c, h, w]."""
        spectrum = torch.fft.fft2(values, norm="ortho")
        return (spectrum.real.square() + spectrum.imag.square() + self.smooth).sqrt()


@dataclass(frozen=True)
class CustomOperator(Operator):
    """Operator that calls a user's differentiable function from values in data units, [b, ...], to measurements."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        measurements = self.function(values)
        if not isinstance(measurements, Tensor) or measurements.ndim == 0 or len(measurements) != len(values):
            shape = list(measurements.shape) if isinstance(measurements, Tensor) else type(measurements).__name__
            raise InputError(f"measurements [{len(values)}, ...] from the operator", shape)
        return measurements


@dataclass(frozen=True)
class CustomLinearOperator(LinearOperator):
    """Linear operator given by two user functions: A x of values x [b, ...], and A^T y of measurements y [b, ...]."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor], Tensor]
    check_shape: tuple[int, ...] = field(default=(), compare=False)
    """Shape of the values on which the adjoint is checked when the operator is created; empty for no check."""

    def __post_init__(self) -> None:
        if self.check_shape:
            check_adjoint(self, self.check_shape)

    def __call__(self, values: Tensor, unknown: Tensor | None = None) -> Tensor:
        return self.forward(values)

    def adjoint(self, y: Tensor, like: Tensor) -> Tensor:
        return self.backward(y)


def check_adjoint(operator: LinearOperator, shape: tuple[int, ...]) -> None:
    """Check that an operator is linear and its adjoint is correct: <A x, y> = <x, A^T y>; InputError otherwise.

    Args:
        operator: Operator, evaluated in float64.
        shape: Shape of the values of one example.
    """
    stream = Rng(0).stream("adjoint")
    x, other = (stream.normal((2, *shape), torch.float64) for _ in range(2))
    y = stream.normal(tuple(operator(x).shape), torch.float64)
    joint, separate = operator(x + 2 * other), operator(x) + 2 * operator(other)
    magnitude = separate.abs().max().clamp(min=1e-30)
    if (joint - separate).abs().max() > 1e-6 * magnitude:
        raise InputError(
            f"the operator is not linear: A(x + 2 y) differs from A x + 2 A y by {(joint - separate).abs().max():.3g}"
        )
    forward_product, adjoint_product = (operator(x) * y).sum(), (x * operator.adjoint(y, x)).sum()
    if (forward_product - adjoint_product).abs() > 1e-6 * (forward_product.abs() + adjoint_product.abs() + 1e-30):
        raise InputError(
            f"the adjoint does not match the operator: <A x, y> is {forward_product.item():.6g} but <x, A^T y> is"
            f" {adjoint_product.item():.6g}"
        )
