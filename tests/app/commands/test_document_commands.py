"""Documents on the command line: every wrong input in one line that says what to do, and nothing executed."""

import json
import pathlib
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import main
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import TextItem
from tests.conftest import LEARN
from tests.data.documents.written import lines, square


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a picture, masks and an empty folder at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
    square(tmp_path, "cat.png", 0)
    Image.new("L", (5, 5)).save("black.png")
    (tmp_path / "empty").mkdir()


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("moons") / "run"
    assert main(["fit", "example:moons", "--size", "tiny", "--steps", "1", "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def letters(scenes: pathlib.Path) -> pathlib.Path:
    """Return a run that knows few characters."""
    run, words = scenes.parent / "letters", ["--vocabulary", "characters", *LEARN, "--steps", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        assert main(["fit", str(scenes / "pairs"), *words, "--out", str(run)]) == 0
    return run


Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return what tries words and returns the one line that refuses them."""

    def told(status: int, *words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == status, words
        out, err = capsys.readouterr()
        found = [line for line in err.splitlines() if line.startswith("feller: ")]
        assert found == err.splitlines()[-1:], err
        assert "Traceback" not in err
        assert not out
        return found[0]

    return told


CAPTION = "<image:cat.png> <infill>"


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (2, ["--mask", "black.png"], "--mask: requires a --prompt"),
        (2, ["--prompt", "a cat", "--mask", "black.png"], "one <image:FILE>; found 0"),
        (2, ["--prompt", "<image:cat.png> <image:cat.png>", "--mask", "black.png"], "one <image:FILE>; found 2"),
        (2, ["--prompt", "a cat <image:cat.png>", "--mask", "black.png"], "white pixels in the mask"),
        (1, ["--prompt", "a cat <image:cat.png>", "--mask", "none.png"], "found none.png"),
        (1, ["--prompt", "<image:none.png> <infill>"], "found none.png"),
        (2, ["--prompt", " "], "the prompt is empty"),
        (2, ["--prompt", "<image:> <infill>"], "a file name in <image:FILE>"),
        (2, ["--prompt", "a", "--memory", " "], "--memory: expected documents"),
        (2, ["--edit", "cat.png"], "--edit: expected an image and words in quotes"),
        (2, ["--ask", "cat.png", "what", "colour"], "found cat.png what colour"),
        (2, ["--edit", "--prompt", "a cat"], "--edit: expected a value"),
        (2, ["--prompt", "a cat", "--ask"], "--ask: expected a value"),
        (2, ["--edit", "cat.png", " "], "a text for --edit; found no text"),
        (1, ["--ask", "none.png", "what"], "found none.png"),
        (2, ["--prompt", "a", "--edit", "cat.png", "b"], "found both"),
        (2, ["--prompt", "a", "--ask", "cat.png", "b"], "found both"),
        (2, ["--edit", "cat.png", "a", "--ask", "cat.png", "b"], "found both"),
        (2, ["--prompt", CAPTION, "--guidance", "3"], "guidance and contrast apply only to images"),
        (2, ["--prompt", CAPTION, "--contrast", "8"], "guidance and contrast apply only to images"),
        (2, ["--guidance", "3"], "guidance and contrast apply only to images"),
        (2, ["--prompt", "a", "--guidance", "nan"], "up to 1e+30; found nan"),
        (2, ["--prompt", "a", "--picture-guidance", "2"], "--picture-guidance: applies only with --edit"),
        (2, ["--prompt", "a", "--best-of", "0"], "best-of: expected at least 1; found 0"),
        (2, ["--prompt", "a", "--min-p", "0.2"], "--min-p: applies only with --guidance"),
        (2, ["--prompt", "a", "--guidance", "3", "--min-p", "2"], "min-p: expected"),
        (2, ["--prompt", "a", "--contrast", "x"], "K or K:ALPHA, such as 8:0.1; found 'x'"),
        (2, ["--prompt", "a", "--contrast", "8:y"], "K or K:ALPHA, such as 8:0.1; found '8:y'"),
        (2, ["--prompt", "a", "--contrast", "0"], "found 0"),
        (2, ["--prompt", "a", "--documents", "2"], "--documents: applies only with --memory"),
        (2, ["--prompt", "a", "--memory", "empty", "--documents", "-1"], "at least 0; found -1"),
        (2, ["--memory", "empty"], "a --prompt with --memory; found none"),
        (1, ["--prompt", "a", "--memory", "empty"], "the folder is empty"),
        (1, ["--prompt", "a", "--memory", "none"], "found none"),
        (1, ["--prompt", "a", "--memory", "none.npz"], "the datastore none.npz; found none. Build the datastore"),
        (1, ["--prompt", "a", "--memory", "cat.png"], "expected documents; found images"),
        (2, ["-n", "0"], "-n: expected at least 1; found 0"),
        (2, ["--prompt", "a", "--out", "x.wav"], "Use .jsonl, .json, .npz, or a folder"),
        (2, ["--prompt", "a", "--temperature", "-1"], ": expected at least 0"),
        (2, ["--prompt", "a", "--solver", "euler"], "--solver: does not apply to document models"),
        (2, ["--prompt", "a", "--nfe", "3"], "--nfe: does not apply to document models"),
        (2, ["--given", "label=3"], "--given: does not apply to document models"),
        (2, ["--template", "a cat"], "--template: does not apply to document models"),
        (2, ["--prompt", 6 * "<image:cat.png>"], "fewer than 256 tokens"),
    ],
)
def test_wrong_samples(documents: pathlib.Path, refused: Refused, status: int, words: list[str], said: str) -> None:
    assert said in refused(status, "sample", documents, *words)


def test_flags_of_documents_are_theirs_alone(moons: pathlib.Path, refused: Refused) -> None:
    for flag, *values in (
        *(("--prompt", "a"), ("--mask", "black.png"), ("--edit", "cat.png", "a"), ("--ask", "cat.png", "a")),
        *(("--memory", "empty"), ("--documents", "2"), ("--picture-guidance", "2")),
        *(("--min-p", "0.2"), ("--contrast", "8"), ("--best-of", "2")),
    ):
        assert refused(2, "sample", moons, flag, *values).startswith(f"feller: {flag}: applies to document models only")
    assert "these data are rows of numbers" in refused(2, "fit", "example:moons", "--tokenizer", "palette")
    assert "require a model of documents" in refused(2, "data", "memory", "empty", "--run", moons)


def test_characters_that_the_model_does_not_know(letters: pathlib.Path, refused: Refused) -> None:
    for words in (
        ["--prompt", "a red ∆"],
        ["--prompt", "a red ∆ <image:cat.png> <infill>", "--guidance", "1"],
        ["--edit", "cat.png", "∆"],
        ["--ask", "cat.png", "∆"],
    ):
        assert "characters of the vocabulary" in refused(2, "sample", letters, *words)


def test_other_commands_have_no_use_for_documents(documents: pathlib.Path, refused: Refused) -> None:
    pathlib.Path("own.py").write_text("def dark(x): return -x['pictures'].float().mean((1, 2, 3, 4))\n")
    wish = ("--reward", "own.py:dark", "--steps", "1")
    assert "data are discrete" in refused(2, "steer", documents, *wish, "-n", "1")
    refused(2, "tune", documents, *wish, "--out", "tuned")
    observe = ("--observe", "cat.png", "--operator", "mask", "--mask", "black.png")
    assert "affine path" in refused(2, "steer", documents, *observe)
    assert "one example per row" in refused(2, "audit", documents)
    refused(1, "bridge", documents, documents, "--out", "joined")
    assert "expected documents in --data" in refused(2, "evaluate", documents, "--samples", "cat.png")
    assert "expected documents; found images" in refused(1, "evaluate", documents, "--data", "example:digits")
    assert not pathlib.Path("tuned").exists()


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (2, ["--epsilon", "8"], "private training supports tables (best with --schema) and images; found documents"),
        (2, ["--tokenizer", "palette", "--epsilon", "8"], "found documents"),
        (
            2,
            ["--tokenizer", "none"],
            "--tokenizer: expected one of learned, palette, tiles, or the run of a tokenizer; found 'none'",
        ),
        (2, ["--longest", "7"], "found 7 x 7"),
        (1, ["--longest", "12", "--tokenizer", "palette"], "256 colours"),
        (2, ["--vocabulary", "letters"], "found 'letters'"),
        (2, ["--recipe", "images"], "needs images"),
        (2, ["--target", "label"], "found 'label'"),
        (2, ["--recipe", "distil"], "--start-from"),
    ],
)
def test_wrong_fits(scenes: pathlib.Path, refused: Refused, status: int, words: list[str], said: str) -> None:
    assert said in refused(status, "fit", scenes / "pairs", *LEARN, *words)
    assert not pathlib.Path("runs").exists()


def test_what_a_fit_may_begin_with(documents: pathlib.Path, scenes: pathlib.Path, refused: Refused) -> None:
    fit = ("fit", scenes / "pairs", "--size", "tiny", "--steps", "1")
    assert "is not a tokenizer" in refused(2, *fit, "--tokenizer", documents)
    codes = ("fit", "example:digits", "--size", "tiny", "--recipe", "image-tokenizer", "--steps", "1", "--out", "codes")
    assert main([*codes]) == 0
    said = refused(2, *fit, "--tokenizer", "codes")
    assert [size for size in ("codes ", "8x8", "16x16", "--longest") if size not in said] == []
    on = (*fit, "--start-from", documents)
    assert "use the tokenizer of" in refused(2, *on, "--tokenizer", "palette")
    assert "--vocabulary: " in refused(2, *on, "--vocabulary", "characters")
    for recipe in ("reflow", "distil"):
        assert "flow" in refused(2, *on, "--recipe", recipe)
    assert "expected documents; found images" in refused(1, "fit", "example:digits", "--start-from", documents)
    assert "needs documents" in refused(2, "fit", "example:digits", "--recipe", "interleaved", "--steps", "1")
    assert "not palette" in refused(2, "fit", "--resume", "--out", documents, "--tokenizer", "palette")


def bomb(file: pathlib.Path) -> None:
    """Write a picture of 1.6 gigapixels into a few bytes."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(40_001))),
        (b"IEND", b""),
    )
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _bare(folder: pathlib.Path) -> None:
    (folder / "0001.txt").unlink()


def _lonely(folder: pathlib.Path) -> None:
    (folder / "0001.png").unlink()


def _silent(folder: pathlib.Path) -> None:
    (folder / "0001.txt").write_text(" \n")


def _cut_off(folder: pathlib.Path) -> None:
    (folder / "0001.png").write_bytes((folder / "0002.png").read_bytes()[:60])


def _huge(folder: pathlib.Path) -> None:
    bomb(folder / "0001.png")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_bare, "1 of 40 images have no caption, such as 0001.png"),
        (_lonely, "1 of 40 captions have no image, such as 0001.txt"),
        (_silent, "0001.txt: the caption is empty"),
        (_cut_off, "1 of 40 images cannot be read"),
        (_huge, "decompression bomb"),
    ],
)
def test_wrong_folders(scenes: pathlib.Path, refused: Refused, harm: Callable[[pathlib.Path], None], said: str) -> None:
    shutil.copytree(scenes / "pairs", "pairs")
    harm(pathlib.Path("pairs"))
    assert said in refused(1, "fit", "pairs", *LEARN)
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"image": "../cat.png", "text": "a"}, "found '../cat.png'"),
        ({"image": "/etc/hosts", "text": "a"}, "found '/etc/hosts'"),
        ({"image": "link.png", "text": "a"}, "found 'link.png'"),
        ({"image": "none.png", "text": "a"}, "found no such file"),
        ({"image": "in.png", "text": " "}, "'text' for the image 'in.png'"),
        ({"image": "in\0.png", "text": "a"}, "line 2: expected the file name of an image"),
        ({"image": 300 * "x", "text": "a"}, "line 2: expected the file name of an image"),
        ({"document": [["a"]]}, "line 2: expected a text, or an object"),
    ],
)
def test_wrong_lines(refused: Refused, tmp_path: pathlib.Path, entry: dict[str, Any], said: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    square(folder, "in.png", 1)
    (folder / "link.png").symlink_to(tmp_path / "cat.png")
    file = lines(folder, [{"image": "in.png", "text": "a"}, entry])
    assert said in refused(1, "data", file)


def test_other_sizes_are_brought_to_one_and_told(scenes: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(scenes / "pairs", "pairs")
    Image.new("RGB", (40, 20), "red").save("pairs/0001.png")
    assert main(["data", "pairs"]) == 0
    assert "1 of 40 images were resized to 16x16" in capsys.readouterr().err


def test_words_in_angle_brackets_are_words(documents: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """In captions always, in prompts behind a backslash."""
    square(tmp_path, "a.png", 0, side=16)
    file = lines(tmp_path, [{"image": "a.png", "text": "a <mask> of <eos><break>"}] * 2)
    data = read(str(file))
    kind: Any = data.modality
    assert kind.items(data.values)[0][0] == TextItem("a <mask> of <eos><break>")
    assert (
        main(["sample", str(documents), "--prompt", r"a \<mask> of <eos>\<break>", "-n", "1", "--out", "x.jsonl"]) == 0
    )
    assert json.loads(pathlib.Path("x.jsonl").read_text())["document"][0] == "a <mask> of <eos><break>"


def test_memories_are_of_one_model(documents, letters, scenes, refused):
    for run, file in ((documents, "ours.npz"), (letters, "theirs.npz")):
        assert main(["data", "memory", str(scenes / "memory"), "--run", str(run), "--out", file]) == 0
    ask = ("sample", documents, "--prompt", "a red", "--memory")
    makers = [np.load(file)["makers"] for file in ("ours.npz", "theirs.npz")]
    told = refused(1, *ask, "theirs.npz")
    assert "theirs.npz: belongs to another run: its image tokenizer" in told
    ours = dict(np.load("ours.npz"))
    changes = {
        "vocabulary": {"makers": np.array([makers[0][0], makers[1][1], makers[0][2]])},
        "document encoder": {"makers": np.array([makers[0][0], makers[0][1], makers[1][2]])},
        "vocabulary size": {"symbols": ours["symbols"] + 1},
        "at least one document; found none": {name: ours[name][:0] for name in ("rows", "vectors", "both")},
        "of equal length": {"rows": ours["rows"][:1]},
        "rows of valid tokens": {"rows": ours["rows"] + 10_000},
        "finite vectors": {"vectors": ours["vectors"] * np.nan},
        "embeddings of dimension 512; found 7": {"vectors": ours["vectors"][:, :7]},
        "found invalid rows": {"rows": ours["rows"].astype(str)},
        "contains Python objects": {"rows": np.array([{}])},
    }
    for said, change in changes.items():
        np.savez("changed.npz", allow_pickle=True, **{**ours, **change})
        assert said in refused(1, *ask, "changed.npz")
    whole = pathlib.Path("ours.npz").read_bytes()
    pathlib.Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as numeric arrays" in refused(1, *ask, "cut.npz")
    np.savez("other.npz", samples=np.zeros((3, 2)))
    assert "expected a datastore of documents" in refused(1, *ask, "other.npz")
    assert "expected a file name that ends in .npz" in refused(
        2, "data", "memory", scenes / "memory", "--run", documents, "--out", "m.txt"
    )
    assert "feller data memory DOCUMENTS" in refused(2, "data", "memory")


class Boom:
    """What makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (pathlib.Path("boom"),)


def test_parts_of_a_run_stay_together(documents: pathlib.Path, refused: Refused) -> None:
    for part in ("tokenizer", "vectors"):
        shutil.copytree(documents, "run")
        file = pathlib.Path("run") / f"{part}.safetensors"
        weights, _ = load_tensors(file)
        file.unlink()
        assert f"run/{part}.safetensors: " in refused(1, "sample", "run", "--prompt", "a")
        assert main(["fit", "--resume", "--out", "run", "--steps", "9"]) == 1
        assert not file.exists()
        save_tensors(file, {name: weight[None] for name, weight in weights.items()})
        assert "different runs" in refused(1, "sample", "run", "--prompt", "a")
        save_tensors(file, {name: weight.flip(0) for name, weight in weights.items()})  # of another run of its shape
        other = file.read_bytes()
        for words in (("sample", "run", "--prompt", "a"), ("evaluate", "run"), ("fit", "--resume", "--out", "run")):
            assert f"run/{part}.safetensors: does not match run/model.json" in refused(1, *words)
        new = ("fit", documents.parent / "scenes" / "pairs", "--start-from", "run", "--steps", "1", "--out", "new")
        assert f"run/{part}.safetensors: does not match" in refused(1, *new)
        assert file.read_bytes() == other
        file.write_bytes(pickle.dumps(Boom()))
        assert "is damaged" in refused(1, "sample", "run", "--prompt", "a")
        assert not pathlib.Path("boom").exists()
        shutil.rmtree("run")


def test_strangers_runs_execute_nothing(documents: pathlib.Path, refused: Refused) -> None:
    shutil.copytree(documents, "run")
    record = json.loads((documents / "model.json").read_text())
    evil = {"is": "os.system", "command": "touch boom"}
    for path in (
        ["image_tokenizer"],
        ["vectors"],
        ["image_tokenizer", "config"],
        ["image_tokenizer", "config", "quantizer"],
        ["vocabulary"],
    ):
        changed = json.loads(json.dumps(record))
        at = changed["modality"]
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = evil
        pathlib.Path("run/model.json").write_text(json.dumps(changed))
        assert "found 'os.system'" in refused(1, "sample", "run", "--prompt", "a")
    record["modality"]["image_tokenizer"]["config"]["width"] = 2**40
    pathlib.Path("run/model.json").write_text(json.dumps(record))
    refused(1, "sample", "run", "--prompt", "a")
    assert not pathlib.Path("boom").exists()
    assert not any(path.suffix in (".pt", ".pkl", ".pth") for path in documents.rglob("*"))
