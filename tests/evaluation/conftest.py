import pytest

from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.evaluation.judge import Judge, train_judge
from feller.training.engine import get_engine


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return read("example:digits")


@pytest.fixture(scope="session")
def unseen() -> Dataset:
    return read("example:digits/test")


@pytest.fixture(scope="session")
def digit_judge(digits: Dataset, unseen: Dataset) -> Judge:
    return train_judge(digits, unseen, Rng(0), get_engine())
