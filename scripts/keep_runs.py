"""Keep a tiny run of every modality and of every command that writes one, for tests/safety/test_kept_runs.py.

    python scripts/keep_runs.py               # make the runs that are not there
    python scripts/keep_runs.py points own-3  # make these again

The runs lie in tests/safety/runs, beside the data (`data/`), the Python files (`code/`) and the key of private runs
(`home/`) that they need. They are made from within that folder, so that records hold no paths of the machine. Of each
run `expected.json` holds the commands that open it again and what these gave on the day it was made:

- `needs`: other runs that must lie beside it.
- `draw`: a command that writes samples; `drawn`: the first of these, by name of the array or as lines of text.
- `resume`: a command that trains one or two steps more, where the run can; `steps`: their number then.
- `evaluate`: a command that prints numbers; `numbers`: their names, and `fixed` those whose values are to return.

A run is made again only on purpose: the point of a kept run is that an older version wrote it. Those without a number
are of format 1; those of `AGAIN` were kept again in later formats, under their names with the format.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

import feller
from feller.app.cli import main
from feller.app.config import FitConfig
from feller.app.options import config_of
from feller.app.workflows.fit import fit as fit_by
from feller.core.rng import Rng
from feller.networks import DiT

HOME = pathlib.Path(__file__).parents[1] / "tests" / "safety" / "runs"
SEED = 7
MOST = 64
"""Numbers that are kept of each array of a sample."""
LEFT_OUT = ("*.html", "report.json", "preview.png", "lock", "judge.*", "detector.*", "copies", "paths.csv", "pairs.csv")
"""Files of a run that are not kept: reports, the networks that judge samples, which an evaluation trains again, and
what others hold, too."""
PACKED, SHRUNK = 4096, 0.7
"""Files of at least so many bytes are kept compressed, where that leaves at most this share."""
REPORTS = ("evaluate", "report_bridge", "report_tuning_without_data")
"""Functions that write the report at the end of a training."""
CLOCKS = ("real_time", "seconds", "rate", "minutes")
"""Words in the names of numbers that a clock gave."""

SHORT = ("--size", "tiny", "--steps", "4", "--train.warmup", "1", "--train.batch-size", "16")
MLP = ("--architecture.width", "4", "--architecture.depth", "1")
THIN = ("--architecture.width", "2", "--architecture.depth", "1")
HEADS = (*MLP, "--architecture.heads", "1")
THIN_HEADS = (*THIN, "--architecture.heads", "1")
CODES = ("--architecture.width", "8", "--architecture.blocks", "0")
QUANTISER = ("--architecture.quantizer.num-codes", "8", "--architecture.quantizer.dim", "4")
SGD = ("--train.optimizer", "sgd")
UNET = ("--architecture.channels", "4", "--architecture.blocks", "1")
TRUNK = ("--architecture.trunk.width", "2", "--architecture.trunk.depth", "1")
CALLS = ("--sampling.nfe", "4")
SCHEMA = ("--schema", "data/schema.json")
PRIVATE = ("data/people.csv", "--epsilon", "4", "--unsafe-seed", "1", "--size", "tiny")
FOUND = ("data/people.csv", "--epsilon", "40", "--unsafe-seed", "1", "--size", "tiny")
AUDITED = ("--recipe", "table-flow", *CALLS)
SPENT = ("--train.warmup", "1", "--train.batch-size", "16", "--steps", "4")
TUNED = ("--strength", "2", "--steps", "3", "--train.batch-size", "8", "--train.warmup", "1", "--objective.steps", "4")
BRIDGED = ("--rounds", "1", "--pairs", "16", "--train.steps", "3", "--train.batch-size", "8", "--control.steps", "3")
KNOTS = ("--control.mean-knots", "5", "--control.scale-knots", "5", "--nfe", "8")
SAID = ("--text", "no", "--durations", "data/said.csv", "-n", "2", "--nfe", "2")
ENDS = ("data/left.csv", "data/right.csv")
RIGHT = ("--reward", "code/rewards.py:right")
ABOVE = ("--reward", "code/rewards.py:above")
HILL = ("--cost", "code/costs.py:hill")
OWN = "code/own.py"


@dataclass(frozen=True)
class Kept:
    """A run to keep, and how it is opened again."""

    make: tuple[str, ...]
    """Command that makes it, without --out and --seed."""
    needs: tuple[str, ...] = ()
    """Other kept runs that it reads."""
    draw: tuple[str, ...] | None = ("-n", "3")
    """What follows `sample RUN`; None where nothing can be drawn."""
    ending: str = ".npz"
    """Of the file of samples."""
    resume: tuple[str, ...] | None = ("--steps", "5")
    """What follows `fit --resume --out RUN`, or the same of the command that made it; None where training is over."""
    fixed: tuple[str, ...] = ()
    """Numbers of the evaluation that are to return."""
    code: str = ""
    """File of the user's own that the run is made of."""
    change: Callable[[Any], Any] | None = None
    """What is done to the recipe where no flag does it; `make` names the data alone then."""
    tokenizer: str | None = None
    """Run of the tokeniser of such a run."""
    save: Callable[[str], Any] | None = None
    """What writes the run, where no command does."""
    evaluate: tuple[str, ...] | None = ("evaluate",)
    """Command that prints numbers of the run; None where there is none."""
    audited: bool = False
    """Whether an audit wrote its page into the run."""


