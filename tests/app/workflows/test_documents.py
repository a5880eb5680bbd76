"""From documents to a run, and from what a person asks of it to new documents and numbers."""

import json
import pathlib
import shutil
import signal
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from feller.app.cli import main
from feller.app.modalities.documents import require_documents
from feller.app.workflows.documents import generate_documents
from feller.app.workflows.documents.build_datastore import build_datastore
from feller.app.workflows.documents.generate_documents import DocumentSamplingConfig
from feller.app.workflows.fitting.auxiliary_networks import AuxiliaryTraining
from feller.core.errors import InputError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors
from feller.data.documents.modality import Documents
from feller.data.documents.prompt import EDIT
from feller.data.documents.tiles import Tiles
from feller.data.documents.token_layout import IMAGE_MARK
from feller.data.loading.dataset_reader import read
from feller.models.model import load_model
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.token_guidance import (
    ClassifierFreeGuidance,
    ContrastiveDecoding,
    DualGuidance,
    NoGuidance,
    TokenGuidance,
)
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from tests.conftest import LEARN, OWN

pytestmark = pytest.mark.usefixtures("here")

CIRCLE, RING = "a red circle on a blue ground", "two green rings"


@pytest.fixture(scope="module")
def palette(scenes: pathlib.Path) -> pathlib.Path:
    """Return a run in which every pixel is a symbol."""
    return unjudged(scenes, "palette", "--tokenizer", "palette", *LEARN, "--steps", "2")


@pytest.fixture(scope="module")
def other(scenes: pathlib.Path) -> pathlib.Path:
    """Return the run of a tokeniser."""
    return unjudged(scenes, "tokeniser", "--recipe", "image-tokenizer", "--size", "tiny", "--steps", "3")


@pytest.fixture
def hole(scenes: pathlib.Path) -> list[str]:
    """Return words that ask for 2 x 4 pixels of a picture, by a mask of twice its size."""
    white = np.zeros((32, 32), np.uint8)
    white[8:12, 4:12] = 255
    Image.fromarray(white).save("hole.png")
    shutil.copy(scenes / "pairs" / "0001.png", "real.png")
    return ["--prompt", f"{CIRCLE} <image:real.png>", "--mask", "hole.png"]


