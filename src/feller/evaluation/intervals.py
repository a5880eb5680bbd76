"""Confidence intervals of shares, differences of shares, and areas under the ROC curve."""

import math

from scipy.stats import norm

from feller.evaluation.number_format import Number

CONFIDENCE = 0.95
Interval = tuple[float, float]


def wilson(successes: Number, trials: Number, confidence: float = CONFIDENCE) -> Interval:
    """Return the Wilson score interval of a probability; (0, 1) without trials.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    if trials <= 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + confidence / 2))
    rate, shrink = successes / trials, 1 + z**2 / trials
    centre = (rate + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_difference(
    first: float, trials: int, second: float, second_trials: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return an interval of the difference of two shares of independent rows, first minus second.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", Statistics in
    Medicine 17, method 10.
    """
    (low, high), (low_2, high_2) = (
        wilson(share * n, n, confidence) for share, n in ((first, trials), (second, second_trials))
    )
    difference = first - second
    below = math.hypot(first - low, high_2 - second)
    above = math.hypot(high - first, second - low_2)
    return max(-1.0, difference - below), min(1.0, difference + above)


def auc_interval(area: float, positives: int, negatives: int, confidence: float = CONFIDENCE) -> Interval:
    """Return an interval of an area under the ROC curve.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating characteristic (ROC)
    curve", Radiology 143.
    """
    if not positives or not negatives:
        return 0.0, 1.0
    q_1, q_2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q_1 - area**2) + (negatives - 1) * (q_2 - area**2)
    half = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt(max(variance, 0.0) / (positives * negatives))
    return max(0.0, area - half), min(1.0, area + half)
