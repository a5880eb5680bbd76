"""Metrics of images and of image tokenizers."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation import tokenizer_metrics as module
from feller.evaluation.image_metrics import distance_ratio, fd_cnn, image_quality
from feller.evaluation.judge import Judge
from feller.evaluation.tokenizer_metrics import (
    Reconstructions,
    code_frequencies,
    downsample_to_grid,
    reconstruct,
    reconstruction_errors,
)
from feller.models.families.path_process import PathProcess
from feller.models.families.predictive_models import AutoencoderModel
from feller.models.model import Model
from feller.models.spec import ModelSpec
from feller.networks import FSQ, MLP, ConvTokenizer
from feller.paths import Affine
from feller.spaces import Euclidean
from tests.errors import refuses
from tests.evaluation.known import KNOWN


@pytest.fixture(scope="module")
def parts(digits: Dataset) -> tuple[Dataset, Dataset]:
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return digits.subset(order[:700]), digits.subset(order[700:])


@pytest.mark.slow
def test_real_images(parts: tuple[Dataset, Dataset], unseen: Dataset, digit_judge: Judge) -> None:
    samples, train = parts
    numbers = image_quality(samples, train, unseen, digit_judge, Rng(0))
    assert numbers["accuracy"] > 0.98
    assert numbers["judge"] == digit_judge.data
    assert numbers["judge_accuracy"] == digit_judge.accuracy
    assert 0.5 < numbers["fd_cnn"] / numbers["fd_cnn_floor"] < 2
    assert 0.95 < numbers["distance_ratio"] < 1.05
    assert 0.8 < numbers["nearest_ratio"] < 1.2
    assert numbers == image_quality(samples, train, unseen, digit_judge, Rng(0))


@pytest.mark.slow
def test_noise(parts: tuple[Dataset, Dataset], unseen: Dataset, digit_judge: Judge) -> None:
    values = Rng(0).stream("noise").randint(17, (700, 1, 8, 8)).to(torch.uint8)
    noise = Dataset(values, {"label": torch.arange(700) % 10}, unseen.modality)
    numbers = image_quality(noise, parts[1], unseen, digit_judge, Rng(0))
    assert numbers["fd_cnn"] > 10 * numbers["fd_cnn_floor"]
    assert 0.03 < numbers["accuracy"] < 0.2
    assert numbers["nearest_ratio"] > 2


def test_one_repeated_image(parts: tuple[Dataset, Dataset], unseen: Dataset, digit_judge: Judge) -> None:
    samples = parts[0].subset(torch.zeros(200, dtype=torch.long))
    numbers = image_quality(samples, parts[1], unseen, digit_judge, Rng(0))
    assert numbers["distance_ratio"] == pytest.approx(0, abs=1e-6)
    assert numbers["fd_cnn"] > 10 * numbers["fd_cnn_floor"]


def test_copies(parts: tuple[Dataset, Dataset], unseen: Dataset, digit_judge: Judge) -> None:
    numbers = image_quality(parts[1].subset(torch.arange(300)), parts[1], unseen, digit_judge, Rng(0))
    assert numbers["nearest_ratio"] == pytest.approx(0, abs=1e-6)


def test_shuffled_labels(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(1))
    shuffled = Dataset(digits.values, {"label": digits.given["label"][order]}, digits.modality)
    numbers = image_quality(shuffled, digits, unseen, digit_judge, Rng(0))
    assert numbers["accuracy"] == pytest.approx(0.1, abs=0.04)  # 5 deviations
    assert numbers["distance_ratio"] > 1.1


def test_missing_numbers_are_none(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    plain = Dataset(digits.values[:300], {}, digits.modality)
    assert image_quality(plain, digits, unseen, digit_judge, Rng(0))["accuracy"] is None
    few = image_quality(plain, digits, unseen.subset(torch.arange(5)), digit_judge, Rng(0))
    assert few["fd_cnn_floor"] is None
    assert few["nearest_ratio"] is None
    assert few["fd_cnn"] < 10
    single = image_quality(plain.subset(torch.arange(1)), digits, unseen, digit_judge, Rng(0))
    assert single["fd_cnn"] is None
    assert single["distance_ratio"] is None


def test_samples_without_label_do_not_count(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    label = digits.given["label"].clone()
    label[700:] = 10
    half = Dataset(digits.values, {"label": label}, digits.modality)
    assert image_quality(half, digits, unseen, digit_judge, Rng(0))["accuracy"] > 0.98


def test_fd_cnn_is_in_percent_of_the_variance() -> None:
    x = Rng(0).stream("x").normal((500, 4), torch.float64)
    shift = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    expected = 100 / x.var(0).sum().item()
    assert fd_cnn(x + shift, x) == pytest.approx(expected, rel=1e-9)
    assert fd_cnn(7 * (x + shift), 7 * x) == pytest.approx(expected, rel=1e-9)
    assert fd_cnn(x, torch.ones(3, 4, dtype=torch.float64)) is None


def test_distance_ratio_weights_of_classes(digits: Dataset) -> None:
    """Zeros are repeated (ratio 0), ones are all the real ones (ratio 1)."""
    label = digits.given["label"]
    ones, zeros = (label == 1).nonzero()[:, 0], (label == 0).nonzero()[:, 0]
    samples = digits.subset(torch.cat([ones, zeros[:1].repeat(50)]))
    expected = len(ones) / (len(ones) + 50)
    assert distance_ratio(samples, digits, Rng(0)) == pytest.approx(expected, rel=1e-6)


def test_distance_ratio_of_pairs(digits: Dataset) -> None:
    three = Dataset(digits.values[:3], {}, digits.modality)
    x = digits.values[:3].double().flatten(1)
    pairs = [(x[i] - x[j]).norm().item() for i, j in ((0, 1), (0, 2), (1, 2))]
    ratio = distance_ratio(three.subset(torch.arange(2)), three, Rng(0))
    assert ratio == pytest.approx(pairs[0] / (sum(pairs) / 3), rel=1e-6)


def test_judge_accuracy_is_of_held_out_images(digits: Dataset, unseen: Dataset, digit_judge: Judge) -> None:
    wrong = Dataset(unseen.values, {"label": (unseen.given["label"] + 1) % 10}, unseen.modality)
    few = digits.subset(torch.arange(200))
    assert image_quality(few, digits, unseen, digit_judge, Rng(0))["judge_accuracy"] == digit_judge.accuracy
    assert image_quality(few, digits, wrong, digit_judge, Rng(0))["judge_accuracy"] < 0.1
    none = unseen.subset(torch.arange(0))
    assert image_quality(few, digits, none, digit_judge, Rng(0))["judge_accuracy"] == digit_judge.accuracy


KIND = Images(4, 4, 1, levels=16)
SETTINGS = ConvTokenizer(2, 8, 0, FSQ((4,)))
NETWORK = SETTINGS.build((1, 4, 4), {}, Rng(0))


def picture(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor([[rows]], dtype=torch.uint8)


def test_downsample_to_grid() -> None:
    one = picture([[0, 2, 9, 9], [4, 6, 9, 9], [1, 0, 0, 16], [0, 0, 16, 0]])
    assert (
        downsample_to_grid(one, (2, 2)).tolist()
        == picture([[3, 3, 9, 9], [3, 3, 9, 9], [0, 0, 8, 8], [0, 0, 8, 8]]).tolist()
    )
    assert torch.equal(downsample_to_grid(one, (4, 4)), one)
    assert downsample_to_grid(one, (1, 2)).tolist()[0][0] == 4 * [[2, 2, 8, 8]]  # 13 / 8 and 68 / 8


def test_reconstruction_errors() -> None:
    """Off by 4 levels of 16 in one of 16 pixels: (1/4)^2 / 16; shrunk, off by (1, 3) in a cell of (0, 4, 4, 4)."""
    real = picture([[0, 4, 0, 0], [4, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    made = real.clone()
    made[0, 0, 3, 3] = 4
    found = reconstruction_errors(
        real, Reconstructions(torch.tensor([[0, 1, 1, 3]]), made), count=4, grid=(2, 2), max_level=16
    )
    assert found["reconstruction_mse"] == pytest.approx(1 / 256)
    assert found["reconstruction_mse_shrunk"] == pytest.approx((9 + 3) / 256 / 16)
    assert found["psnr"] == pytest.approx(10 * math.log10(256))
    assert found["psnr_shrunk"] == pytest.approx(10 * math.log10(256 * 16 / 12))
    assert found["codebook_use"] == 0.75
    assert found["codebook_perplexity"] == pytest.approx(math.exp(1.5 * math.log(2)))
    assert (found["codes"], found["codes_per_picture"]) == (4, 4)
    assert found.keys() <= KNOWN


def test_reconstruction_errors_of_copies() -> None:
    flat = torch.full((3, 1, 4, 4), 7, dtype=torch.uint8)
    found = reconstruction_errors(
        flat, Reconstructions(torch.zeros(3, 4, dtype=torch.long), flat), count=4, grid=(2, 2), max_level=16
    )
    assert (found["reconstruction_mse"], found["reconstruction_mse_shrunk"]) == (0, 0)
    assert found["psnr"] is found["psnr_shrunk"] is None
    assert found["codebook_perplexity"] == pytest.approx(1)


def test_code_frequencies() -> None:
    shares = code_frequencies(torch.arange(8).reshape(2, 4) % 4, 4)
    assert shares.tolist() == [0.25] * 4
    assert code_frequencies(torch.zeros(1, 2, dtype=torch.long), 3).tolist() == [1, 0, 0]


def test_reconstruct(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SETTINGS.build((1, 4, 4), {}, Rng(0))
    for i, weight in enumerate(network.parameters()):
        weight.data += 0.3 * Rng(0).stream("weight", i).normal(weight.shape)
    about = ModelSpec(KIND, KIND.space(), AutoencoderModel(), SETTINGS)
    values = Rng(0).stream("x").randint(17, (10, 1, 4, 4)).to(torch.uint8)
    data = Dataset(values, {}, KIND)
    found = reconstruct(Model.from_spec(about, network), data)
    assert torch.equal(found.codes, network.encode(KIND.encode(values)))
    assert torch.equal(found.values, KIND.decode(network.decode(found.codes)))
    assert len(found.values.unique()) > 3
    monkeypatch.setattr(module, "CHUNK", 4)
    again = reconstruct(Model.from_spec(about, network), data)
    assert torch.equal(again.codes, found.codes)
    other = ModelSpec(KIND, Euclidean((2,)), PathProcess(Affine()), MLP(8, 1))
    other = Model.from_spec(other, other.build(Rng(0)))
    with refuses(UsageError):
        reconstruct(other, data)