def fit(*words: str, **rest: Any) -> Kept:
    """Return a run that `feller fit` makes."""
    return Kept(("fit", *words), **rest)


def documents(recipe: Any) -> Any:
    """Shrink the decoder, and what finds documents, whose size no flag sets."""
    finder = recipe.modality.vectors
    finder = replace(finder, config=replace(finder.config, width=4, size=16))
    vectors = replace(recipe.aux_networks.vectors, steps=2)
    return replace(
        _short(recipe),
        architecture=replace(recipe.architecture, width=2, depth=1, heads=1),
        modality=replace(recipe.modality, vectors=finder),
        aux_networks=replace(recipe.aux_networks, vectors=vectors),
    )


def speech(recipe: Any) -> Any:
    """Shrink the network of frames, and those of durations, whose size no flag sets."""
    kind = recipe.modality
    lasting, rhythm = (
        replace(each, architecture=replace(each.architecture, width=2, depth=1, heads=1))
        for each in (kind.duration_regressor, kind.duration_sampler)
    )
    few = replace(recipe.aux_networks.duration_sampler, steps=2, warmup=1)
    return replace(
        _short(recipe),
        architecture=replace(recipe.architecture, width=2, depth=1, heads=1),
        modality=replace(kind, duration_regressor=lasting, duration_sampler=rhythm),
        aux_networks=replace(recipe.aux_networks, durations=few, duration_sampler=few),
    )


def latents(out: str) -> None:
    """Write a model of arrays, with a diffusion transformer that has learned nothing but answers something."""
    settings = DiT(patch=2, width=8, depth=1, heads=2)
    network = settings.build((2, 4, 4), {}, Rng(0))
    with torch.no_grad():
        for i, weight in enumerate(network.parameters()):
            weight.add_(torch.linspace(-0.5, 0.5, weight.numel()).view_as(weight) * (-1) ** i)
    feller.Model(network, feller.FlowMatching(feller.Affine(), feller.Euclidean((2, 4, 4)))).save(out, make=settings)


def _short(recipe: Any) -> Any:
    return replace(recipe, train=replace(recipe.train, steps=4, minutes=None, warmup=1, batch_size=16))