def unjudged(scenes: pathlib.Path, name: str, *words: str) -> pathlib.Path:
    """Fit a run, and leave out what takes longest: the report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        assert main(["fit", str(scenes / "pairs"), *words, "--out", str(scenes.parent / name)]) == 0
    return scenes.parent / name


def sample(run: pathlib.Path, *words: object) -> list[list[int]]:
    """Return the symbols of what is drawn."""
    assert main(["sample", str(run), *map(str, words), "--out", "drawn.json", "--overwrite"]) == 0
    return json.loads(pathlib.Path("drawn.json").read_text())["tokens"]


def lines(file: str | pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def kind(run: pathlib.Path) -> Documents:
    return require_documents(load_model(open_run(run)))


def weights(run: str | pathlib.Path, *names: str) -> list[Tensor]:
    """Return all weights of files of a run."""
    return [leaf for name in names for leaf in load_tensors(pathlib.Path(run) / f"{name}.safetensors")[0].values()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


ALL = ("weights", "average", "tokenizer", "vectors")


@pytest.mark.slow
def test_a_prompt_becomes_documents_with_whole_pictures(documents: pathlib.Path) -> None:
    assert main(["sample", str(documents), "--prompt", CIRCLE, "-n", "2", "--out", "new"]) == 0
    assert {path.name for path in pathlib.Path("new").iterdir()} == {
        *("grid.png", "samples.jsonl", "00000.png", "00001.png")
    }
    symbols = kind(documents).symbols
    for i, line in enumerate(lines("new/samples.jsonl")):
        assert line["document"] == [CIRCLE, {"image": f"0000{i}.png"}]
        tokens = torch.tensor(line["tokens"])
        assert tokens[0] == symbols.eos
        assert symbols.is_code(tokens).sum() == symbols.picture == 64
        assert tokens[-1] == tokens[-66] == symbols.break_token
        assert Image.open(f"new/0000{i}.png").size == (16, 16)
    again = read("new/samples.jsonl", like=kind(documents))
    assert [items[0].text for items in kind(documents).items(again.values)] == [CIRCLE] * 2


def test_forms(palette: pathlib.Path, hole: list[str]) -> None:
    """All hold the same two documents, and what is written is read back as it was: a palette loses nothing."""
    for out in ("new.json", "new.jsonl", "new.npz"):
        assert main(["sample", str(palette), *hole, "-n", "2", "--seed", "4", "--out", out]) == 0
    about = json.loads(pathlib.Path("new.json").read_text())
    assert about["texts"] == [CIRCLE] * 2
    assert about["symbols"]["pictures"] == [about["symbols"]["text"][1], about["symbols"]["<eos>"]]
    tokens = torch.tensor(about["tokens"])
    data = read("new.jsonl", like=kind(palette))
    for file in ("new.jsonl", "new.npz"):
        assert torch.equal(kind(palette).encode(read(file, like=kind(palette)).values), tokens)
    with pytest.raises(InputError, match="image tokens"):
        read("new.json", like=kind(palette))
    arrays = np.load("new.npz")
    assert np.array_equal(arrays["tokens"], tokens.numpy())
    assert np.array_equal(arrays["pictures"][:, 0], data.values["pictures"][:, 0].permute(0, 2, 3, 1).numpy())
    assert json.loads(arrays["samples"][0])[0] == CIRCLE
    assert not (palette / "tokenizer.safetensors").exists()


@pytest.mark.slow
def test_documents_belong_to_their_seed(documents: pathlib.Path) -> None:
    ask = ("--prompt", CIRCLE, "--seed")
    three, two = sample(documents, *ask, 1, "-n", 3), sample(documents, *ask, 1, "-n", 2)
    assert three[:2] == two
    assert three[0] != three[1]
    assert sample(documents, *ask, 2, "-n", 2) != two
    (free,) = sample(documents, "-n", 1)
    assert free[0] == kind(documents).symbols.eos


def test_words_are_filled_in_and_all_else_is_kept(documents, scenes, capsys):
    picture = scenes / "pairs" / "0001.png"
    asked = {
        f"<image:{picture}> <infill>": ("", ""),
        f"Image of <mask>: <image:{picture}> <infill>": ("Image of", ":"),
        "a red <mask> on a blue ground": ("a red", " on a blue ground"),
    }
    of = kind(documents)
    copy = of.tokenizer.decode(of.tokenizer.encode(of.resize_images(np.asarray(Image.open(picture))[None])))
    for i, (prompt, (before, behind)) in enumerate(asked.items()):
        assert main(["sample", str(documents), "--prompt", prompt, "--out", f"{i}.jsonl", "--json"]) == 0
        (said,) = last(capsys)["said"]
        (line,) = lines(f"{i}.jsonl")
        text = line["document"][0]
        assert text.startswith(before)
        assert text.endswith(behind)
        assert text[len(before) : len(text) - len(behind)].strip() == said
        shown = [np.asarray(Image.open(item["image"])) for item in line["document"][1:]]
        assert len(shown) == (i < 2)
        assert all((one == copy[0].permute(1, 2, 0).numpy()).all() for one in shown)


def test_a_question_is_answered(documents: pathlib.Path, scenes: pathlib.Path) -> None:
    words = ["--ask", str(scenes / "pairs" / "0001.png"), "What colour is it?", "-n", "2", "--out", "new.jsonl"]
    assert main(["sample", str(documents), *words]) == 0
    for line in lines("new.jsonl"):
        text, shown = line["document"]
        assert text.startswith("Question: What colour is it? Answer: ")
        assert text.endswith(".")
        assert shown.keys() == {"image"}


def test_an_edit_comes_last(documents: pathlib.Path, scenes: pathlib.Path) -> None:
    """Both scales at 1 leave out what is compared, up to rounding: the same documents."""
    words = ("--edit", scenes / "pairs" / "0001.png", "make it red", "-n", 2)
    assert main(["sample", str(documents), *map(str, words), "--out", "new.jsonl"]) == 0
    (first, _) = (line["document"] for line in lines("new.jsonl"))
    assert first[0] == EDIT
    assert first[2] == "make it red"
    assert [*first[1], *first[3]] == ["image", "image"]
    plain = sample(documents, *words)
    assert sample(documents, *words, "--picture-guidance", 1) == plain
    assert sample(documents, *words, "--picture-guidance", 1.5, "--guidance", 7.5) != plain


def test_white_parts_alone_are_drawn_anew(palette: pathlib.Path, hole: list[str]) -> None:
    """A palette keeps every pixel, so that those under black are what they were; the mask has another size."""
    assert main(["sample", str(palette), *hole, "-n", "2", "--out", "new.npz"]) == 0
    drawn, real = np.load("new.npz")["pictures"][:, 0].astype(int), np.asarray(Image.open("real.png").convert("RGB"))
    kept = np.asarray(Image.open("hole.png"))[::2, ::2] == 0
    assert (~kept).sum() == 8
    assert (drawn[:, kept] == real[kept]).all()
    assert (drawn[:, ~kept] != real[~kept]).any()


def test_what_is_kept_of_a_picture_is_its_own_pixels(documents: pathlib.Path, hole: list[str]) -> None:
    """Not what a tokeniser keeps of them, which here has learned nothing; each of its codes fills 2 x 2 pixels."""
    assert main(["sample", str(documents), *hole, "-n", "2", "--out", "new.npz"]) == 0
    drawn, real = np.load("new.npz")["pictures"][:, 0].astype(int), np.asarray(Image.open("real.png").convert("RGB"))
    kept = np.asarray(Image.open("hole.png"))[::2, ::2] == 0
    assert (drawn[:, kept] == real[kept]).all()
    assert (drawn[:, ~kept] != real[~kept]).all(-1).any()


@pytest.mark.slow
def test_guidance_and_contrast(documents: pathlib.Path) -> None:
    """At 0 words say nothing, at 1 all; both ways beside each other take turns."""
    ask = ("-n", 4, "--prompt")
    plain, without = sample(documents, *ask, CIRCLE), sample(documents, *ask, CIRCLE, "--guidance", 0)
    codes = kind(documents).symbols.picture + 1
    others, without_others = sample(documents, *ask, RING), sample(documents, *ask, RING, "--guidance", 0)
    assert [row[-codes:] for row in without] == [row[-codes:] for row in without_others]
    assert [row[-codes:] for row in plain] != [row[-codes:] for row in others]
    guided = sample(documents, *ask, CIRCLE, "--guidance", 3)
    contrasted = sample(documents, *ask, CIRCLE, "--contrast", "8:0.1")
    both = sample(documents, *ask, CIRCLE, "--guidance", 3, "--contrast", "8:0.1")
    assert both == [guided[0], contrasted[1], guided[2], contrasted[3]]
    assert guided != contrasted


def test_the_best_of_several_is_the_one_that_fits(documents, palette, hole, capsys):
    four, two = sample(palette, *hole, "-n", 4), sample(palette, *hole, "-n", 2, "--best-of", 2)
    rows = generate_documents.decoded(kind(palette), [torch.tensor(row) for row in four])
    first, second = generate_documents.similarities(kind(palette), rows).unflatten(0, (2, 2)).argmax(1).tolist()
    assert len({*map(tuple, four)}) == 4
    assert two == [four[first], four[2 + second]]
    caption = ["--prompt", "<image:real.png> <infill>", "-n", "2", "--best-of", "3"]
    assert main(["sample", str(documents), *caption, "--out", "new.jsonl", "--json"]) == 0
    assert last(capsys)["said"] == [line["document"][0].strip() for line in lines("new.jsonl")]


@pytest.mark.slow
def test_a_memory_stands_in_front(documents, scenes, monkeypatch):
    """Asked with the words of one, that one stands last; a folder and what is built of it are the same."""
    prompts: list[Tensor] = []
    generate = generate_documents.generate

    def heard(network: Any, streams: list[list[Tensor]], *words: Any, **more: Any) -> list[Tensor]:
        prompts.append(streams[0][0])
        return generate(network, streams, *words, **more)

    monkeypatch.setattr(generate_documents, "generate", heard)
    of, memory = kind(documents), build_datastore(kind(documents), str(scenes / "memory"))
    rows = [row[row < of.symbols.num_outputs] for row in memory.rows]
    words = next(of.vocabulary.decode(row[of.symbols.is_text(row)].tolist()) for row in rows)
    assert main(["data", "memory", str(scenes / "memory"), "--run", str(documents), "--out", "memory.npz"]) == 0
    drawn = [
        sample(documents, "--prompt", words, "-n", 1, "--memory", source, *count)
        for source in (scenes / "memory", "memory.npz")
        for count in ((), ("--documents", 1), ("--documents", 0))
    ]
    assert drawn[:3] == drawn[3:]
    plain = prompts[2]
    assert torch.equal(prompts[1], torch.cat([rows[0], plain]))
    assert torch.equal(prompts[0][-len(prompts[1]) :], prompts[1])
    (before,) = {len(prompts[0]) - len(prompts[1])}
    assert any(torch.equal(prompts[0][:before], row) for row in rows[1:])
    assert drawn[0][0][: len(plain)] == plain.tolist()  # what stood in front is no part of the document


def test_a_memory_of_documents_in_arrays(documents, scenes, capsys):
    """As `sample --out` writes them; what is looked up is told, and why it is less than was asked for."""
    data = read(str(scenes / "memory"), like=kind(documents))
    data.modality.write(data.values, data.given, pathlib.Path("drawn.npz"))
    for count, said in ((1, "retrieved: "), (0, "retrieved: nothing\n"), (9, " of 4: the context is full)")):
        words = ["--prompt", "a", "--memory", "drawn.npz", "--documents", str(count), "-n", "1", "--out", "new.jsonl"]
        assert main(["sample", str(documents), *words, "--overwrite"]) == 0
        assert said in capsys.readouterr().err


def test_words_are_drawn_sharper_than_pictures(documents, scenes, monkeypatch):
    found = []
    generate = generate_documents.generate

    def heard(*words: Any, specs: Any, **more: Any) -> list[Tensor]:
        found.append(specs[0].token_sampler)
        return generate(*words, specs=specs, **more)

    monkeypatch.setattr(generate_documents, "generate", heard)
    picture = scenes / "pairs" / "0001.png"
    for words in (("--prompt", f"<image:{picture}> <infill>"), ("--ask", picture, "what"), ("--prompt", "a")):
        sample(documents, *words, "-n", 1)
    sample(documents, "--ask", picture, "what", "--top-k", 3)
    assert found == [TokenSampler(0.5), TokenSampler(0.5), TokenSampler(), TokenSampler(1.0, 3)]


def test_pictures_that_lose_their_sides_are_told(documents: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for size, told in (((40, 30), True), ((40, 40), False)):
        Image.new("RGB", size).save("picture.png")
        words = ["--prompt", "<image:picture.png> <infill>", "--out", "new.jsonl", "--overwrite"]
        assert main(["sample", str(documents), *words]) == 0
        assert ("1 of 1 images cropped" in capsys.readouterr().err) is told


def test_evaluation(documents: pathlib.Path, scenes: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = json.loads((documents / "report.json").read_text())["numbers"]
    assert 1 < numbers["picture_perplexity"] < 1.2 * kind(documents).symbols.num_outputs
    assert {"text_perplexity", "picture_perplexity_1", "picture_perplexity_2", "picture_perplexity_random"} <= {
        *numbers
    }
    assert -1 <= numbers["match_real"] <= 1
    assert numbers["match_others"] != numbers["match_real"]  # others have other codes
    assert numbers["psnr"] < numbers["psnr_shrunk"]  # its tokeniser has learned nothing
    told = json.loads((documents / "report.json").read_text())
    assert "more --tokenizer.steps" in told["judged"]
    anew = next(command for command, what in told["next_steps"] if what.startswith("start a new fit"))
    assert anew.count("--tokenizer.steps") == 1
    assert "--tokenizer.steps 20 " in anew
    assert f"--out {documents}-anew" in anew
    assert numbers["bits_per_token"] == pytest.approx(np.log2(numbers["perplexity"]))
    held_out = scenes / "instructions-held-out" / "documents.jsonl"
    assert main(["evaluate", str(documents), "--data", str(held_out), "--json"]) == 0
    asked = last(capsys)
    assert asked["compared_with"] == str(held_out)
    page = (documents / "report-documents-jsonl.html").read_text()
    for words in ("Prompt, real image", "above their reconstructions by the image tokenizer", "Unconditional samples"):
        assert words in page
    assert json.loads((documents / "report.json").read_text())["numbers"] == numbers


def test_instructions_are_learned_on(documents, scenes, monkeypatch, capsys):
    """Vocabulary, tokeniser and what finds documents stay; rare tasks come more often."""
    data = scenes / "instructions" / "documents.jsonl"
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    assert main(["fit", str(data), "--start-from", str(documents), "--steps", "1", "--out", "tuned"]) == 0
    assert kind(pathlib.Path("tuned")).vocabulary == kind(documents).vocabulary
    for part in ("tokenizer", "vectors"):
        assert same(weights("tuned", part), weights(documents, part))
    told = capsys.readouterr().err
    assert "training the" not in told
    kept = int(told.split(" held out")[0].rpartition(" ")[2])
    tasks = Counter(line["task"] for line in lines(data))
    assert kept == 4
    least = sum(max(1, round(min(3, max(0.3, 36 / 8 / count)) * (count - kept))) for count in tasks.values())
    most = sum(round(min(3, max(0.3, 36 / len(tasks) / max(count - kept, 1))) * count) for count in tasks.values())
    assert least <= int(told.split(" training examples")[0].rpartition(" ")[2]) <= most


def test_a_tokeniser_of_another_run(other, scenes, monkeypatch, capsys):
    """It is taken as it is, also by a run that was stopped before it had begun to learn."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    words = ["fit", str(scenes / "pairs"), "--tokenizer", str(other), *LEARN, "--steps", "2", "--out"]
    assert main([*words, "whole"]) == 0
    assert same(weights("whole", "tokenizer"), weights(other, "average"))
    assert "training the tokenizer" not in capsys.readouterr().err
    learn = AuxiliaryTraining.train

    def stopped(self: AuxiliaryTraining, *words: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AuxiliaryTraining, "train", stopped)
    assert main([*words, "paused"]) == 130
    assert "feller fit --resume --out paused" in capsys.readouterr().err
    monkeypatch.setattr(AuxiliaryTraining, "train", learn)
    (pathlib.Path("paused") / "tokenizer.safetensors").unlink()  # as if it were stopped a little earlier
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    assert same(weights("whole", *ALL), weights("paused", *ALL))


