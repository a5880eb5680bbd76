"""Documents on the command line: wrong input is refused, and nothing of a stranger's run is executed."""

import json
import pathlib
import pickle
import shlex
import shutil
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feller.core.errors import InputError
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.data.loading.dataset_reader import read
from feller.data.loading.raw import TextItem
from tests.app.asked import refuse, run
from tests.conftest import LEARN
from tests.data.documents.written import lines, square


@pytest.fixture(autouse=True)
def elsewhere(here, unreported):
    """Provide an image, masks and an empty folder."""
    square(here, "cat.png", 0)
    Image.new("L", (5, 5)).save("black.png")
    (here / "empty").mkdir()


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    out = tmp_path_factory.mktemp("moons") / "run"
    run("fit", "example:moons", "--size", "tiny", "--steps", 1, "--report", "none", "--out", out)
    return out


@pytest.fixture(scope="module")
def letters(scenes):
    """Return a run with a vocabulary of few characters."""
    out, words = scenes.parent / "letters", ("--vocabulary", "characters", *LEARN, "--steps", 1, "--report", "none")
    run("fit", scenes / "pairs", *words, "--out", out)
    return out


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--mask black.png", {"argument": "mask"}),
        ("--prompt cat --mask black.png", {"argument": "mask", "found": "0 in the prompt"}),
        ("--prompt '<image:cat.png> <image:cat.png>' --mask black.png", {"found": "2 in the prompt"}),
        ("--prompt 'cat <image:cat.png>' --mask black.png", {"found": "none"}),
        ("--prompt 'cat <image:cat.png>' --mask none.png", {"kind": InputError}),
        ("--prompt '<image:none.png> <infill>'", {"kind": InputError, "found": "none.png, which does not exist"}),
        ("--prompt ' '", {}),
        ("--prompt '<image:> <infill>'", {"found": "none"}),
        ("--prompt a --memory ' '", {"argument": "memory", "found": "an empty name"}),
        ("--edit cat.png", {"argument": "edit", "found": "cat.png"}),
        ("--ask cat.png what colour", {"argument": "ask", "found": "cat.png what colour"}),
        ("--edit --prompt cat", {"argument": "edit", "expected": "a value"}),
        ("--edit cat.png ' '", {"found": "no text"}),
        ("--ask none.png what", {"kind": InputError, "found": "none.png, which does not exist"}),
        ("--prompt a --edit cat.png b", {"argument": "prompt", "found": "both"}),
        ("--edit cat.png a --ask cat.png b", {"argument": "edit", "found": "both"}),
        (
            "--prompt '<image:cat.png> <infill>' --guidance 3",
            {"argument": "guidance", "remedy": "Leave out --guidance and --contrast"},
        ),
        ("--prompt '<image:cat.png> <infill>' --contrast 8", {"remedy": "Leave out --guidance and --contrast"}),
        ("--guidance 3", {"argument": "guidance", "remedy": "Leave out --guidance and --contrast"}),
        ("--prompt a --guidance nan", {"found": "nan"}),
        ("--prompt a --picture-guidance 2", {"argument": "picture_guidance"}),
        ("--prompt a --best-of 0", {"argument": "best_of", "found": "0"}),
        ("--prompt a --min-p 0.2", {"argument": "min_p"}),
        ("--prompt a --guidance 3 --min-p 2", {"argument": "min_p", "found": "2"}),
        ("--prompt a --contrast 8:y", {"argument": "contrast", "found": "'8:y'"}),
        ("--prompt a --contrast 0", {"argument": "contrast", "found": "'0'"}),
        ("--prompt a --contrast 8:2", {"argument": "contrast", "found": "'8:2'"}),
        ("--prompt a --documents 2", {"argument": "documents"}),
        ("--prompt a --memory empty --documents -1", {"argument": "documents", "found": "-1"}),
        ("--memory empty", {"expected": "a --prompt with --memory"}),
        ("--prompt a --memory empty", {"kind": InputError, "file": "empty"}),
        ("--prompt a --memory none", {"kind": InputError, "file": "none", "found": "none"}),
        ("--prompt a --memory none.npz", {"kind": InputError, "expected": "the datastore none.npz"}),
        ("--prompt a --memory cat.png", {"kind": InputError, "file": "cat.png", "found": "images"}),
        ("--prompt a --out x.wav", {"remedy": "Use .jsonl, .json, .npz, or a folder (no suffix)"}),
        ("--prompt a --temperature -1", {"argument": "temperature", "found": "-1"}),
        ("--prompt a --solver euler", {"argument": "solver"}),
        ("--prompt a --nfe 3", {"argument": "nfe"}),
        ("--given label=3", {"argument": "given"}),
        ("--template cat", {"argument": "template"}),
        (f"--prompt {6 * '<image:cat.png>'!r}", {"found": "391 tokens"}),
    ],
)
def test_refused_samples(documents, words, fields):
    refuse("sample", documents, *shlex.split(words), **fields)


