import pytest

from feller.data import Dataset, read
from feller.draws import Draws
from feller.evaluate import Judge, train_judge
from feller.train.engine import engine


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return read("example:digits")


@pytest.fixture(scope="session")
def unseen() -> Dataset:
    return read("example:digits/test")


@pytest.fixture(scope="session")
def digit_judge(digits: Dataset, unseen: Dataset) -> Judge:
    return train_judge(digits, unseen, Draws(0), engine())
