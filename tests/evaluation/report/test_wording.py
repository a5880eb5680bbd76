import numpy as np
import pytest

from feller.evaluation import number_format as wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.9034, "1.90"),
        (0.03123, "0.0312"),
        (9.999, "10.0"),
        (99.96, "100"),
        (12345.6, "12,346"),
        (-3.2, "−3.20"),
        (4000, "4,000"),
        (-7, "−7"),
        (0.0, "0"),
        (0.00099949, "9.99\u202f×\u202f10⁻⁴"),
        (0.0009996, "0.00100"),
        (1.25e6, "1.25\u202f×\u202f10⁶"),
        (999_999.0, "1.00\u202f×\u202f10⁶"),
        (5e-324, "4.94\u202f×\u202f10⁻³²⁴"),
        (-1.7e308, "−1.70\u202f×\u202f10³⁰⁸"),
    ],
)
def test_number_has_three_digits_that_count(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (1.0, "1"), (2e-6, "2\u202f×\u202f10⁻⁶"), (0.002, "0.002"), (5000.0, "5,000"), (-0.25, "−0.25")],
)
def test_brief_drops_zeros(value: float, text: str) -> None:
    assert wording.brief(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.974, "97.4"), (1.0, "100"), (1, "100"), (0.0, "0"), (0.99951, ">99.9"), (0.9994, "99.9"), (0.0004, "<0.1")],
)
def test_percent_never_rounds_to_all_or_none(share: float, text: str) -> None:
    assert wording.percent(share) == f"{text}\u202f%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.32, "0.32 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (93.2, "1 min 33 s"),
        (3599.6, "1 h 00 min"),
        (3725.0, "1 h 02 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds).replace("\u202f", " ").replace("\u00a0", " ") == text


def test_date() -> None:
    assert wording.date("2025-11-05") == "5 November 2025"
    assert wording.date("2025-11-05T13:06:59+00:00") == "5 November 2025, 13:06"
    assert wording.date("yesterday") == "yesterday"


def test_only_finite_numbers_are_numbers() -> None:
    assert all(map(wording.is_number, (0, -1.5, np.float32(2), np.int64(3))))
    assert not any(map(wording.is_number, (None, "1", True, float("nan"), float("inf"))))