def test_options_of_documents_apply_to_documents_only(moons):
    words = ("--prompt a", "--mask black.png", "--edit cat.png a", "--ask cat.png a", "--memory empty", "--documents 2")
    for each in (*words, "--picture-guidance 2", "--min-p 0.2", "--contrast 8", "--best-of 2"):
        refuse("sample", moons, *each.split(), argument=each.split()[0][2:].replace("-", "_"), remedy="Leave it out")
    refuse("fit", "example:moons", "--tokenizer", "palette", argument="tokenizer")
    refuse("data", "memory", "empty", "--run", moons)


def test_characters_outside_the_vocabulary(letters):
    for words in (
        ("--prompt", "a red ∆"),
        ("--prompt", "a red ∆ <image:cat.png> <infill>", "--guidance", 1),
        ("--edit", "cat.png", "∆"),
        ("--ask", "cat.png", "∆"),
    ):
        assert "U+" in str(refuse("sample", letters, *words))


def test_other_commands_refuse_documents(documents):
    pathlib.Path("own.py").write_text("def dark(x): return -x['pictures'].float().mean((1, 2, 3, 4))\n")
    reward = ("--reward", "own.py:dark", "--steps", 1)
    refuse("steer", documents, *reward, "-n", 1)
    refuse("tune", documents, *reward, "--out", "tuned")
    refuse("steer", documents, "--observe", "cat.png", "--operator", "mask", "--mask", "black.png")
    refuse("audit", documents)
    refuse("bridge", documents, documents, "--out", "joined", kind=InputError)
    refuse("evaluate", documents, "--samples", "cat.png")
    refuse("evaluate", documents, "--data", "example:digits", kind=InputError, file="example:digits", found="images")
    assert not pathlib.Path("tuned").exists()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("--tokenizer palette --epsilon 8", {}),
        ("--tokenizer none", {"argument": "tokenizer", "found": "'none'"}),
        ("--longest 7", {}),
        ("--longest 12 --tokenizer palette", {"kind": InputError}),
        ("--vocabulary letters", {"found": "'letters'"}),
        ("--recipe images", {"remedy": "Use --recipe auto"}),
        ("--target label", {"argument": "target", "found": "'label'"}),
        ("--recipe distil", {}),
    ],
)
def test_refused_fits(scenes, words, fields):
    refuse("fit", scenes / "pairs", *LEARN, *words.split(), **fields)
    assert not pathlib.Path("runs").exists()


