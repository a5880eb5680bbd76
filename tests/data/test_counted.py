"""Samples that are a part of more are numbered through."""

from feller.data.files import sample_folder
from feller.data.tables.unmodelled_columns import Identifier


def test_files_go_on_where_the_part_before_ended() -> None:
    assert sample_folder.numbers(2) == ["00000", "00001"]
    with sample_folder.counted(7, 12):
        assert sample_folder.numbers(2) == ["00007", "00008"]
        assert Identifier("person", "C-{###}").cells(2) == ["C-008", "C-009"]
    with sample_folder.counted(7, 1_000_000):
        assert sample_folder.numbers(1) == ["000007"]
    assert sample_folder.numbers(1) == ["00000"]
