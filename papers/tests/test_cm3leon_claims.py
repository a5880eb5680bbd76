"""What the claims of CM3Leon rest on: statistics, the world they are tested in, and the decoders."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.documents.tiles import tiles_of
from feller.evaluation.document_metrics import document_nlls, tokens_nll
from feller.sampling.autoregressive.document_decoding import SamplingSpec
from feller.sampling.autoregressive.token_guidance import ClassifierFreeGuidance
from feller_papers.claims import UNTESTABLE
from feller_papers.cm3leon import (
    BEYOND,
    TESTS,
    guidance,
    infilling,
    models,
    tuning,
)
from feller_papers.cm3leon.asking import nats, pictures, to_draw, to_say, with_picture
from feller_papers.cm3leon.contrast import reranked, times
from feller_papers.cm3leon.differences import Difference, difference, dips, listed, of_shares, rises
from feller_papers.cm3leon.models import Which, base, tuned
from feller_papers.cm3leon.reading import read_scenes, stacked
from feller_papers.cm3leon.setting import QUICK
from feller_papers.cm3leon.world import KNOWN, World, world
from feller_papers.scenes.creatures import views
from feller_papers.scenes.drawing import Lettering, draw_scenes, render, render_letters
from feller_papers.scenes.instructions import instructions, written_view
from tiny import TINY


@pytest.fixture(scope="module")
def it() -> World:
    return world(TINY, 0)


def test_each_subject_has_tests() -> None:
    assert {claim.verdict for claim in BEYOND} == {UNTESTABLE}
    assert len({test.__module__ for test in TESTS}) == 6
    assert len(QUICK.seeds) == 1
    assert {*tuning.EXAMS} == {one.task for one in instructions(8, Rng(0), 16)}


def test_a_difference_and_its_error() -> None:
    """Of 1, 2, 3, 4 the mean is 2.5, the deviation sqrt(5 / 3), its error half of that."""
    one = difference(torch.zeros(4).double(), torch.tensor([1.0, 2, 3, 4]).double())
    assert one.mean == pytest.approx(2.5)
    assert one.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert one.sure
    assert not difference(torch.tensor([1.0, 2, 3, 4]).double(), torch.zeros(4).double()).sure
    assert not Difference(2.9, 1.0).sure
    assert Difference(3.1, 1.0).sure
    assert listed([one, Difference(0.25, 0.1)]) == "2.5 ± 0.6, 0.25 ± 0.1"
    with pytest.raises(InputError, match="found 1 and 1"):
        difference(torch.zeros(1).double(), torch.ones(1).double())


def test_what_is_common_to_pairs_does_not_count() -> None:
    """Documents differ by far more than two ways of asking: a paired difference sees these all the same."""
    base_cost = 100 * Rng(0).stream("cost").normal((50,), torch.float64)
    assert difference(base_cost, base_cost + 0.1 + 0.01 * Rng(1).stream("more").normal((50,), torch.float64)).sure


def test_shares_apart() -> None:
    """(50 + 1) / 102 = 0.5 and (0 + 1) / 102; variances of shares of 100 add."""
    one = of_shares(0.5, 0.0, 100)
    small = 1 / 102
    assert one.mean == 0.5
    assert one.error == pytest.approx(math.sqrt((0.25 + small * (1 - small)) / 100))
    assert one.sure
    assert not of_shares(0.05, 0.0, 100).sure
    assert of_shares(1.0, 1.0, 10).error > 0


def test_ranks() -> None:
    assert rises([1.0, 2.0, 3.0, 10.0]) == pytest.approx(1)
    assert rises([4.0, 3.0, 1.0]) == pytest.approx(-1)
    assert rises([1.0, 2.0, 3.0, 5.0, 4.0]) == pytest.approx(0.9)
    assert rises([2.0, 3.0, 1.0, 4.0, 5.0]) >= guidance.RISES
    assert rises([3.0, 2.0, 1.0, 4.0, 5.0]) < guidance.RISES
    assert rises([2.0, 2.0, 2.0]) == 0
    assert rises([1.0, 1.0, 2.0]) == pytest.approx(math.sqrt(3) / 2)
    with pytest.raises(InputError, match="found 1"):
        rises([1.0])
    assert dips([3.0, 1.0, 2.0])
    assert not dips([1.0, 2.0, 3.0])
    assert not dips([3.0, 2.0, 1.0])
    assert dips([2.2, 2.0, 2.2])
    assert not dips([2.19, 2.0, 3.0])


@pytest.mark.slow
def test_tiles_are_exact_where_they_are_known() -> None:
    values = stacked([picture for one in instructions(200, Rng(0), 16) for picture in one.pictures()])
    codes = tiles_of(values, 2, 1024)
    written = codes.encode(values)
    assert torch.equal(codes.decode(written), values)
    assert written.shape[1] == codes.grid[0] * codes.grid[1] == 64
    assert int(written.max()) < codes.codebook_size < 1024
    lower = codes.encode(values.roll(2, 2)).unflatten(1, codes.grid)
    assert torch.equal(lower, written.unflatten(1, codes.grid).roll(1, 1))
    assert torch.equal(codes.encode(values[:3]), written[:3])
    with pytest.raises(InputError, match="16 x 16"):
        codes.encode(values[:, :, :8])


def test_tails_are_in_the_memory_and_not_in_the_pairs(it: World) -> None:
    learned = {row[row != it.kind.symbols.pad].numpy().tobytes() for row in it.kind.encode(it.pairs.values)}
    memory = {row[row != it.kind.symbols.pad].numpy().tobytes() for row in it.library.datastore.rows}
    assert len(it.pairs) == KNOWN * TINY.heads + TINY.scenes
    assert len(it.library.datastore) == len(it.pairs) + KNOWN * TINY.tails
    assert learned < memory
    said = " ".join(it.kind.texts(it.pairs.values))
    assert not any(f" {creature.name} " in said for creature in it.tail)
    for kept in (it.heads, it.tails):
        rows = {row[row != it.kind.symbols.pad].numpy().tobytes() for row in kept.rows}
        assert not rows & memory
        codes = kept.rows[it.kind.symbols.is_code(kept.rows)].view(-1, it.kind.symbols.picture) - it.kind.symbols.text
        assert torch.equal(it.kind.tokenizer.decode(codes), kept.pictures)
    assert read_scenes(it.seen.pictures)[0].ground == it.scenes[0].ground


@pytest.mark.parametrize("which", [Which(0, 1), Which(0, 1, documents=0), Which(0, 2, tuned=True)])
def test_no_creature_of_the_tail_is_learned(monkeypatch, it: World, which: Which) -> None:
    """Neither from pairs and lessons, nor from documents in front, whose tokens count as well."""
    base(TINY, 0, which.dial)  # with which a tuned one begins
    seen = []
    monkeypatch.setattr(models, "_trained", lambda network, *rest: seen.append(rest) or network)
    models._trained_here.__wrapped__(TINY, which)
    ((objective, data, *_),) = seen
    if which.documents and not which.tuned:
        assert torch.equal(objective.datastore.datastore.rows, it.kind.encode(it.pairs.values))
    said = " ".join(it.kind.texts(data.values))
    assert not any(f" {creature.name} " in said for creature in it.tail)


def test_nats_are_those_of_the_sum(it: World) -> None:
    """Each document's own cost adds up to that of all."""
    network, symbols = base(TINY, 0, 1), it.kind.symbols
    none = [it.seen.rows.new_empty(0)] * len(it.seen.rows)
    total, count = document_nlls(network, it.seen.rows, none, symbols, symbols.is_code)
    whole = tokens_nll(network, it.seen.rows, none, symbols, symbols.is_code)
    assert total.sum().item() == pytest.approx(whole.nats)
    assert int(count.sum()) == whole.symbols == 64 * len(it.seen.rows)
    assert torch.allclose(nats(network, it, it.seen.rows, Rng(0)), total / 64)


