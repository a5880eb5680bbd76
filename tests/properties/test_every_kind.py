"""Every kind has an example in this folder."""

import pytest
import torch

from tests.properties.examples import BASES, examples, kinds


@pytest.mark.parametrize(
    ("base", "kind"),
    [pytest.param(base, kind, id=f"{base.__name__}-{kind.__name__}") for base in BASES for kind in kinds(base)],
)
def test_every_kind_has_an_example(base: type, kind: type) -> None:
    assert examples(base, kind), f"{kind.__name__}: give it an example in tests/properties/examples.py"


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_every_family_has_kinds(base: type) -> None:
    assert list(kinds(base))


def test_kinds_without_an_example_are_found() -> None:
    class Stranger:
        def __init__(self, need: int) -> None:
            self.need = need

    assert not examples(torch.nn.Module, Stranger)
