"""Samples that are a part of more are numbered through."""

from feller.data import overview
from feller.data.table.unmodelled import Identifier


def test_files_go_on_where_the_part_before_ended() -> None:
    assert overview.numbers(2) == ["00000", "00001"]
    with overview.counted(7, 12):
        assert overview.numbers(2) == ["00007", "00008"]
        assert Identifier("person", "C-{###}").cells(2) == ["C-008", "C-009"]
    with overview.counted(7, 1_000_000):
        assert overview.numbers(1) == ["000007"]
    assert overview.numbers(1) == ["00000"]