def test_prompts_hide_what_is_asked(it: World) -> None:
    symbols = it.kind.symbols
    document = written_view(views(it.tail[0], 1, Rng(0))[0], 16)
    asked = to_draw(document).tokens(it.kind)
    assert asked[0] == symbols.eos
    assert asked[-1] == symbols.break_token
    assert not symbols.is_code(asked).any()
    wanted, truth = to_say(document)
    tokens = wanted.tokens(it.kind)
    assert truth == document.text()
    assert not symbols.is_text(tokens).any()
    assert tokens[1] == symbols.mask
    assert tokens[-1] == symbols.infill
    question = next(one for one in it.exams if one.task == "question")
    wanted, truth = to_say(question)
    assert truth not in ("", question.text())
    assert symbols.is_text(wanted.tokens(it.kind)).any()


def test_another_picture_stands_in_its_place() -> None:
    one, other = (instructions(1, Rng(seed), 16)[0] for seed in (0, 1))
    moved = with_picture(one, other)
    assert np.array_equal(moved.pictures()[-1], other.pictures()[-1])
    assert moved.text() == one.text()


def test_holes_hold_the_same_symbols_both_ways(it: World) -> None:
    """A network that answers alike everywhere spends log(count) on each symbol of a hole, in either order."""
    flat, count = copy.deepcopy(base(TINY, 0, 1)), it.kind.symbols.num_outputs
    flat.token_embed.weight.data.zero_()
    for hide in infilling.HOLES.values():
        filled, onwards, counts = infilling.both_ways(flat, it, it.seen.documents, hide)
        assert torch.allclose(filled, counts.double() * math.log(count))
        assert torch.allclose(onwards, counts.double() * math.log(count))
    assert counts.min() >= 1
    whole = infilling.both_ways(flat, it, it.seen.documents, infilling._whole_caption)[2]
    assert whole.tolist() == [int((row < it.kind.symbols.text).sum()) for row in it.seen.rows]
    assert infilling.both_ways(flat, it, it.seen.documents, infilling._of_picture)[2].unique().tolist() == [21]