RUNS = {
    # Modalities.
    "points": fit("example:cells", *SHORT, *MLP, *CALLS),
    "earth": fit("example:volcano", *SHORT, *MLP, *CALLS),
    "torsions": fit("data/torsions.csv", *SHORT, *MLP, *CALLS),
    "sphere": fit("data/sphere.csv", "--space", "sphere", "--project", *SHORT, *MLP, *CALLS),
    "simplex": fit("data/simplex.csv", "--space", "simplex", *SHORT, *MLP, *CALLS),
    "mesh": fit("data/tetrahedron.csv", "--space", "data/tetrahedron.obj", "--project", *SHORT, *MLP, *CALLS),
    "images": fit("example:digits", *SHORT, *UNET, *CALLS),
    "image-label": fit("data/pictures.npz", "--recipe", "image-label", *SHORT, *MLP, *CALLS),
    "image-tokenizer": fit("data/papers", "--recipe", "image-tokenizer", *SHORT, *CODES, draw=None),
    "image-tokenizer-vq": fit(
        "data/pictures.npz", "--recipe", "image-tokenizer-vq", *SHORT, *CODES, *QUANTISER, draw=None
    ),
    "levels-mask": fit("data/pictures.npz", "--recipe", "levels-mask", *SHORT, *MLP, *CALLS),
    "levels-metric": fit("data/pictures.npz", "--recipe", "levels-metric", *SHORT, *MLP, *CALLS),
    "text": fit("example:shakespeare", "--longest", "32", *SHORT, *HEADS, *CALLS, ending=".jsonl"),
    "text-uniform": fit("data/words.txt", "--recipe", "text-uniform", *SHORT, *HEADS, *CALLS, ending=".jsonl"),
    "text-autoregressive": fit("data/words.txt", "--recipe", "text-autoregressive", *SHORT, *HEADS, ending=".jsonl"),
    "text-subwords": fit(
        "data/words.txt", "--vocabulary", "subwords:260", *SHORT, *THIN_HEADS, *CALLS, ending=".jsonl"
    ),
    "table": fit("data/people.csv", *SHORT, *HEADS, ending=".csv"),
    "table-flow": fit("data/people.csv", "--recipe", "table-flow", *SHORT, *MLP, *CALLS, ending=".csv"),
    "table-marginals": fit(
        "data/people.csv", "--recipe", "table-marginals", "--size", "tiny", ending=".csv", resume=None
    ),
    "crystals": fit("example:perovskites", *SHORT, *THIN_HEADS, *CALLS),
    "molecules": fit("example:molecules", *SHORT, *MLP, "--architecture.pair-width", "4", *CALLS),
    "proteins": fit("example:proteins", *SHORT, *THIN_HEADS, *CALLS),
    "backbones": fit("example:backbones", *SHORT, *THIN_HEADS, *CALLS),
    "documents": Kept(("data/papers",), change=documents, ending=".jsonl"),
    "documents-tokenizer": Kept(
        ("data/papers",),
        tokenizer="image-tokenizer",
        needs=("image-tokenizer",),
        change=documents,
        ending=".jsonl",
    ),
    "speech": Kept(("data/recordings",), change=speech, draw=SAID),
    "vocoder": fit("data/recordings", "--recipe", "vocoder", *SHORT, *THIN, *SGD, draw=None),
    "shards": fit("data/shards", *SHORT, *UNET, *CALLS),
    # Kinds of training.
    "plane": fit("data/left.csv", *SHORT, *MLP, *CALLS),
    "regressor": fit("data/heights.csv", "--target", "z", *SHORT, *TRUNK, draw=None),
    "classifier": fit("data/numbers.csv", "--target", "label", *SHORT, *TRUNK, draw=None),
    "regressor-molecules": fit("data/water.xyz", "--target", "energy", *SHORT, *TRUNK, draw=None),
    "onwards": fit("example:cells", "--start-from", "points", *SHORT, needs=("points",)),
    "reflow": fit(
        "example:cells",
        "--recipe",
        "reflow",
        "--start-from",
        "points",
        "--reflow-pairs",
        "32",
        *SHORT,
        needs=("points",),
    ),
    "distil": fit("example:cells", "--recipe", "distil", "--start-from", "points", *SHORT, needs=("points",)),
    "own": fit("data/numbers.csv", "--recipe", f"{OWN}:kept", *SHORT, code=OWN, resume=("--recipe", f"{OWN}:kept")),
    "arrays": Kept((), save=latents, resume=None, evaluate=None),
    # Privacy.
    "private-table": fit(*PRIVATE, *SCHEMA, *SPENT, *HEADS, ending=".csv", resume=()),
    "private-found": fit(*FOUND, *SPENT, *HEADS, ending=".csv", resume=()),
    "private-flow": fit(
        *(*PRIVATE, *SCHEMA, "--recipe", "table-flow", "--audit", "fisher=8", *SPENT, *MLP, *CALLS),
        ending=".csv",
        resume=(),
    ),
    "private-marginals": fit(*PRIVATE, *SCHEMA, "--recipe", "table-marginals", ending=".csv", resume=None),
    "private-logistic": fit(
        *PRIVATE, *SCHEMA, "--recipe", "logistic-private", "--target", "sex", draw=None, resume=None
    ),
    "private-images": fit(
        *("data/pictures.npz", "--noise", "1", "--stop-at-epsilon", "8", "--unsafe-seed", "1", *SHORT, *UNET, *CALLS),
        resume=(),
    ),
    "audited": fit(*PRIVATE, *SCHEMA, *SPENT, *MLP, *AUDITED, ending=".csv", resume=(), audited=True),
    # Other commands.
    "tuned": Kept(("tune", "points", *RIGHT, *TUNED), needs=("points",), resume=("--steps", "4", *RIGHT)),
    "tuned-rank": Kept(
        ("tune", "points", *RIGHT, "--rank", "2", *TUNED), needs=("points",), resume=("--steps", "4", *RIGHT)
    ),
    "tuned-policy": Kept(("tune", "points", *ABOVE, *TUNED), needs=("points",), resume=("--steps", "4", *ABOVE)),
    "tuned-regressor": Kept(
        ("tune", "plane", "--reward", "regressor", *TUNED),
        needs=("plane", "regressor"),
        resume=("--steps", "4", "--reward", "regressor"),
    ),
    "bridge": Kept(
        ("bridge", *ENDS, *BRIDGED, *KNOTS, *MLP), draw=("--from", "data/left.csv"), resume=("--rounds", "3")
    ),
    "bridge-cost": Kept(
        ("bridge", *ENDS, *HILL, *BRIDGED, *KNOTS, *MLP),
        draw=("--from", "data/left.csv"),
        resume=("--rounds", "3", *HILL),
        evaluate=None,  # a run makes no code run
    ),
    "imported": Kept(("import", "code/network.py:net", "--data", "data/left.csv"), code="code/network.py", resume=None),
    "exported": Kept(("export", "points", "--to", "huggingface"), needs=("points",), resume=None, evaluate=None),
}


