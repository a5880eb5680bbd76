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
from feller.app.workflows.fitting.auxiliary_training import AuxiliaryTraining
from feller.core.errors import InputError
from feller.core.run_folder import open_run
from feller.core.safetensors_io import load_tensors
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
)
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from tests.app import asked
from tests.conftest import LEARN, OWN
from tests.errors import refuses
from tests.evaluation.report.reader import read as read_page

pytestmark = pytest.mark.usefixtures("here")

CIRCLE, RING = "a red circle on a blue ground", "two green rings"
ALL = ("weights", "average", "tokenizer", "vectors")


@pytest.fixture(scope="module")
def palette(scenes):
    """Return a run in which every pixel is a token."""
    return fitted(scenes, "palette", "--tokenizer", "palette", *LEARN, "--steps", "2")


@pytest.fixture(scope="module")
def tokenizer(scenes):
    return fitted(scenes, "tokenizer", "--recipe", "image-tokenizer", "--size", "tiny", "--steps", "3")


@pytest.fixture
def hole(scenes):
    """Return words that ask for 2 x 4 pixels of an image, by a mask of twice its size."""
    white = np.zeros((32, 32), np.uint8)
    white[8:12, 4:12] = 255
    Image.fromarray(white).save("hole.png")
    shutil.copy(scenes / "pairs" / "0001.png", "real.png")
    return ["--prompt", f"{CIRCLE} <image:real.png>", "--mask", "hole.png"]


def fitted(scenes, name, *words):
    """Fit a run without a report, which takes longest."""
    return fit(scenes, *words, out=scenes.parent / name)


def fit(scenes, *words, out):
    assert main(["fit", str(scenes / "pairs"), *words, "--report", "none", "--out", str(out)]) == 0
    return pathlib.Path(out)


def sample(run, *words):
    """Return the tokens of samples."""
    asked.run("sample", run, *words, "--out", "drawn.json", "--overwrite")
    return json.loads(pathlib.Path("drawn.json").read_text())["tokens"]


def lines(file):
    return [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]


def kind(run):
    return require_documents(load_model(open_run(run)))


def weights(run, *names):
    return [leaf for name in names for leaf in load_tensors(pathlib.Path(run) / f"{name}.safetensors")[0].values()]


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@pytest.mark.slow
def test_prompt_becomes_documents_with_whole_images(documents):
    asked.run("sample", documents, "--prompt", CIRCLE, "-n", 2, "--out", "new")
    names = ["00000.png", "00001.png", "grid.png", "samples.jsonl"]
    assert sorted(path.name for path in pathlib.Path("new").iterdir()) == names
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


def test_output_formats_agree(palette, hole):
    for out in ("new.json", "new.jsonl", "new.npz"):
        asked.run("sample", palette, *hole, "-n", 2, "--seed", 4, "--out", out)
    about = json.loads(pathlib.Path("new.json").read_text())
    assert about["texts"] == [CIRCLE] * 2
    assert about["symbols"]["pictures"] == [about["symbols"]["text"][1], about["symbols"]["<eos>"]]
    tokens = torch.tensor(about["tokens"])
    data = read("new.jsonl", like=kind(palette))
    for file in ("new.jsonl", "new.npz"):
        assert torch.equal(kind(palette).encode(read(file, like=kind(palette)).values), tokens)
    with refuses(InputError):
        read("new.json", like=kind(palette))
    arrays = np.load("new.npz")
    assert np.array_equal(arrays["tokens"], tokens.numpy())
    assert np.array_equal(arrays["pictures"][:, 0], data.values["pictures"][:, 0].permute(0, 2, 3, 1).numpy())
    assert json.loads(arrays["samples"][0])[0] == CIRCLE
    assert not (palette / "tokenizer.safetensors").exists()


@pytest.mark.slow
def test_documents_depend_on_the_seed(documents):
    ask = ("--prompt", CIRCLE, "--seed")
    three, two = sample(documents, *ask, 1, "-n", 3), sample(documents, *ask, 1, "-n", 2)
    assert three[:2] == two
    assert three[0] != three[1]
    assert sample(documents, *ask, 2, "-n", 2) != two
    (free,) = sample(documents, "-n", 1)
    assert free[0] == kind(documents).symbols.eos