@pytest.mark.slow
def test_a_stop_changes_nothing(documents, scenes, monkeypatch, capsys):
    """Ctrl-C in the second step, with previews on the way: parts are trained once, the weights are the same to the bit.

    Of the documents that stand in front each is one of those that are learned from, and never the one itself; that none
    of 32 has any would have a chance of 3^-32.
    """
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 0.0)
    loss, packed, calls, seen = CausalMaskedLM.loss, CausalMaskedLM.pack_batch, [], []

    def stopped(self: CausalMaskedLM, *words: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 3:  # the first is the trial
            signal.raise_signal(signal.SIGINT)
        return loss(self, *words)

    def heard(self: CausalMaskedLM, rows: Tensor, front: Tensor, draws: Any) -> Any:
        seen.append((rows, front))
        return packed(self, rows, front, draws)

    monkeypatch.setattr(CausalMaskedLM, "loss", stopped)
    words = ["fit", str(scenes / "pairs"), *LEARN, *OWN, "--out", "paused"]
    assert main(words) == 130
    assert len(calls) < 6
    assert Image.open("paused/preview.png").width > 16
    monkeypatch.setattr(CausalMaskedLM, "loss", loss)
    monkeypatch.setattr(CausalMaskedLM, "pack_batch", heard)
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 60.0)
    assert main(["fit", "--resume", "--out", "paused"]) == 0
    assert capsys.readouterr().err.count("training the") == 2
    assert same(weights(documents, *ALL), weights("paused", *ALL))
    pad = kind(documents).symbols.pad
    all_rows = {tuple(row) for rows, _ in seen for row in rows.tolist()}
    stood = 0
    for rows, front in seen[1:]:  # the first is the trial
        for row, some in zip(rows.tolist(), front.tolist(), strict=True):
            before = [tuple(one) for one in some if one[0] != pad]
            assert {*before} <= all_rows - {tuple(row)}
            stood += len(before)
    assert stood > 0


