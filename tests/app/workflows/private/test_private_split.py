"""Rows that are kept back are chosen each by itself: a row more or less moves no other."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.private_data import _salt
from feller.app.workflows.private.private_split import OPEN_SALT_PREFIX, holdout_mask
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.column import Categorical
from feller.data.tables.modality import Table
from feller.data.tables.schema import Schema
from tests.errors import refuses

KIND = Table(Schema(tuple(Categorical(name, tuple(map(str, range(1000)))) for name in "ab")))


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_DATA_HOME", str(place))
    return place


def rows(*numbers):
    codes = torch.tensor(numbers, dtype=torch.int64)
    return Dataset(torch.stack([codes, codes % 7], 1), {}, KIND)


def sides(data, share=0.3, salt="1"):
    marks = holdout_mask(data, share, salt)
    return Counter(zip(data.values[:, 0].tolist(), marks.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=11, max_size=60), st.data())
def test_a_row_less_moves_no_other(numbers, data):
    """As multisets of rows and sides, since equal rows are the same; for any place of the row, and any order."""
    gone = data.draw(st.integers(0, len(numbers) - 1))
    whole, less = sides(rows(*numbers)), sides(rows(*numbers[:gone], *numbers[gone + 1 :]))
    assert less <= whole
    assert (whole - less).total() == 1
    assert {number for number, _ in whole - less} == {numbers[gone]}
    assert sides(rows(*data.draw(st.permutations(numbers)))) == whole


def test_the_share_is_kept_on_average_of_rows_that_are_equal_too():
    """Of 20,000 coins of 0.3, off by 5 deviations with a chance below 1e-6."""
    n = 20_000
    bound = 5 * math.sqrt(0.3 * 0.7 * n)
    for data in (rows(*range(1000), *([3] * (n - 1000))), rows(*[i % 1000 for i in range(n)])):
        assert abs(int(holdout_mask(data, 0.3, "1").sum()) - 0.3 * n) < bound


def test_which_rows_hangs_on_salt_and_key_and_on_nothing_else(home, monkeypatch):
    data = rows(*range(200))
    before = sides(data)
    assert sides(data) == before
    assert sides(data, salt="2") != before
    open_before = sides(data, salt="open-1")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "elsewhere"))
    assert sides(data) != before
    assert sides(data, salt="open-1") == open_before


def test_all_that_a_row_holds_counts(home):
    def marks(values, label):
        kind = Images(2, 2, 1, 255, ("a", "b"))
        return holdout_mask(Dataset(values, {"label": label}, kind), 0.5, "1").tolist()

    values = torch.zeros(64, 1, 2, 2, dtype=torch.uint8)
    values[:, 0, 0, 0] = torch.arange(64)
    label = torch.zeros(64, dtype=torch.int64)
    other = values.clone()
    other[:, 0, 1, 1] = 1
    assert marks(values, label) != marks(other, label)
    assert marks(values, label) != marks(values, label + 1)


def test_few_rows_and_no_share():
    assert not holdout_mask(rows(*range(9)), 0.9, "1").any()
    assert not holdout_mask(rows(*range(50)), 0.0, "1").any()
    with refuses(UsageError, argument="fraction", found="1"):
        holdout_mask(rows(*range(50)), 1.0, "1")


def test_each_run_has_a_salt_of_its_own_that_a_seed_repeats():
    secret, seeded = PrivacyConfig(epsilon=4.0), PrivacyConfig(epsilon=4.0, unsafe_seed=1)
    assert _salt(secret) != _salt(secret)
    assert not _salt(secret).startswith(OPEN_SALT_PREFIX)
    assert _salt(seeded) == _salt(seeded) != _salt(PrivacyConfig(epsilon=4.0, unsafe_seed=2))
    assert _salt(seeded).startswith(OPEN_SALT_PREFIX)