def test_infill_keeps_the_rest(documents, scenes):
    picture = scenes / "pairs" / "0001.png"
    prompts = {
        f"<image:{picture}> <infill>": ("", ""),
        f"Image of <mask>: <image:{picture}> <infill>": ("Image of", ":"),
        "a red <mask> on a blue ground": ("a red", " on a blue ground"),
    }
    of = kind(documents)
    copy = of.tokenizer.decode(of.tokenizer.encode(of.resize_images(np.asarray(Image.open(picture))[None])))
    for i, (prompt, (before, behind)) in enumerate(prompts.items()):
        (said,) = asked.run("sample", documents, "--prompt", prompt, "--out", f"{i}.jsonl")["said"]
        text, *images = lines(f"{i}.jsonl")[0]["document"]
        assert text.startswith(before)
        assert text.endswith(behind)
        assert text[len(before) : len(text) - len(behind)].strip() == said
        shown = [np.asarray(Image.open(item["image"])) for item in images]
        assert len(shown) == (i < 2)
        assert all((one == copy[0].permute(1, 2, 0).numpy()).all() for one in shown)


def test_question_is_answered(documents, scenes):
    picture = scenes / "pairs" / "0001.png"
    asked.run("sample", documents, "--ask", picture, "What colour is it?", "-n", 2, "--out", "new.jsonl")
    for line in lines("new.jsonl"):
        text, shown = line["document"]
        assert text.startswith("Question: What colour is it? Answer: ")
        assert text.endswith(".")
        assert shown.keys() == {"image"}


def test_edit_comes_last(documents, scenes):
    """Guidance scales of 1 change nothing."""
    words = ("--edit", scenes / "pairs" / "0001.png", "make it red", "-n", 2)
    asked.run("sample", documents, *words, "--out", "new.jsonl")
    first = lines("new.jsonl")[0]["document"]
    assert (first[0], first[2]) == (EDIT, "make it red")
    assert [*first[1], *first[3]] == ["image", "image"]
    plain = sample(documents, *words)
    assert sample(documents, *words, "--picture-guidance", 1) == plain
    assert sample(documents, *words, "--picture-guidance", 1.5, "--guidance", 7.5) != plain


@pytest.mark.parametrize("name", ["palette", "documents"])
def test_only_white_pixels_of_a_mask_are_drawn(name, hole, request):
    """The kept pixels are those of the image, not of its reconstruction by the tokenizer."""
    asked.run("sample", request.getfixturevalue(name), *hole, "-n", 2, "--out", "new.npz")
    drawn, real = np.load("new.npz")["pictures"][:, 0].astype(int), np.asarray(Image.open("real.png").convert("RGB"))
    kept = np.asarray(Image.open("hole.png"))[::2, ::2] == 0
    assert (~kept).sum() == 8
    assert (drawn[:, kept] == real[kept]).all()
    assert (drawn[:, ~kept] != real[~kept]).any()


@pytest.mark.slow
def test_guidance_and_contrast(documents):
    """At 0 the prompt is ignored; with both, samples alternate."""
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


def test_best_of_several_has_the_highest_similarity(documents, palette, hole):
    four, two = sample(palette, *hole, "-n", 4), sample(palette, *hole, "-n", 2, "--best-of", 2)
    rows = generate_documents.decoded(kind(palette), [torch.tensor(row) for row in four])
    first, second = generate_documents.similarities(kind(palette), rows).unflatten(0, (2, 2)).argmax(1).tolist()
    assert len({*map(tuple, four)}) == 4
    assert two == [four[first], four[2 + second]]
    caption = ("--prompt", "<image:real.png> <infill>", "-n", 2, "--best-of", 3, "--out", "new.jsonl")
    said = asked.run("sample", documents, *caption)["said"]
    assert said == [line["document"][0].strip() for line in lines("new.jsonl")]


@pytest.mark.slow
def test_retrieved_documents_precede_the_prompt(documents, scenes, monkeypatch):
    """The most similar comes last; a folder and the datastore of it give the same."""
    prompts: list[Tensor] = []
    generate = generate_documents.generate

    def heard(network, streams, *words, **more):
        prompts.append(streams[0][0])
        return generate(network, streams, *words, **more)

    monkeypatch.setattr(generate_documents, "generate", heard)
    of, memory = kind(documents), build_datastore(kind(documents), str(scenes / "memory"))
    rows = [row[row < of.symbols.num_outputs] for row in memory.rows]
    words = next(of.vocabulary.decode(row[of.symbols.is_text(row)].tolist()) for row in rows)
    asked.run("data", "memory", scenes / "memory", "--run", documents, "--out", "memory.npz")
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
    assert drawn[0][0][: len(plain)] == plain.tolist()


