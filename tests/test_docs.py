"""Examples of the docs run."""

import ast
import builtins
import functools
import importlib
import json
import pathlib
import re
import runpy
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.app.cli import main
from feller.core.run_folder import open_run
from feller.data.loading.dataset_reader import read
from feller.evaluation.speech import detector
from feller.models.spec import load_spec
from tests.data.shards.written import pictures
from tests.data.speech.written import pairs

ROOT = pathlib.Path(__file__).parent.parent
LANDING = ROOT / "docs" / "index.md"
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page != LANDING and not {"_build", "decisions", "api"} & {*page.parts}
]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\w+\.py)\n")
BRIDGE = "BridgeSolverConfig(rounds=1, pairs=32, train=feller.TrainConfig(steps=3, batch_size=32))"
DOCUMENTS = ("--prompt", "--edit", "--ask")
SHORT = ["--size", "tiny", "--steps", "3", "--sampling.nfe", "4"]


SPAN = re.compile(r"`([^`\n]+)`")
ATTRIBUTE = re.compile(r"(?<![\w./-])(feller|model|run|objective)\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
OBJECTS = {"model": feller.Model, "run": feller.FittedRun, "objective": feller.FlowMatching}
FILES = ("json", "safetensors")


def is_there(root: str, path: str) -> bool:
    """Return whether a documented name exists."""
    if root != "feller":
        name, kind = path.partition(".")[0], OBJECTS[root]
        return hasattr(kind, name) or name in kind.__annotations__
    found: object = feller
    for n, name in enumerate(path.split("."), 1):
        if not hasattr(found, name):
            try:
                importlib.import_module(".".join(["feller", *path.split(".")[:n]]))
            except ImportError:
                return False
        found = getattr(found, name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_in_the_text_exist(page: pathlib.Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    named = [found for span in SPAN.findall(text) for found in ATTRIBUTE.findall(span)]
    assert [one for one in named if one[1] not in FILES and not is_there(*one)] == []


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def prepare(folder: pathlib.Path, python: str) -> None:
    """Write the files that the pages name: images, tables, crystals, texts and user code."""
    people(folder)
    shards(folder)
    crystals = read("example:perovskites").subset(torch.arange(12))
    crystals.modality.write(crystals.values, crystals.given, folder / "crystals.csv")
    generator = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(12):
            picture = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / "photos" / name / f"{i}.png")
    pairs(folder / "recordings")
    (folder / "documents").mkdir()
    for i in range(12):
        (folder / "documents" / f"{i}.txt").write_text(f"noise of the number {i}")
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "documents" / f"{i}.png")
    waves = np.sin(np.arange(16) / 2 + generator.uniform(0, 6, (80, 1)))
    series = {"id": np.repeat(range(80), 16), "t": np.tile(range(16), 80), "value": waves.ravel()}
    pd.DataFrame(series).to_csv(folder / "series.csv", index=False)
    np.savetxt(folder / "points.csv", generator.normal(size=(60, 2)), delimiter=",", header="x,y", comments="")
    u = generator.normal(size=(60, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    places = np.stack([np.rad2deg(np.arcsin(u[:, 2])), generator.uniform(-180, 180, 60)], 1)
    for name, values, header in (
        ("directions.csv", u, "x,y,z"),
        ("quakes.csv", places, "latitude,longitude"),
        ("angles.csv", generator.uniform(-180, 180, (60, 2)), "a,b"),
    ):
        np.savetxt(folder / name, values, delimiter=",", header=header, comments="")
    numbers = generator.normal(size=(60, 4))
    pd.DataFrame(numbers, columns=["theta1", "theta2", "x1", "x2"]).to_csv(folder / "simulations.csv", index=False)
    pendulum = pd.DataFrame(numbers[:, :3], columns=["period", "length", "amplitude"])
    pendulum.assign(clock=["sensor", "stopwatch"] * 30).to_csv(folder / "pendulum.csv", index=False)
    sentences = (
        "To be, or not to be, that is the question. ",
        "The rest is silence. ",
        "All the world's a stage, my lord: ",
    )
    (folder / "book.txt").write_text("".join(generator.choice(sentences, 200)))
    lines = [{"text": sentences[i % 3], "label": "sea" if i % 2 else "land"} for i in range(40)]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    hole = np.zeros((8, 8), dtype=np.uint8)
    hole[2:6, 2:6] = 255
    Image.fromarray(hole).save(folder / "hole.png")
    Image.fromarray(255 - hole).save(folder / "half.png")
    Image.fromarray(hole[:4, :4]).save(folder / "small.png")
    walls = np.full((80, 120), 255, dtype=np.uint8)
    walls[:, 57:63] = 0
    walls[15:25, 57:63] = walls[55:65, 57:63] = 255
    Image.fromarray(walls).save(folder / "room.png")
    for name, middle in (("left", (20, 40)), ("right", (100, 40))):
        np.savetxt(
            folder / f"{name}.csv", generator.normal(middle, 4, (60, 2)), delimiter=",", header="x,y", comments=""
        )
    for name, middle in (("west", (-4.5, 0, 0.5)), ("east", (4.5, 0, 0.5))):
        places = generator.normal(middle, 0.4, (60, 3))
        np.savetxt(folder / f"{name}.csv", places, delimiter=",", header="x,y,z", comments="")
    (folder / "mine.py").write_text(python)


def shards(folder: pathlib.Path) -> None:
    """Write labelled images into tar shards, and numeric tables."""
    pictures(folder / "shards", 40, 4)
    for i in range(4):
        (folder / "shards" / f"train-{i:03d}.tar").rename(folder / "shards" / f"train-{i:06d}.tar")
    (folder / "rows").mkdir()
    values = np.random.default_rng(2).normal(size=(60, 2))
    for i in range(2):
        table = pd.DataFrame(values[30 * i : 30 * i + 30], columns=["x", "y"])
        table.to_parquet(folder / "rows" / f"{i}.parquet", index=False)


def people(folder: pathlib.Path) -> None:
    """Write tables of fictitious people."""
    generator = np.random.default_rng(1)
    schools = ("School", "Bachelors", "Masters", "Doctorate")
    for name, first, n in (("people", 1, 600), ("held_out", 601, 200), ("census", 801, 300)):
        rows = ["person,age,education,married,income,joined"]
        for i in range(first, first + n):
            age = int(generator.integers(16, 80))
            school = min(int(generator.integers(0, 4)), age // 8 - 1)
            married = "yes" if age >= 18 and generator.random() < age / 100 else "no"
            income = "" if generator.random() < 0.05 else min(round(generator.gamma(2, 90 + 40 * school)), 600) * 100
            joined = np.datetime64("2015-01-01") + int(generator.integers(0, 3650))
            rows.append(f"C-{i:06d},{age},{schools[school]},{married},{income},{joined}")
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    (folder / "partial.csv").write_text("person,age,education,married\nC-000001,,Masters,yes\nC-000002,30,?,\n")


def shorten(words: list[str]) -> list[str]:
    """Return the command with a small training budget and few samples."""
    if words[0] == "fit" and "--help" not in words:
        for flag in ("--minutes", "--size", "--steps"):
            if flag in words:
                del words[words.index(flag) : words.index(flag) + 2]
        recipe = words[words.index("--recipe") + 1] if "--recipe" in words else ""
        if recipe not in ("table-marginals", "logistic-private"):
            words += ["--steps", "3"] if "--resume" in words or ":" in recipe else SHORT
            if recipe == "text-blocks":
                words[-1] = "8"  # an evaluation for each block
        if words[1].startswith(("scenes/", "documents")) and "--resume" not in words and not recipe.startswith("image"):
            words += ["--vectors.steps", "2"]
        if words[1].startswith(("recordings", "spoken")) and "vocoder" not in words:
            words += ["--durations.steps", "2", "--duration-sampler.steps", "2"]
        if words[1].startswith("documents"):
            words += ["--tokenizer.steps", "2"]
        if "--latent" in words:
            words += ["--autoencoder.steps", "2"]
        if "--tokenizer.steps" in words:
            words[words.index("--tokenizer.steps") + 1] = "2"
    if words[:2] == ["data", "scenes"]:
        words += ["-n", "40"]
    for flag, few in (("--shadows", "2"), ("--canaries", "40")):
        if words[0] == "audit" and flag in words:
            words[words.index(flag) + 1] = few
    if words[0] == "tune":
        if "--steps" in words:
            del words[words.index("--steps") : words.index("--steps") + 2]
        words += ["--steps", "2", "--train.batch-size", "8", "--objective.steps", "4"]
    if words[0] == "bridge":
        for flag in ("--rounds", "--pairs"):
            if flag in words:
                del words[words.index(flag) : words.index(flag) + 2]
        words += [
            "--rounds",
            "3" if "runs/room" in words else "1",
            "--pairs",
            "32",
            "--train.steps",
            "3",
            "--train.batch-size",
            "32",
            "--nfe",
            "28",
        ]
        words += ["--control.steps", "3", "--control.mean-knots", "5", "--control.scale-knots", "5"]
    if words[0] == "evaluate" and not {"-n", "--samples", "--help"} & {*words}:
        words += ["-n", "16"]
    if words[0] == "steer" and "-n" in words:
        words[words.index("-n") + 1] = "1"
    if words[0] == "sample" and "-n" in words:
        words[words.index("-n") + 1] = "5"
    if words[0] == "sample" and not {"dopri5", "--from", "--backward", *DOCUMENTS} & {*words} and in_time(words):
        words += ["--nfe", "4"]
    return words


def thin(folder: pathlib.Path) -> None:
    """Leave every eighth recording of a folder, and those that commands name."""
    sounds = sorted(folder.glob("*.opus"))
    kept = [sound.name for sound in sounds if sound in sounds[::8] or sound.stem in ("LJ001-0002", "LJ001-0008")]
    for sound in sounds:
        if sound.name not in kept:
            sound.unlink()
            sound.with_suffix(".txt").unlink()
    for table in (folder / "speakers.csv", folder / "alignments.jsonl"):
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(line for line in lines if "speaker" in line or any(name in line for name in kept)))


def in_time(words: list[str]) -> bool:
    """Tell whether what is drawn is a process in time, which takes calls; the run is named first, or is the newest."""
    run = open_run(words[1] if len(words) > 1 and not words[1].startswith("-") else None)
    family = load_spec(run).family
    return family.is_process and family.name != "blocks"  # each block takes a call


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch, aligned_once, briefly_rehearsed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("feller.app.workflows.documents.evaluate_documents.MAX_CONTINUED", 8)
    for few in ("density_baselines.MAX_FITTED", "completion_metrics.MAX_TRAIN"):
        monkeypatch.setattr(f"feller.evaluation.{few}", 200)
    monkeypatch.setattr("feller.evaluation.completion_metrics.MAX_SERIES", 16)
    for few in ("MAX_UTTERANCES", "DETECTOR_UTTERANCES"):
        monkeypatch.setattr(f"feller.app.workflows.speech.evaluate_speech.{few}", 2)
    brief = functools.partial(detector.fit_detector, training=replace(detector.TRAINING, steps=8))
    monkeypatch.setattr("feller.app.workflows.speech.evaluate_speech.fit_detector", brief)
    found = blocks(page)
    alone = [code for _, code in files(found)]
    first_command = next((i for i, (language, _) in enumerate(found) if language == "sh"), len(found))
    names = {"__name__": "docs"}
    uses = [i for i, (language, code) in enumerate(found) if language == "sh" and "mine.py" in code]
    prepare(tmp_path, "\n".join(code for language, code in found[: uses[-1] if uses else 0] if language == "python"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in files(found):
        (tmp_path / name).write_text(code.replace("steps=300", "steps=3"))
    python = [(i, code) for i, (language, code) in enumerate(found) if language == "python" and code not in alone]
    execute([code for i, code in python if i < first_command], page, names)  # these may write the files of the commands
    for language, code in found:
        if language == "sh":
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["python"]:
                    runpy.run_path(words[1], run_name="__main__")
                if words[:1] == ["feller"] and words[1] != "reproduce":
                    try:
                        status = main(shorten(words[1:]))
                    except SystemExit as end:  # --help
                        status = end.code
                    assert status == 0, line
                    if words[1:3] == ["data", "spoken-words"]:
                        thin(tmp_path / words[words.index("--out") + 1])
    execute([code for i, code in python if i > first_command], page, names)


def execute(codes: list[str], page: pathlib.Path, names: dict[str, object]) -> None:
    """Execute Python blocks of a page in one namespace, with short trainings."""
    python = "\n".join(codes)
    for long, short in (("steps=300", "steps=3"), ("BridgeSolverConfig(rounds=3)", BRIDGE)):
        python = python.replace(long, short)
    exec(compile(python, str(page), "exec"), names)


def files(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return name and content of the blocks that begin with the name of a file, which they stand in."""
    named = [(NAME.match(code), code) for language, code in found if language == "python"]
    return [(name[1], code) for name, code in named if name]


def unknown(code: str) -> set[str]:
    """Return the undefined names of a code block."""
    bound, read = {*dir(builtins)}, set()
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Name():
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            case ast.FunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.arg():
                bound.add(node.arg)
            case ast.Import() | ast.ImportFrom():
                bound.update((one.asname or one.name).partition(".")[0] for one in node.names)
    return read - bound


@pytest.mark.parametrize("name", ["extend", "export"])
def test_examples_are_self_contained(name):
    """But for a recipe that goes into one file with the path before it."""
    python = [code for language, code in blocks(ROOT / "docs" / "guides" / f"{name}.md") if language == "python"]
    assert len(python) >= 5
    assert [missing for code in python if (missing := unknown(code) - {"Swing"})] == []
    assert sum("Swing" in unknown(code) for code in python) <= 1


def commands(page: pathlib.Path) -> list[list[str]]:
    """Return the commands of a page, without comments."""
    lines = [line for language, code in blocks(page) if language == "sh" for line in code.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_commands_of_the_landing_page_run_on_other_pages():
    run = [words for page in PAGES for words in commands(page)]
    shown = commands(LANDING)
    assert len(shown) >= 8
    for words in shown:
        begun = [other for other in run if other[: len(words)] == words]  # an example may go on there, as by --out
        assert begun, words
    exec("\n".join(code for language, code in blocks(LANDING) if language == "python"), {"__name__": "docs"})


def test_other_pages_have_no_examples():
    others = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    others = [page for page in others if page not in (*PAGES, LANDING) and "_build" not in page.parts]
    assert len(others) > 20
    assert [page.name for page in others if blocks(page)] == []