def test_attributes_of_the_scene_itself() -> None:
    scenes = draw_scenes(20, Rng(0))
    assert guidance.attributes(scenes, scenes) == 1
    assert guidance.attributes(scenes, scenes[1:] + scenes[:1]) < 0.5
    values = stacked([render(one, 16) for one in scenes])
    assert tuning.as_scenes(values, values) == [1.0] * 20
    letters = stacked([render_letters(Lettering(word, "red", "blue"), 16) for word in ("A", "BC", "X")])
    assert tuning.as_letters(letters, letters.flip(0)) == [0.0, 1.0, 0.0]


def test_what_is_reached_without_a_model() -> None:
    """Edits change one part of a scene in four; of answers a, b, b the commonest is right twice."""
    exams = {task: [one for one in instructions(160, Rng(0), 16) if one.task == task] for task in tuning.EXAMS}
    name, marks = tuning.EXAMS["edit"].without(exams["edit"])
    assert name == "the first picture as it is"
    assert 0.3 < sum(marks) / len(marks) < 0.8
    answers = [to_say(one)[1] for one in exams["question"]]
    _, marks = tuning.EXAMS["question"].without(exams["question"])
    assert sum(marks) == max(map(answers.count, answers))
    assert tuning.EXAMS["letters"].without is None


def test_the_best_of_several_is_by_words_and_picture(it: World) -> None:
    """Of a document's own picture and another the one is taken that the finder likes better."""
    asked = it.seen.documents[:2]
    drawn = it.seen.pictures[:4]
    kept = reranked(it, asked, drawn, 2)
    assert kept.shape[0] == 2
    assert any(torch.equal(kept[0], one) for one in drawn[:2])
    assert any(torch.equal(kept[1], one) for one in drawn[2:])
    assert times([1, 2], 2) == [1, 1, 2, 2]


def test_pictures_are_drawn_behind_documents(it: World) -> None:
    """Two ways by turns, with a memory; all that is drawn is of the codebook."""
    drawn = pictures(
        base(TINY, 0, 1),
        it,
        it.tails.documents[:2],
        Rng(3),
        ways=(SamplingSpec(), SamplingSpec(ClassifierFreeGuidance(2.0))),
        count=2,
    )
    assert drawn.shape == (2, 3, 16, 16)
    codes = it.kind.tokenizer.encode(drawn)
    assert torch.equal(it.kind.tokenizer.decode(codes), drawn)
    assert codes.unique().numel() > 10


def test_the_tuned_one_begins_with_the_other() -> None:
    """Two steps at a low rate: near, and not the same; the base model is untouched."""
    one, other = base(TINY, 0, 2), tuned(TINY, 0)
    before = one.token_embed.weight
    assert not torch.equal(before, other.token_embed.weight)
    assert (before - other.token_embed.weight).abs().max() < 3e-3
    assert one is base(TINY, 0, 2)


@pytest.mark.slow
def test_side_by_side_is_the_same_as_one_after_the_other() -> None:
    """Four trainings in two processes, and the tuned decoder behind the one that it goes on from."""
    apart = replace(TINY, workers=2)
    for here, there in ((base(TINY, 0, 1), base(apart, 0, 1)), (tuned(TINY, 0), tuned(apart, 0))):
        assert all(torch.equal(one, there.state_dict()[name]) for name, one in here.state_dict().items())