def test_memory_of_documents_in_arrays(documents, scenes):
    """As `sample --out` writes them."""
    data = read(str(scenes / "memory"), like=kind(documents))
    data.modality.write(data.values, data.given, pathlib.Path("written.npz"))
    words = ("--prompt", "a", "--documents", 1, "-n", 1, "--memory")
    assert sample(documents, *words, "written.npz") == sample(documents, *words, scenes / "memory")


def test_text_is_drawn_at_a_lower_temperature_than_images(documents, scenes, monkeypatch):
    found = []
    generate = generate_documents.generate

    def heard(*words, specs, **more):
        found.append(specs[0].token_sampler)
        return generate(*words, specs=specs, **more)

    monkeypatch.setattr(generate_documents, "generate", heard)
    picture = scenes / "pairs" / "0001.png"
    for words in (("--prompt", f"<image:{picture}> <infill>"), ("--ask", picture, "what"), ("--prompt", "a")):
        sample(documents, *words, "-n", 1)
    sample(documents, "--ask", picture, "what", "--top-k", 3)
    assert found == [TokenSampler(0.5), TokenSampler(0.5), TokenSampler(), TokenSampler(1.0, 3)]


def test_cropped_images_are_noted(documents, capsys):
    for size, is_cropped in (((40, 30), True), ((40, 40), False)):
        Image.new("RGB", size).save("picture.png")
        sample(documents, "--prompt", "<image:picture.png> <infill>")
        assert ("cropped" in capsys.readouterr().err) is is_cropped


def test_evaluation(documents, scenes):
    report = json.loads((documents / "report.json").read_text())
    numbers = report["numbers"]
    assert 1 < numbers["picture_perplexity"] < 1.2 * kind(documents).symbols.num_outputs
    assert {f"picture_perplexity_{end}" for end in ("1", "2", "random")} | {"text_perplexity"} <= {*numbers}
    assert -1 <= numbers["match_real"] <= 1
    assert numbers["match_others"] != numbers["match_real"]  # others have other codes
    assert numbers["psnr"] < numbers["psnr_shrunk"]  # the tokenizer is untrained
    assert numbers["bits_per_token"] == pytest.approx(np.log2(numbers["perplexity"]))
    (anew,) = (command for command, _ in report["next_steps"] if f"--out {documents}-anew" in command)
    assert anew.count("--tokenizer.steps") == anew.count("--tokenizer.steps 20 ") == 1
    held_out = scenes / "instructions-held-out" / "documents.jsonl"
    assert asked.run("evaluate", documents, "--data", held_out)["compared_with"] == str(held_out)
    captions = [
        one.text for one in read_page((documents / "report-documents-jsonl.html").read_text()).all("figcaption")
    ]
    assert len(captions) >= 3
    assert json.loads((documents / "report.json").read_text())["numbers"] == numbers


def test_fine_tuning_on_instructions_keeps_the_tokenizer(documents, scenes, capsys):
    """Vocabulary, tokenizer and document encoder stay; rare tasks are oversampled."""
    data = scenes / "instructions" / "documents.jsonl"
    asked.run("fit", data, "--start-from", documents, "--steps", 1, "--report", "none", "--out", "tuned")
    assert kind(pathlib.Path("tuned")).vocabulary == kind(documents).vocabulary
    for part in ("tokenizer", "vectors"):
        assert same(weights("tuned", part), weights(documents, part))
    told = capsys.readouterr().err
    kept = int(told.split(" held out")[0].rpartition(" ")[2])
    tasks = Counter(line["task"] for line in lines(data))
    assert kept == 4
    least = sum(max(1, round(min(3, max(0.3, 36 / 8 / count)) * (count - kept))) for count in tasks.values())
    most = sum(round(min(3, max(0.3, 36 / len(tasks) / max(count - kept, 1))) * count) for count in tasks.values())
    assert least <= int(told.split(" training examples")[0].rpartition(" ")[2]) <= most


def test_tokenizer_of_another_run_is_taken_as_it_is(tokenizer, scenes, monkeypatch):
    """Also by a run that was stopped before its first step."""
    words = ("--tokenizer", str(tokenizer), *LEARN, "--steps", "2")
    fit(scenes, *words, out="whole")
    assert same(weights("whole", "tokenizer"), weights(tokenizer, "average"))
    learn = AuxiliaryTraining.train

    def stopped(self, *words):
        raise KeyboardInterrupt

    monkeypatch.setattr(AuxiliaryTraining, "train", stopped)
    assert main(["fit", str(scenes / "pairs"), *words, "--report", "none", "--out", "paused"]) == 130
    monkeypatch.setattr(AuxiliaryTraining, "train", learn)
    (pathlib.Path("paused") / "tokenizer.safetensors").unlink()  # as if it were stopped a little earlier
    asked.run("fit", "--resume", "--report", "none", "--out", "paused")
    assert same(weights("whole", *ALL), weights("paused", *ALL))