def test_refused_starts_of_a_fit(documents, scenes):
    fit = ("fit", scenes / "pairs", "--size", "tiny", "--steps", 1)
    refuse(*fit, "--tokenizer", documents)
    codes = ("fit", "example:digits", "--size", "tiny", "--recipe", "image-tokenizer", "--steps", 1, "--out", "codes")
    run(*codes)
    text = str(refuse(*fit, "--tokenizer", "codes"))
    assert "8x8" in text
    assert "16x16" in text
    start = (*fit, "--start-from", documents)
    refuse(*start, "--tokenizer", "palette")
    refuse(*start, "--vocabulary", "characters", argument="vocabulary")
    for recipe in ("reflow", "distil"):
        refuse(*start, "--recipe", recipe, remedy="Use --recipe auto")
    refuse("fit", "example:digits", "--start-from", documents, kind=InputError, file="example:digits", found="images")
    refuse("fit", "example:digits", "--recipe", "interleaved", "--steps", 1, remedy="Use --recipe auto")
    refuse("fit", "--resume", "--out", documents, "--tokenizer", "palette", file=str(documents))


def bomb(file):
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


@pytest.mark.parametrize(
    ("harm", "file"),
    [
        (lambda folder: (folder / "0001.txt").unlink(), "pairs"),
        (lambda folder: (folder / "0001.png").unlink(), "pairs"),
        (lambda folder: (folder / "0001.txt").write_text(" \n"), "pairs/0001.txt"),
        (lambda folder: (folder / "0001.png").write_bytes((folder / "0002.png").read_bytes()[:60]), "pairs"),
        (lambda folder: bomb(folder / "0001.png"), "pairs"),
    ],
    ids=["no caption", "no image", "empty caption", "truncated", "decompression bomb"],
)
def test_refused_folders(scenes, harm, file):
    shutil.copytree(scenes / "pairs", "pairs")
    harm(pathlib.Path("pairs"))
    assert "0001" in str(refuse("fit", "pairs", *LEARN, kind=InputError, file=file))
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"image": "../cat.png", "text": "a"}, "'../cat.png'"),
        ({"image": "/etc/hosts", "text": "a"}, "'/etc/hosts'"),
        ({"image": "link.png", "text": "a"}, "'link.png'"),
        ({"image": "none.png", "text": "a"}, "no such file"),
        ({"image": "in.png", "text": " "}, "none"),
        ({"image": "in\0.png", "text": "a"}, r"'in\x00.png'"),
        ({"image": 300 * "x", "text": "a"}, f"{40 * 'x'!r}"),
        ({"document": [["a"]]}, '["a"]'),
    ],
)
def test_refused_lines(tmp_path, entry, found):
    folder = tmp_path / "data"
    folder.mkdir()
    square(folder, "in.png", 1)
    (folder / "link.png").symlink_to(tmp_path / "cat.png")
    file = lines(folder, [{"image": "in.png", "text": "a"}, entry])
    refuse("data", file, kind=InputError, file=f"{file}: line 2", found=found)


def test_resized_images_are_counted(scenes, capsys):
    shutil.copytree(scenes / "pairs", "pairs")
    Image.new("RGB", (40, 20), "red").save("pairs/0001.png")
    run("data", "pairs")
    assert "1 of 40 images were resized to 16x16" in capsys.readouterr().err


def test_escaped_marks_are_text(documents, tmp_path):
    """In captions always, in prompts after a backslash."""
    square(tmp_path, "a.png", 0, side=16)
    text = "a <mask> of <eos><break>"
    data = read(str(lines(tmp_path, [{"image": "a.png", "text": text}] * 2)))
    kind: Any = data.modality
    assert kind.items(data.values)[0][0] == TextItem(text)
    run("sample", documents, "--prompt", r"a \<mask> of <eos>\<break>", "-n", 1, "--out", "x.jsonl")
    assert json.loads(pathlib.Path("x.jsonl").read_text())["document"][0] == text


