"""What to do next with a run, as commands that can be copied."""

import shlex
from collections.abc import Iterator, Mapping

import torch

from feller.app.workflows.fine_tuned_run import Tuned, needs_again
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import Asked
from feller.control.fine_tuning.fine_tuning import Tuning
from feller.core.run_folder import Run
from feller.data.atoms.elements import formula, hill_formula
from feller.data.crystals.modality import Crystals
from feller.data.images.labelled import Labelled
from feller.data.modality import Dataset, Target
from feller.data.molecules.modality import Molecules
from feller.data.proteins.modality import Proteins
from feller.data.tables.mixed import Mixed
from feller.data.tables.modality import Table
from feller.models.spec import Description
from feller.training.optimizer import Training

FILES = {".cif": "CIF", ".xyz": "XYZ", ".pdb": "PDB"}
"""Forms that other programs of the field read, one file a sample in a folder."""
SIZES = {"atoms": "atoms", "length": "residues"}
"""What conditions count that are no classes."""
MORE = 200
"""Rounds of a tuning that goes on."""
SHORT = 5.0
"""Minutes of a training that says none."""
GO_ON = "go on with: "
"""Before the command of a sketch."""
READ = ("schema", "longest", "space", "vocabulary", "tokenizer", "start_from")
"""Flags of `fit` that say how data are read, or what the model begins with, as they are recorded."""
LOOKED = 100
"""Chains among which one with a short sequence is looked for."""


def _command(*words: object) -> str:
    return shlex.join(["feller", *map(str, words)])


def _code(asked: Asked) -> tuple[str, ...]:
    """Name the user's own file, where a run needs it."""
    return ("--code", asked.recipe.rpartition(":")[0]) if asked.code else ()


def fitting(run: Run, asked: Asked, training: Training) -> str:
    """Return the command that makes such a run."""
    steps, minutes = training.steps, training.minutes
    budget = ("--steps", steps) if steps else ("--minutes", minutes) if minutes else ()
    target = ("--target", *asked.target) if asked.target else ()
    named = {name.replace("_", "-"): getattr(asked, name) for name in READ}
    how = [word for flag, value in named.items() if value is not None for word in (f"--{flag}", value)]
    how += ["--project"] if asked.project else []
    words = ("--recipe", asked.recipe, *target, *how, "--size", asked.size, *_private(asked), *budget, *asked.fields)
    return _command("fit", asked.data, *words, "--seed", asked.seed, "--out", run.path)


def _private(asked: Asked) -> tuple[object, ...]:
    """Name what protects the rows; a seed of the noise is no part of it."""
    planned = asked.private
    if planned is None:
        return ()
    rest = (f"{planned.epsilon:g}", "--delta", f"{planned.delta:.6g}")
    if isinstance(planned, Guarantee) and planned.by_noise:
        return ("--noise", planned.sigma, "--stop-at-epsilon", *rest)
    return ("--epsilon", *rest)


def tuning(run: Run, asked: Asked, tuned: Tuned, rule: Tuning, training: Training) -> str:
    """Return the command that makes such a tuned run."""
    budget = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    rank = ("--rank", tuned.rank) if tuned.rank is not None else ()
    given = ("--given", *(f"{name}={text}" for name, text in tuned.given.items())) if tuned.given else ()
    guided = ("--guidance", f"{rule.guidance:g}") if rule.guidance != 1 else ()
    how = ("--strength", f"{rule.strength:g}", "--method", tuned.method, *rank, *given, *guided, *budget)
    whole = ("--reward", *tuned.rewards, *how, *tuned.fields, "--seed", tuned.seed, "--out", run.path)
    return _command("tune", tuned.base, *_code(asked), *whole)


def evaluating(run: Run, asked: Asked, named: Mapping[str, str | None]) -> str:
    """Return the command that judges again, with the flags that have a value."""
    flags = (word for flag, value in named.items() if value is not None for word in (flag, value))
    return _command("evaluate", run.path, *_code(asked), *flags)


def again(
    run: Run, asked: Asked, tuned: Tuned | None, training: Training | None = None, sketch: str = ""
) -> tuple[str, str]:
    """Return the command that goes on training, and what it does.

    Args:
        run: Where it is kept.
        asked: What was asked of it.
        tuned: What a tuning was asked for.
        training: Its budget, of which a longer training has twice; None where it was not reached.
        sketch: What is said of a run that had little training, whose command is the same.
    """
    if sketch:
        return sketch.partition(GO_ON)[2], "train longer" if tuned is None else "tune longer"
    if tuned is not None:
        reward = ("--reward", *tuned.rewards) if needs_again(tuned) else ()
        words = ("--resume", "--out", run.path, *_code(asked), *reward, "--steps", MORE)
        return _command("tune", *words), f"tune longer, {MORE} rounds in all"
    words = ("fit", "--resume", *(("--recipe", asked.recipe) if asked.code else ()), "--out", run.path)
    if asked.private is not None:
        return _command(*words), "go on, within what was planned"
    if training is None:
        return _command(*words), "go on to where it was to end"
    if training.steps is not None:
        return _command(*words, "--steps", 2 * training.steps), f"train longer, {2 * training.steps:,} steps in all"
    minutes = f"{2 * (training.minutes or SHORT):g}"
    return _command(*words, "--minutes", minutes), f"train longer, {minutes} minutes in all"


