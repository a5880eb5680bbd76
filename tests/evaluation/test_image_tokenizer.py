"""What is left of pictures as codes: errors by hand, what shrinking keeps, and how codes are used."""

import math

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation import image_tokenizer as module
from feller.evaluation.image_tokenizer import Copies, code_shares, copies, copy_errors, shrunk
from feller.models.families.answering_models import AutoencoderModel
from feller.models.families.path_process import PathProcess
from feller.models.model import Model
from feller.models.spec import Description
from feller.networks import FSQ, MLP, Tokenizer
from feller.paths import Affine
from feller.spaces import Euclidean
from tests.evaluation.known import KNOWN

KIND = Images(4, 4, 1, levels=16)
SETTINGS = Tokenizer(2, 8, 0, FSQ((4,)))
NETWORK = SETTINGS.build((1, 4, 4), {}, Draws(0))


def picture(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor([[rows]], dtype=torch.uint8)


def test_shrinking_keeps_the_mean_of_each_cell() -> None:
    one = picture([[0, 2, 9, 9], [4, 6, 9, 9], [1, 0, 0, 16], [0, 0, 16, 0]])
    assert shrunk(one, (2, 2)).tolist() == picture([[3, 3, 9, 9], [3, 3, 9, 9], [0, 0, 8, 8], [0, 0, 8, 8]]).tolist()
    assert torch.equal(shrunk(one, (4, 4)), one)
    assert shrunk(one, (1, 2)).tolist()[0][0] == 4 * [[2, 2, 8, 8]]  # 13 / 8 and 68 / 8


def test_errors_by_hand() -> None:
    """Off by 4 levels of 16 in one of 16 pixels: (1/4)^2 / 16; shrunk, off by (1, 3) in a cell of (0, 4, 4, 4)."""
    real = picture([[0, 4, 0, 0], [4, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    made = real.clone()
    made[0, 0, 3, 3] = 4
    found = copy_errors(real, Copies(torch.tensor([[0, 1, 1, 3]]), made), count=4, grid=(2, 2), white=16)
    assert found["reconstruction_mse"] == pytest.approx(1 / 256)
    assert found["reconstruction_mse_shrunk"] == pytest.approx((9 + 3) / 256 / 16)
    assert found["psnr"] == pytest.approx(10 * math.log10(256))
    assert found["psnr_shrunk"] == pytest.approx(10 * math.log10(256 * 16 / 12))
    assert found["codebook_use"] == 0.75
    assert found["codebook_perplexity"] == pytest.approx(math.exp(1.5 * math.log(2)))
    assert (found["codes"], found["codes_per_picture"]) == (4, 4)
    assert found.keys() <= KNOWN


def test_exact_copies_have_no_ratio() -> None:
    flat = torch.full((3, 1, 4, 4), 7, dtype=torch.uint8)
    found = copy_errors(flat, Copies(torch.zeros(3, 4, dtype=torch.long), flat), count=4, grid=(2, 2), white=16)
    assert (found["reconstruction_mse"], found["reconstruction_mse_shrunk"]) == (0, 0)
    assert found["psnr"] is found["psnr_shrunk"] is None
    assert found["codebook_perplexity"] == pytest.approx(1)


def test_even_use_has_a_perplexity_of_all_codes() -> None:
    shares = code_shares(torch.arange(8).reshape(2, 4) % 4, 4)
    assert shares.tolist() == [0.25] * 4
    assert code_shares(torch.zeros(1, 2, dtype=torch.long), 3).tolist() == [1, 0, 0]


def test_copies_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SETTINGS.build((1, 4, 4), {}, Draws(0))
    for i, weight in enumerate(network.parameters()):
        weight.data += 0.3 * Draws(0).at("weight", i).normal(weight.shape)
    about = Description(KIND, KIND.space(), AutoencoderModel(), SETTINGS)
    values = Draws(0).at("x").integers(17, (10, 1, 4, 4)).to(torch.uint8)
    data = Dataset(values, {}, KIND)
    found = copies(Model.of(about, network), data)
    assert torch.equal(found.codes, network.encode(KIND.encode(values)))
    assert torch.equal(found.values, KIND.decode(network.decode(found.codes)))
    assert len(found.values.unique()) > 3
    monkeypatch.setattr(module, "CHUNK", 4)
    again = copies(Model.of(about, network), data)
    assert torch.equal(again.codes, found.codes)
    other = Description(KIND, Euclidean((2,)), PathProcess(Affine()), MLP(8, 1))
    other = Model.of(other, other.build(Draws(0)))
    with pytest.raises(UsageError, match="writes no codes"):
        copies(other, data)
