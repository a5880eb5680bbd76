"""Privacy risk of an attack: its success on training rows, compared with unseen rows and with guessing.

Source: Giomi, Boenisch, Wehmeyer and Tasnádi 2023, "A Unified Framework for Quantifying Privacy Risk in Synthetic
Data", PoPETs 2023(2), arXiv 2211.10459.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from feller.evaluation.intervals import CONFIDENCE, share_difference, wilson

LOW, ELEVATED, HIGH, UNMEASURED = "low", "elevated", "high", "not measured"
"""Levels of a risk."""
HIGH_RISK = 0.1
"""Lower end of the interval of a risk above which the risk is high."""
MAX_UNCERTAIN = 0.2
"""Upper end of an interval that reaches 0, above which the risk counts as not measured."""
MAX_GUESSES = 10**9
"""Maximum number of guesses that is considered as needed."""


@dataclass(frozen=True)
class Risk:
    """Success rates of an attack, and the risk that follows from them."""

    attack: float
    """Success rate on training rows."""
    control: float
    """Success rate of the same attack on rows that the model has not seen: what the population reveals by itself."""
    naive: float
    """Success rate of guesses without the samples."""
    guesses: int
    """Number of guesses about training rows."""
    control_guesses: int
    """Number of guesses about unseen rows."""
    scale: float = 1.0
    """Factor by which the attack would succeed more often on all training rows than on those attacked."""
    confidence: float = CONFIDENCE

    @property
    def value(self) -> float:
        """Success beyond that on unseen rows, relative to the success that is left: 0 without leakage, at most 1."""
        return self._scaled(self.attack - self.control)

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of `value`, by Newcombe's method from the Wilson intervals of both success rates."""
        low, high = share_difference(self.attack, self.guesses, self.control, self.control_guesses, self.confidence)
        return self._scaled(low), self._scaled(high)

    def _scaled(self, difference: float) -> float:
        return max(-1.0, min(1.0, self.scale * difference / max(1 - self.control, 1e-9)))

    @property
    def is_meaningful(self) -> bool:
        """True if the attack beats guesses without the samples, on training rows or on unseen rows."""
        low, _ = wilson(max(self.attack, self.control) * self.guesses, self.guesses, self.confidence)
        return low > self.naive

    @property
    def level(self) -> str:
        """Level of the risk: high if its interval lies above `HIGH_RISK`, elevated if it lies above 0.

        Otherwise, also if it lies below 0, it is low, or not measured if the interval also exceeds `MAX_UNCERTAIN`.
        """
        low, high = self.interval
        if low > 0:
            return HIGH if low > HIGH_RISK else ELEVATED
        return LOW if high <= MAX_UNCERTAIN else UNMEASURED

    @property
    def needed_guesses(self) -> int:
        """Number of guesses about training rows, and about as many unseen rows, that would decide the level.

        It assumes the measured success rates, and is 0 if the level is decided.
        """
        if self.level != UNMEASURED:
            return 0
        few, enough = 0, 1
        while self._with_guesses(enough).level == UNMEASURED and enough < MAX_GUESSES:
            few, enough = enough, 2 * enough
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (middle, enough) if self._with_guesses(middle).level == UNMEASURED else (few, middle)
        return enough

    def _with_guesses(self, n: int) -> "Risk":
        return replace(self, guesses=n, control_guesses=n)

    def bound(self, epsilon: float, delta: float) -> float:
        """Return the largest risk that (epsilon, delta)-differential privacy allows, given the control rate.

        The control rate may be anywhere in its interval.
        """
        ends = wilson(self.control * self.control_guesses, self.control_guesses, self.confidence)
        control = np.append(np.linspace(*ends, 101), self.control)
        by_ratio = control * math.exp(min(epsilon, 700.0)) + delta
        power = np.minimum(np.minimum(by_ratio, 1 - math.exp(-epsilon) * (1 - delta - control)), 1.0)
        return self._scaled(float((power - control).max()))

    def with_prefix(self, name: str) -> dict[str, float | str | None]:
        """Return the metrics of the risk, whose keys start with `name`."""
        low, high = self.interval
        numbers: dict[str, float | str | None] = {
            f"{name}_risk": self.value,
            f"{name}_risk_low": low,
            f"{name}_risk_high": high,
            f"{name}_level": self.level,
        }
        for part, rate, guesses in (
            ("attack", self.attack, self.guesses),
            ("control", self.control, self.control_guesses),
        ):
            ends = wilson(rate * guesses, guesses)
            numbers |= {f"{name}_{part}": rate, f"{name}_{part}_low": ends[0], f"{name}_{part}_high": ends[1]}
        guesses = self.needed_guesses
        needed: dict[str, float] = {f"{name}_needed": float(guesses)} if guesses else {}
        return numbers | {f"{name}_naive": self.naive, f"{name}_guesses": float(self.guesses), **needed}


def worst_risk(risks: "dict[str, Risk]") -> str:
    """Return the key of the risk whose interval begins highest."""
    return max(risks, key=lambda name: risks[name].interval[0])