def test_datastores_of_other_runs_and_damaged_ones(documents, letters, scenes):
    for folder, file in ((documents, "ours.npz"), (letters, "theirs.npz")):
        run("data", "memory", scenes / "memory", "--run", folder, "--out", file)
    ask = ("sample", documents, "--prompt", "a red", "--memory")
    ours, theirs = dict(np.load("ours.npz")), np.load("theirs.npz")["makers"]
    makers = ours["makers"]
    whole = pathlib.Path("ours.npz").read_bytes()
    pathlib.Path("cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez("other.npz", samples=np.zeros((3, 2)))
    for file in ("theirs.npz", "cut.npz", "other.npz"):
        refuse(*ask, file, kind=InputError, file=file)
    for change, found in (
        ({"makers": np.array([makers[0], theirs[1], makers[2]])}, None),
        ({"makers": np.array([makers[0], makers[1], theirs[2]])}, None),
        ({"symbols": ours["symbols"] + 1}, None),
        ({name: ours[name][:0] for name in ("rows", "vectors", "both")}, "none"),
        ({"rows": ours["rows"][:1]}, "1, 4 and 4"),
        ({"rows": ours["rows"] + 10_000}, "invalid ids, or empty rows"),
        ({"vectors": ours["vectors"] * np.nan}, "infinity or NaN"),
        ({"vectors": ours["vectors"][:, :7]}, "7"),
        ({"rows": ours["rows"].astype(str)}, "invalid rows"),
        ({"rows": np.array([{}])}, None),  # a pickle
    ):
        np.savez("changed.npz", allow_pickle=True, **{**ours, **change})
        refuse(*ask, "changed.npz", kind=InputError, file="changed.npz", found=found)
    refuse("data", "memory", scenes / "memory", "--run", documents, "--out", "m.txt", found="m.txt")
    refuse("data", "memory")


class Boom:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (pathlib.Path("boom"),)


@pytest.mark.parametrize("part", ["tokenizer", "vectors"])
def test_auxiliary_networks_belong_to_their_run(documents, part):
    shutil.copytree(documents, "run")
    file = pathlib.Path("run") / f"{part}.safetensors"
    sample, named = ("sample", "run", "--prompt", "a"), {"kind": InputError, "file": f"run/{part}.safetensors"}
    weights, _ = load_tensors(file)
    file.unlink()
    refuse(*sample, **named, found="no such file")
    refuse("fit", "--resume", "--out", "run", "--steps", 9, kind=InputError)
    assert not file.exists()
    save_tensors(file, {name: weight[None] for name, weight in weights.items()})
    refuse(*sample, **named)
    save_tensors(file, {name: weight.flip(0) for name, weight in weights.items()})  # of another run of its shape
    other = file.read_bytes()
    start = ("fit", documents.parent / "scenes" / "pairs", "--start-from", "run", "--steps", 1, "--out", "new")
    for words in (sample, ("evaluate", "run"), ("fit", "--resume", "--out", "run"), start):
        refuse(*words, **named)
    assert file.read_bytes() == other
    file.write_bytes(pickle.dumps(Boom()))
    refuse(*sample, **named)
    assert not pathlib.Path("boom").exists()


def test_untrusted_run_executes_nothing(documents):
    shutil.copytree(documents, "run")
    record = json.loads((documents / "model.json").read_text())
    evil = {"is": "os.system", "command": "touch boom"}
    tokenizer = ("image_tokenizer", "config", "quantizer")
    for path in (tokenizer[:1], tokenizer[:2], tokenizer, ("vectors",), ("vocabulary",)):
        changed = json.loads(json.dumps(record))
        at = changed["modality"]
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = evil
        pathlib.Path("run/model.json").write_text(json.dumps(changed))
        assert "os.system" in str(refuse("sample", "run", "--prompt", "a", kind=InputError, file="run/model.json"))
    record["modality"]["image_tokenizer"]["config"]["width"] = 2**40
    pathlib.Path("run/model.json").write_text(json.dumps(record))
    refuse("sample", "run", "--prompt", "a", kind=InputError, file="run/model.json")
    assert not pathlib.Path("boom").exists()
    assert not any(path.suffix in (".pt", ".pkl", ".pth") for path in documents.rglob("*"))
