"""The example: perovskites, whose cubes hold two metals and three anions."""

import torch

from feller.data.loading.read import read


def test_cells_are_cubes_of_five_atoms() -> None:
    train, test = read("example:perovskites"), read("example:perovskites/test")
    assert (len(train), len(test)) == (2000, 500)
    assert train.modality == test.modality
    assert train.modality.sizes == ("5",)
    assert len(train.modality.elements) == 56
    anions = [train.modality.elements.index(symbol) for symbol in ("N", "O", "F", "S")]
    for part in (train, test):
        assert (part.values["lattice"][:, 3:] == 90).all()
        assert (part.values["lattice"][:, :3] == part.values["lattice"][:, :1]).all()
        assert ((part.values["lattice"] > 3) & (part.values["lattice"] < 91)).all()
        assert (torch.isin(part.values["element"], torch.tensor(anions)).sum(1) >= 3).all()
        assert part.given["valid"]["element"].all()


def test_no_cell_is_in_both_parts() -> None:
    rows = [
        {
            (*element, *place)
            for element, place in zip(v["element"].tolist(), v["place"].flatten(1).tolist(), strict=True)
        }
        for v in (read("example:perovskites").values, read("example:perovskites/test").values)
    ]
    assert not rows[0] & rows[1]


def test_read_like_a_model_is_the_same() -> None:
    own = read("example:perovskites/test")
    like = read("example:perovskites/test", like=own.modality)
    assert torch.equal(own.values["element"], like.values["element"])
    torch.testing.assert_close(own.values["place"], like.values["place"])
    assert torch.equal(own.given["atoms"], like.given["atoms"])