def onward(run: Run, asked: Asked, about: Description, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield commands that draw samples, and what they do."""
    sample = ("sample", run.path, *_code(asked))
    if isinstance(about.modality, Table | Mixed):
        yield _command(*sample, "-n", len(train), "--out", "synthetic.csv"), "draw a table as long as the one learned"
        if isinstance(about.modality, Table):
            yield _command(*sample, "--complete", "partial.csv", "--out", "whole.csv"), "fill the gaps of a table"
        return
    files = next((name for ending, name in FILES.items() if ending in about.modality.forms), None)
    if files:
        yield _command(*sample, "-n", 100, "--out", "samples"), f"draw samples into a folder of {files} files"
    else:
        yield _command(*sample, "-n", 1000, "--out", "samples.npz"), "draw samples into one file"
    for wish, what in wishes(about, train):
        yield _command(*sample, "-n", 64, "--given", wish, "--out", "wanted"), what


def auditing(run: Run, asked: Asked) -> Iterator[tuple[str, str]]:
    """Yield the command that says what single rows could give away, of a private run."""
    if asked.private is not None:
        yield _command("audit", run.path, *_code(asked)), "say what somebody could learn about single rows"


def rewarding(run: Run, target: Target) -> Iterator[tuple[str, str]]:
    """Yield commands that use a regressor as a reward, and what they do."""
    if target.classes:
        wish, what = f"{run.path}={target.classes[0]}", f"draw samples of another run that are {target.classes[0]}"
    else:
        name = f":{target.names[0]}" if len(target.names) > 1 else ""
        wish, what = f"{run.path}{name} == {target.means[0]:.3g}", f"draw samples of another run by {target.names[0]}"
    yield _command("steer", "RUN", "--reward", wish), what


def asking(
    run: Run, words: str, *, remembers: bool, question: str = "", instruction: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield commands that ask a model of documents, in words of such documents, and what they do."""
    sample = ("sample", run.path)
    if question:
        yield _command(*sample, "--ask", "picture.png", question), "answer a question about a picture"
    if instruction:
        yield _command(*sample, "--edit", "picture.png", instruction, "-n", 4), "change a picture"
    if question or instruction:
        return
    if words:
        yield _command(*sample, "--prompt", words, "-n", 9, "--guidance", 3), "draw what words say"
    yield _command(*sample, "--prompt", "<image:picture.png> <infill>"), "say what a picture shows"
    if words and remembers:
        yield _command(*sample, "--prompt", words, "--memory", "documents"), "draw it beside documents of your own"


def speaking(run: Run, words: str) -> Iterator[tuple[str, str]]:
    """Yield commands that let a model of speech say something, and what they do."""
    sample, words = ("sample", run.path), words or "hello"
    yield _command(*sample, "--text", words, "--out", "said.wav"), "say something, in any voice"
    yield _command(*sample, "--text", words, "--voice", "voice.wav", "--out", "said.wav"), "in the voice of a recording"
    yield _command(*sample, "--edit", "clip.wav", "--text", words, "--out", "new.wav"), "change what a recording says"
    yield (
        _command(*sample, "--denoise", "clip.wav", "--span", "0.2:0.6", "--out", "clean.wav"),
        "say a part of a recording again, without its noise",
    )


def wishes(about: Description, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield what can be given, KEY=VALUE as in the training data, and what comes of it."""
    kind, may = about.modality, {*about.fixable}
    first = train.subset(torch.arange(min(len(train), LOOKED)))
    if isinstance(kind, Crystals) and "element" in may:
        yield f"element={formula(kind.crystals(first.values, first.given)[0].numbers)}", "crystals of one formula"
    if isinstance(kind, Molecules) and "element" in may:
        yield f"element={hill_formula(kind.molecules(first.values, first.given)[0].atoms)}", "molecules of one formula"
    if isinstance(kind, Proteins) and "residue" in may:
        known = [letters for letters in kind.chains(first.values, first.given)[1] if "X" not in letters]
        if known:
            yield f"residue={min(known, key=len)}", "structures of one sequence"
    if isinstance(kind, Proteins) and {"rotation", "position"} <= may:
        yield "structure=chain.pdb", "sequences for the structure in a file"
    if isinstance(kind, Labelled) and "label" in may:
        yield f"label={kind.pictures.classes[0]}", "pictures of one class"
    for name, classes in kind.conditions.items():
        if name not in SIZES:
            yield f"{name}={classes[0]}", "one class alone"
        elif len(classes) > 1:
            yield f"{name}={classes[len(classes) // 2]}", f"samples with one number of {SIZES[name]}"