def test_few_squares_need_no_tokeniser(scenes: pathlib.Path) -> None:
    """Each of those that there are in any picture is a code, without asking."""
    run = unjudged(scenes, "squares", *LEARN, "--steps", "1")
    codes, pictures = kind(run).tokenizer, read(str(scenes / "pairs"), like=kind(run)).values["pictures"][:, 0]
    assert isinstance(codes, Tiles)
    assert torch.equal(codes.decode(codes.encode(pictures)), pictures)
    assert not (run / "tokenizer.safetensors").exists()


def test_pictures_are_written_once(scenes: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds documents, the memory and all batches share the codes of the tokeniser as it is kept."""
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    heard: list[tuple[Tensor, Tensor]] = []
    encode = LearnedImageTokenizer.encode

    def told(self: LearnedImageTokenizer, pictures: Tensor) -> Tensor:
        heard.append((pictures, encode(self, pictures)))
        return heard[-1][1]

    monkeypatch.setattr(LearnedImageTokenizer, "encode", told)
    words = [*LEARN, *OWN, "--steps", "2", "--out", "run"]
    assert main(["fit", str(scenes / "pairs"), *words]) == 0
    assert [len(pictures) for pictures, _ in heard] == [2, 36]  # of the trial, and all that are learned from
    pictures, codes = heard[1]
    assert torch.equal(kind(pathlib.Path("run")).tokenizer.encode(pictures), codes)


def test_a_new_run_has_new_parts(documents, scenes, monkeypatch):
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    shutil.copytree(documents, "run")
    before = weights("run", "tokenizer")
    words = [*LEARN, "--steps", "1", *OWN[:-1], "1", "--out", "run"]
    assert main(["fit", str(scenes / "pairs"), *words, "--overwrite"]) == 0
    assert not same(before, weights("run", "tokenizer"))


def test_pictures_of_documents_are_pictures(other: pathlib.Path, palette: pathlib.Path) -> None:
    """A tokeniser learns from a folder with captions as from one without; a palette has the colours that there are."""
    assert load_model(open_run(other)).spec.modality.display_name == "images"
    codes: Any = kind(palette).image_tokenizer
    assert 2 < codes.codebook_size <= 256
    data = read(str(palette.parent / "scenes" / "pairs"), like=kind(palette))
    state = kind(palette).encode(data.values)
    back = kind(palette).decode(state)
    assert torch.equal(back["pictures"], data.values["pictures"])
    assert int((back["rows"] == IMAGE_MARK).sum()) == 40


def test_lines_of_several_holes_say_which_they_fill() -> None:
    assert generate_documents._label_holes("red\nblue", 2) == "<mask> 1: red\n<mask> 2: blue"
    assert generate_documents._label_holes("red", 1) == "red"
    assert generate_documents._label_holes("red\nor\nblue", 2) == "red\nor\nblue"  # a text has lines of its own


def test_why_less_is_looked_up_is_told() -> None:
    assert (
        generate_documents._retrieved_text(("a", "b"), 4, fits=True)
        == "retrieved: 'a'; 'b' (2 of 4: the others are too similar to these)"
    )
    assert generate_documents._retrieved_text(("a",), 4, fits=False).endswith("(1 of 4: the context is full)")
    assert generate_documents._retrieved_text(("a",), 1, fits=True) == "retrieved: 'a'"


@pytest.mark.parametrize(
    ("manner", "guide"),
    [
        (DocumentSamplingConfig(), NoGuidance()),
        (DocumentSamplingConfig(guidance=3.0), ClassifierFreeGuidance(3.0, 0.1)),
        (DocumentSamplingConfig(guidance=3.0, min_p=0.0), ClassifierFreeGuidance(3.0)),
        (DocumentSamplingConfig(guidance=0.5), ClassifierFreeGuidance(0.5)),
        (DocumentSamplingConfig(picture_guidance=2.0), DualGuidance(2.0, 1.0, 0.1)),
        (DocumentSamplingConfig(contrast=(4, 0.2)), ContrastiveDecoding(4, 0.2)),
    ],
)
def test_guidance_above_one_keeps_to_what_is_plausible(manner: DocumentSamplingConfig, guide: TokenGuidance) -> None:
    assert manner.guidance_modes(of_picture=True) == (guide,)
