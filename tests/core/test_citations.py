"""Citations parsed from docstrings, and the bibliography."""

import re
from dataclasses import dataclass

from feller.core.citations import cited_papers, load_bibliography, parse_citations


def test_a_docstring_cites_several_papers():
    text = """Do it.

    It is as in Gat et al. 2024, arXiv 2407.15595, which is no source. Source: Lipman et al. 2024, arXiv
    2412.06264, section 4; after Nobody and Someone 1999, "A title", Journal 3; the turn is ours.

    More, arXiv 2410.20587.
    """
    found = {paper.key: dict(paper.fields) for paper in parse_citations(text)}
    assert found.keys() == {"lipman2024", "nobody1999"}
    assert found["lipman2024"]["title"] == "Flow Matching Guide and Code"
    assert found["nobody1999"] == {"author": "Nobody and Someone", "title": "A title", "year": "1999"}


def test_citations_of_parts_are_collected_without_duplicates():
    @dataclass(frozen=True)
    class Inner:
        """Inside.

        Source: Ho and Salimans 2022, arXiv 2207.12598.
        """

    @dataclass(frozen=True)
    class Outer:
        """Outside."""

        parts: dict
        more: tuple = ()

    found = cited_papers(Outer({"a": Inner()}, (Inner(),)), Inner)
    assert [paper.key for paper in found] == ["ho2022"]


def test_bibliography_is_complete_and_sorted():
    keys = [paper.key for paper in load_bibliography()]
    assert keys == sorted(set(keys))
    numbers = [paper.eprint for paper in load_bibliography() if paper.eprint]
    assert len(numbers) == len(set(numbers))
    for paper in load_bibliography():
        fields = dict(paper.fields)
        assert {"author", "title", "year"} <= fields.keys(), paper.key
        assert paper.bibtex.count("{") == paper.bibtex.count("}")
        if paper.eprint:
            first = paper.eprint[:2]
            assert re.fullmatch(r"\d{4}\.\d{4,5}", paper.eprint)
            assert int(fields["year"]) >= 2000 + int(first), paper.key
