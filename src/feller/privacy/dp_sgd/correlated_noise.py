"""Gradient noise that is correlated over training steps."""

from collections import deque

from jaxtyping import Float
from torch import Tensor

from feller.privacy.noise.banded_matrix import BandedToeplitz
from feller.privacy.noise.grid_noise import Noise


class CorrelatedNoise:
    """Noise C^-1 z over the steps of a training session, for a banded Toeplitz matrix C.

    It holds the noise of the last steps, as many as bands but one, in float64 and for each weight. This noise is secret
    and never saved: a resumed training starts with independent noise, and each row still takes part in a step only once
    per band.
    """

    def __init__(self, matrix: BandedToeplitz) -> None:
        self.matrix = matrix
        self._past: dict[str, deque[Tensor]] = {}
        """Noise of the last steps in units of the scale, by name of the weight; the newest first."""

    @property
    def bands(self) -> int:
        """Number of bands: minimum distance in steps between two uses of a row."""
        return self.matrix.bands

    def add(self, name: str, values: Float[Tensor, " *d"], scale: float, noise: Noise) -> Float[Tensor, " *d"]:
        """Return the values plus the noise of the next step, in float64 and on a grid.

        The noise y of a step solves c_0 y_t = z_t - sum_k c_k y_(t-k), with c the first column of C. The sum over k is
        subtracted before values and fresh noise are rounded to the grid, so each grid point is a possible output.

        Args:
            name: Name of the weight.
            values: Gradient sum.
            scale: Noise multiplier times clipping norm.
            noise: Source of fresh noise.
        """
        first, *others = self.matrix.coefficients.tolist()
        past = self._past.setdefault(name, deque(maxlen=self.bands - 1))
        target = values.double()
        for coefficient, earlier in zip(others, past, strict=False):
            target = target - (scale * coefficient / first) * earlier
        noisy = noise.add_gaussian(target, scale / first)
        if others:
            past.appendleft((noisy - values.double()) / scale)
        return noisy
