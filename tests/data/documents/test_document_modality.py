"""Documents as values and as symbols."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.modality import Documents
from feller.data.documents.token_layout import in_order, placed
from feller.data.text.vocabulary import Characters


@dataclass(frozen=True)
class Forgetful(PictureCodes):
    """Four codes, two for each picture, of which a picture shows nothing."""

    @property
    def count(self) -> int:
        return 4

    @property
    def grid(self) -> tuple[int, int]:
        return 1, 2

    @property
    def name(self) -> str:
        return "forgetful"

    def encode(self, pictures: UInt8[Tensor, "m c h w"]) -> Int64[Tensor, "m codes"]:
        return torch.zeros(len(pictures), 2, dtype=torch.long)

    def decode(self, codes: Int64[Tensor, "m codes"]) -> UInt8[Tensor, "m c h w"]:
        return torch.zeros(len(codes), 1, 4, 4, dtype=torch.uint8)


KIND = Documents(Characters("ab"), 4, 4, 1, 32, codes=Forgetful())


def test_what_was_drawn_keeps_its_codes() -> None:
    s = KIND.symbols
    rows = [[s.eos, 0, s.cut, 3, 5, s.cut], [s.eos, 4, 2, s.cut, 1, s.cut, 5, 5, s.cut]]
    tokens = torch.full((2, 9), s.pad)
    for row, line in zip(tokens, rows, strict=True):
        row[: len(line)] = torch.tensor(line)
    values = KIND.decode(tokens)
    assert torch.equal(KIND.encode(values), tokens)
    assert values["pictures"].shape == (2, 2, 1, 4, 4)
    read = {name: leaf for name, leaf in values.items() if name != "codes"}
    assert (KIND.encode(read)[0, 3:5] == s.text).all()  # as pictures that a person gives
    assert KIND.coded(values) is values
    coded = KIND.coded(read)
    assert torch.equal(KIND.encode(coded), KIND.encode(read))
    assert coded["codes"].shape == (2, 2, 2)
    assert not coded["codes"].any()


def test_what_belongs_to_pictures_there_and_back() -> None:
    rows = torch.tensor([[0, -2, -1, -2], [-1, -2, -1, -2], [1, -2, -7, -7]])
    parts = torch.arange(12).reshape(3, 2, 2)
    given = placed(rows, parts)
    assert given.shape == (3, 2, 2, 2)
    assert torch.equal(given[1], parts[1:])
    assert torch.equal(in_order(rows, given), parts)
    assert placed(rows[2:], parts[:0]).shape == (1, 0, 2, 2)