@pytest.mark.slow
def test_interrupted_fit_ends_bit_for_bit(documents, scenes, monkeypatch, capsys):
    """Ctrl-C in the second step, with previews on the way; auxiliary networks are trained once.

    Documents in front are other training documents; that none of 32 has any would have a chance of 3^-32.
    """
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 0.0)
    loss, packed, calls, seen = CausalMaskedLM.loss, CausalMaskedLM.pack_batch, [], []

    def stopped(self, *words):
        calls.append(1)
        if len(calls) == 3:  # the first is the trial
            signal.raise_signal(signal.SIGINT)
        return loss(self, *words)

    def heard(self, rows, front, draws):
        seen.append((rows, front))
        return packed(self, rows, front, draws)

    monkeypatch.setattr(CausalMaskedLM, "loss", stopped)
    assert main(["fit", str(scenes / "pairs"), *LEARN, *OWN, "--report", "none", "--out", "paused"]) == 130
    assert len(calls) < 6
    assert Image.open("paused/preview.png").width > 16
    monkeypatch.setattr(CausalMaskedLM, "loss", loss)
    monkeypatch.setattr(CausalMaskedLM, "pack_batch", heard)
    monkeypatch.setattr("feller.training.callbacks.CHECKPOINT_SECONDS", 60.0)
    asked.run("fit", "--resume", "--report", "none", "--out", "paused")
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


def test_few_tiles_need_no_learned_tokenizer(scenes):
    run = fitted(scenes, "squares", *LEARN, "--steps", "1")
    codes, pictures = kind(run).tokenizer, read(str(scenes / "pairs"), like=kind(run)).values["pictures"][:, 0]
    assert isinstance(codes, Tiles)
    assert torch.equal(codes.decode(codes.encode(pictures)), pictures)
    assert not (run / "tokenizer.safetensors").exists()


def test_images_are_encoded_once(scenes, monkeypatch):
    """The document encoder, the datastore and all batches share the codes."""
    heard: list[tuple[Tensor, Tensor]] = []
    encode = LearnedImageTokenizer.encode

    def recorded(self, pictures):
        heard.append((pictures, encode(self, pictures)))
        return heard[-1][1]

    monkeypatch.setattr(LearnedImageTokenizer, "encode", recorded)
    run = fit(scenes, *LEARN, *OWN, "--steps", "2", out="run")
    assert [len(pictures) for pictures, _ in heard] == [2, 36]  # of the trial, and all training examples
    pictures, codes = heard[1]
    assert torch.equal(kind(run).tokenizer.encode(pictures), codes)


def test_overwritten_run_has_a_new_tokenizer(documents, scenes):
    shutil.copytree(documents, "run")
    before = weights("run", "tokenizer")
    fit(scenes, *LEARN, "--steps", "1", *OWN[:-1], "1", "--overwrite", out="run")
    assert not same(before, weights("run", "tokenizer"))


def test_tokenizers_and_palettes_of_documents(tokenizer, palette):
    assert load_model(open_run(tokenizer)).spec.modality.display_name == "images"
    codes: Any = kind(palette).image_tokenizer
    assert 2 < codes.codebook_size <= 256
    data = read(str(palette.parent / "scenes" / "pairs"), like=kind(palette))
    back = kind(palette).decode(kind(palette).encode(data.values))
    assert torch.equal(back["pictures"], data.values["pictures"])
    assert int((back["rows"] == IMAGE_MARK).sum()) == 40


def test_labels_of_several_holes():
    assert generate_documents._label_holes("red\nblue", 2) == "<mask> 1: red\n<mask> 2: blue"
    assert generate_documents._label_holes("red", 1) == "red"
    assert generate_documents._label_holes("red\nor\nblue", 2) == "red\nor\nblue"  # a text has lines of its own


def test_number_of_retrieved_documents_is_noted():
    assert "(2 of 4" in generate_documents._retrieved_text(("a", "b"), 4, fits=True)
    assert "(1 of 4" in generate_documents._retrieved_text(("a",), 4, fits=False)
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
def test_guidance_above_one_has_a_minimum_probability(manner, guide):
    assert manner.guidance_modes(of_picture=True) == (guide,)
