"""Learned image tokenizer of documents: levels, records, names of weights."""

import json
import re

import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.images.modality import Images
from feller.networks import FSQ, ConvTokenizer, VectorQuantizerEMA
from feller.networks.codebook import learned_image_tokenizer
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer, load_image_tokenizer
from tests.errors import refuses

SETTINGS, SHAPE = ConvTokenizer(2, 16, 1, FSQ((5, 4))), (3, 8, 4)
KIND = Images(8, 4, 3)


def random_network(settings: ConvTokenizer = SETTINGS):
    """Return a network whose codes differ between images."""
    network = settings.build(SHAPE, {}, Rng(0))
    for i, weight in enumerate(network.parameters()):
        weight.data += 0.2 * Rng(0).stream("weight", i).normal(weight.shape)
    network.update_codebook(Rng(0).stream("x").normal((20, *SHAPE)), Rng(0))
    return network


def pictures(n: int) -> torch.Tensor:
    return Rng(0).stream("pictures").randint(256, (n, *SHAPE)).to(torch.uint8)


@pytest.mark.parametrize("settings", [SETTINGS, ConvTokenizer(2, 16, 1, VectorQuantizerEMA(num_codes=20, dim=4))])
def test_encode_and_decode_use_the_encoding_of_images(settings: ConvTokenizer) -> None:
    network, x = random_network(settings), pictures(7)
    codes = load_image_tokenizer(settings, SHAPE, network.state_dict())
    written = codes.encode(x)
    assert torch.equal(written, network.encode(KIND.encode(x)))
    assert written.unique().numel() > 5
    assert torch.equal(codes.decode(written), KIND.decode(network.decode(written)))
    assert codes.decode(written).dtype == torch.uint8
    assert (codes.codebook_size, codes.grid) == (20, (4, 2))
    assert codes.module is codes.network
    assert not any(weight.requires_grad for weight in codes.module.parameters())


def test_images_are_encoded_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, x = load_image_tokenizer(SETTINGS, SHAPE, random_network().state_dict()), pictures(7)
    whole = codes.encode(x)
    sizes, write = [], codes.network.encode
    monkeypatch.setattr(codes.network, "encode", lambda some: sizes.append(len(some)) or write(some))
    monkeypatch.setattr(learned_image_tokenizer, "CHUNK_SIZE", 3)
    assert torch.equal(codes.encode(x), whole)
    assert sizes == [3, 3, 1]
    assert codes.decode(whole).shape == x.shape
    assert codes.encode(x[:0]).shape == (0, 8)


def test_records_hold_settings_and_names_identify_weights() -> None:
    first, second = (
        LearnedImageTokenizer(SETTINGS, SHAPE),
        load_image_tokenizer(SETTINGS, SHAPE, random_network().state_dict()),
    )
    data = json.loads(json.dumps(to_dict(second)))
    assert data.keys() == {"is", "config", "shape"}
    again = from_dict(ImageTokenizer, data)
    assert again == second == first
    assert again.name == first.name != second.name
    again.module.load_state_dict(second.module.state_dict())
    assert again.name == second.name
    assert torch.equal(again.encode(pictures(3)), second.encode(pictures(3)))
    assert "network" not in repr(first)


def test_mismatched_images_codes_and_weights_are_refused() -> None:
    codes = LearnedImageTokenizer(SETTINGS, SHAPE)
    with refuses(InputError, found="1 channels, 8 x 4"):
        codes.encode(pictures(2)[:, :1])
    for wrong, numbers in (
        (torch.tensor([[0, 1, 2, 3, 4, 5, 6, 20]]), ["8", "1"]),
        (torch.zeros(2, 7, dtype=torch.long), ["7"]),
    ):
        with refuses(InputError) as caught:
            codes.decode(wrong)
        assert re.findall(r"\d+", caught.value.found) == numbers
    with refuses(InputError) as caught:
        load_image_tokenizer(SETTINGS, SHAPE, ConvTokenizer(2, 24, 1).build(SHAPE, {}, Rng(0)).state_dict())
    assert str(SETTINGS) in str(caught.value)