AGAIN = {
    3: (
        *("points", "sphere", "arrays", "images", "image-label", "image-tokenizer-vq", "text", "text-autoregressive"),
        *("table", "table-flow", "table-marginals", "crystals", "molecules", "proteins", "image-tokenizer"),
        *("documents-tokenizer", "speech", "vocoder", "regressor", "distil", "own", "private-found", "private-flow"),
        *("private-marginals", "private-logistic", "tuned-rank", "tuned-policy", "bridge-cost", "imported"),
        "exported",
    )
}
"""Formats after the first, and the runs that are kept in them, too."""
NAMES = [*(name for name in RUNS if name != "arrays"), *(f"{name}-{n}" for n, kept in AGAIN.items() for name in kept)]


def kept_as(name: str) -> Kept:
    """Return a run by its name, which may end in a format; what it needs is of that format, where it is kept in it."""
    stem, _, number = name.rpartition("-")
    if not number.isdecimal():
        return RUNS[name]
    kept = RUNS[stem]
    again = {one: f"{one}-{number}" for one in kept.needs if one in AGAIN[int(number)]}
    code = OWN.replace(".py", f"_{number}.py")  # names of feller change, and what a run is made of may not

    def named(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(again.get(word, word).replace(OWN, code) for word in words)

    return replace(
        kept,
        needs=named(kept.needs),
        make=named(kept.make),
        resume=None if kept.resume is None else named(kept.resume),
        code=kept.code.replace(OWN, code),
        tokenizer=again.get(kept.tokenizer or "", kept.tokenizer),
    )


def materials() -> None:
    """Write the small files that runs are made from, the same each time; new ones go to the end."""
    rng, data = np.random.default_rng(0), pathlib.Path("data")
    data.mkdir(exist_ok=True)
    (data / "words.txt").write_text("the cat sat on a hat\nno rat is at the mat\n" * 12)
    columns = rng.integers(17, 90, 120), rng.integers(0, 3, 120), rng.integers(0, 2, 120)
    rows = [f"{age},{'abc'[town]},{'mf'[sex]}\n" for age, town, sex in zip(*columns, strict=True)]
    (data / "people.csv").write_text("age,town,sex\n" + "".join(rows))
    kinds: dict[str, Any] = {
        "age": {"kind": "numerical", "low": 0, "high": 100, "bins": 10},
        "town": {"kind": "categorical", "values": ["a", "b", "c"]},
        "sex": {"kind": "categorical", "values": ["f", "m"]},
    }
    (data / "schema.json").write_text(json.dumps({"columns": kinds}, indent=1) + "\n")
    for name, numbers in {
        "sphere": rng.integers(-9, 10, (80, 3)) + 0.5,
        "simplex": rng.integers(1, 9, (80, 3)),
    }.items():
        shares = numbers / numbers.sum(1, keepdims=True) if name == "simplex" else numbers
        (data / f"{name}.csv").write_text(
            "x,y,z\n" + "".join(",".join(f"{a:.6f}" for a in row) + "\n" for row in shares)
        )
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    faces = [[1, 2, 3], [1, 4, 2], [1, 3, 4], [2, 4, 3]]
    lines = [*(f"v {a} {b} {c}" for a, b, c in corners), *(f"f {a} {b} {c}" for a, b, c in faces)]
    (data / "tetrahedron.obj").write_text("\n".join(lines) + "\n")
    near = corners[rng.integers(0, 3, 80)] + rng.integers(-9, 10, (80, 3)) / 10
    (data / "tetrahedron.csv").write_text("x,y,z\n" + "".join(",".join(f"{a:.6f}" for a in row) + "\n" for row in near))
    rows = [f"{a},{b},{c}\n" for a, b, c in rng.integers(-180, 180, (80, 3))]
    (data / "torsions.csv").write_text("phi,psi,chi1\n" + "".join(rows))
    for name, shift in {"left": -2, "right": 2}.items():
        rows = [f"{a / 10 + shift},{b / 10}\n" for a, b in rng.integers(-9, 10, (40, 2))]
        (data / f"{name}.csv").write_text("x,y\n" + "".join(rows))
    rows = [f"{a / 10},{b / 10},{(a + b) / 20},{'pq'[int(a > 0)]}\n" for a, b in rng.integers(-9, 10, (60, 2))]
    (data / "numbers.csv").write_text("x,y,z,label\n" + "".join(rows))
    water = "3\nenergy={}\nO 0 0 {}\nH 0.76 0.59 0\nH -0.76 0.59 0\n"
    (data / "water.xyz").write_text("".join(water.format(-a / 10, a / 100) for a in rng.integers(0, 20, 30)))
    (data / "recordings").mkdir(exist_ok=True)
    for i in range(6):
        tone = np.sin(np.arange(4000) * (0.1 + 0.05 * i)) * np.hanning(4000) / 2
        soundfile.write(data / "recordings" / f"{i}.flac", np.round(tone * 2**7) / 2**7, 8000)
        (data / "recordings" / f"{i}.txt").write_text("no")
    spoken = [["<sil>", 0, 5, [["SIL", 0, 5]]], ["no", 5, 45, [["N", 5, 20], ["OW", 25, 25]]]]
    lines = (json.dumps({"file": f"{i}.flac", "words": spoken}) + "\n" for i in range(6))
    (data / "recordings" / "alignments.jsonl").write_text("".join(lines))
    (data / "shards").mkdir(exist_ok=True)
    for shard in range(2):
        with tarfile.open(data / "shards" / f"train-{shard:03d}.tar", "w") as file:
            for i in range(10):
                packed = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(packed, "PNG")
                for name, content in (
                    (f"{shard}{i}.png", packed.getvalue()),
                    (f"{shard}{i}.cls", b"01"[i % 2 : i % 2 + 1]),
                ):
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    file.addfile(header, io.BytesIO(content))
        pack(data / "shards" / f"train-{shard:03d}.tar")
    labels = rng.integers(0, 2, 80)
    pictures = rng.integers(0, 3, (80, 4, 4)) + 2 * labels[:, None, None]
    np.savez_compressed(data / "pictures.npz", samples=pictures.astype(np.uint8), labels=labels)
    (data / "papers").mkdir(exist_ok=True)
    for i in range(24):
        colour = rng.integers(0, 2)
        tiles = np.kron(rng.integers(0, 2, (4, 4)), np.ones((2, 2), int))[:, :, None] * [255, 255 * colour, 0]
        Image.fromarray(tiles.astype(np.uint8)).save(data / "papers" / f"{i}.png")
        (data / "papers" / f"{i}.txt").write_text(f"{('red', 'yellow')[colour]} squares")
    rows = [f"{a / 10},{b / 10},{(a - b) / 20}\n" for a, b in rng.integers(-9, 10, (60, 2))]
    (data / "said.csv").write_text("phone,frames\nSIL,5\nN_B,6\nOW_E,9\nSIL,5\n")
    (data / "heights.csv").write_text("x,y,z\n" + "".join(rows))


def run(*words: str) -> str:
    """Run a command and return the last line that it printed.

    Raises:
        SystemExit: If it failed.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([*words])
    if status:
        sys.exit(f"feller {' '.join(words)} ended with {status}")
    return (printed.getvalue().splitlines() or [""])[-1]


def make(name: str, kept: Kept) -> None:
    """Make a run in a temporary folder, and keep it with what is expected of it.

    Raises:
        SystemExit: If a command failed, or a file names a path of this machine.
    """
    with workplace(*kept.needs):
        command = kept.make[0] if kept.make and kept.change is None else "fit"
        with without_reports(command):
            if kept.save is not None:
                kept.save(name)
            elif kept.change is not None:
                config = config_of(FitConfig, size="tiny", seed=3, out=name, tokenizer=kept.tokenizer)
                fit_by(config, *kept.make, change=kept.change)
            else:
                seed = ("--seed", "3") if command in ("fit", "tune", "bridge") else ()
                run(*kept.make, *seed, "--out", name)
        if kept.audited:
            run("audit", name)
        for pattern in LEFT_OUT:
            for path in pathlib.Path(name).glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(HOME / name, ignore_errors=True)
        shutil.copytree(name, HOME / name)
        shutil.copytree("home", HOME / "home", dirs_exist_ok=True)
        for path in [*(HOME / name).iterdir()]:
            pack(path)
        (HOME / name / "expected.json").write_text(written(try_out(name, kept)) + "\n")
    if found := [str(path) for path in (HOME / name).rglob("*") if path.is_file() and names_machine(path)]:
        sys.exit(f"paths of this machine are in {', '.join(found)}")


@contextlib.contextmanager
def without_reports(command: str) -> Iterator[None]:
    """Leave out the reports at the end of trainings, in whichever modules they are asked for."""
    with contextlib.suppress(SystemExit):
        run(command, "--help")
    _ = feller.fit
    found = [
        (module, name, function)
        for module in [*sys.modules.values()]
        for name in REPORTS
        if module.__name__.startswith("feller.")
        and isinstance(function := getattr(module, name, None), types.FunctionType)
    ]
    for module, name, _ in found:
        setattr(module, name, lambda *rest, **others: {})
    try:
        yield
    finally:
        for module, name, function in found:
            setattr(module, name, function)


@contextlib.contextmanager
def workplace(*runs: str) -> Iterator[None]:
    """Work in a temporary folder with the data, the files of code, the key and some runs."""
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for each in ("data", "code", "home", *runs):
            if (HOME / each).exists():
                shutil.copytree(HOME / each, each)
        for path in pathlib.Path().rglob("*.gz"):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        yield


def pack(path: pathlib.Path) -> None:
    """Compress a file where that saves much."""
    content = path.read_bytes() if path.is_file() else b""
    packed = gzip.compress(content, mtime=0)
    if len(content) >= PACKED and len(packed) <= SHRUNK * len(content):
        path.with_name(f"{path.name}.gz").write_bytes(packed)
        path.unlink()


def names_machine(path: pathlib.Path) -> bool:
    """Tell whether a file holds the place of the repository, of the home, or of temporary files."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return any(
        str(place).encode() in content for place in (HOME.parents[2], pathlib.Path.home(), tempfile.gettempdir())
    )


