"""Tables of thousands of columns are read in a time linear in their number."""

import time

import pandas as pd
import pytest

from feller.data.loading.dataset_reader import read
from feller.data.tables import number_format
from feller.data.tables.number_format import date_format


def test_words_without_digits_are_tried_in_no_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_format, "is_in_format", lambda cell, form: pytest.fail(f"{cell} was parsed"))
    assert date_format(["north", "south"]) is None


def test_a_date_is_still_found() -> None:
    found = date_format(["May 2020", "June 2021"])
    assert found is not None
    assert found[0] == "%B %Y"


@pytest.mark.slow
def test_ten_thousand_columns_are_read_within_seconds() -> None:
    frame = pd.DataFrame({f"c{i}": ["a", "b", "c"] * 4 for i in range(10_000)})
    begun = time.process_time()
    assert read(frame).values.shape == (12, 10_000)
    assert time.process_time() - begun < 20