def try_out(name: str, kept: Kept) -> dict[str, Any]:
    """Open the run that lies here, and return the commands with what they gave."""
    expected: dict[str, Any] = {"needs": [*kept.needs]}
    code = ("--code", kept.code) if kept.code else ()
    if kept.draw is not None:
        words = ["sample", name, *kept.draw, *code, "--seed", str(SEED), "--out", f"drawn{kept.ending}"]
        run(*words)
        expected |= {"draw": words, "drawn": drawn(pathlib.Path(words[-1]))}
    if kept.evaluate is not None:
        words = [*kept.evaluate, name, *code, "--json"]
        found = {key: value for key, value in json.loads(run(*words)).items() if key not in ("run", "report")}
        expected |= {"evaluate": words, "numbers": sorted(found)}
        if kept.draw is None:
            steady = {k: v for k, v in found.items() if not any(word in k for word in CLOCKS)}
            expected["fixed"] = {k: v for k, v in steady.items() if isinstance(v, int | float)}
    if kept.resume is not None:
        command = "fit" if kept.change is not None else kept.make[0]
        words = [command, *kept.resume, "--resume", "--out", name]
        with without_reports(command):
            run(*words)
        counters = json.loads(pathlib.Path(name, "state.json").read_text())
        expected |= {"resume": words, "counters": {k: v for k, v in counters.items() if isinstance(v, int)}}
    return expected


def written(value: Any, indent: str = "") -> str:
    """Write JSON with each list of plain values in a line, and numbers to eight digits."""
    deeper = f"{indent} "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key)}: {written(part, deeper)}" for key, part in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    if isinstance(value, list) and any(isinstance(part, list) for part in value):
        return "[\n" + ",\n".join(deeper + written(part, deeper) for part in value) + f"\n{indent}]"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return json.dumps(float(f"{value:.8g}") if isinstance(value, float) else value)


def drawn(path: pathlib.Path) -> Any:
    """Return what is kept of a file of samples: its lines, or the first numbers of each array of each sample."""
    if path.suffix != ".npz":
        return path.read_text().splitlines()
    with np.load(path) as file:
        return {key: [np.ravel(row)[:MOST].tolist() for row in np.atleast_1d(file[key])] for key in sorted(file.files)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="names of runs; by default those that are not there yet")
    wanted = parser.parse_args().runs or [name for name in NAMES if not (HOME / name / "expected.json").exists()]
    os.environ["XDG_DATA_HOME"] = "home"
    with contextlib.chdir(HOME):
        pathlib.Path("home").mkdir(exist_ok=True)
        materials()
    for name in wanted:
        make(name, kept_as(name))
        size = sum(path.stat().st_size for path in (HOME / name).rglob("*") if path.is_file())
        print(f"{name}: {size:,} bytes", flush=True)
