"""What to do next with a run, as commands that can be copied."""

import shlex
from collections.abc import Iterator, Mapping

import torch

from feller.control.tuning import Tuning
from feller.data import Crystals, Dataset, Labelled, Molecules, Proteins
from feller.data.atoms.formula import formula, hill_formula
from feller.data.target import Target
from feller.description import Description
from feller.journeys.asked import Asked
from feller.journeys.tuned import Tuned, needs_again
from feller.run import Run
from feller.train.optimiser import Training

FILES = {".cif": "CIF", ".xyz": "XYZ", ".pdb": "PDB"}
"""Forms that other programs of the field read, one file a sample in a folder."""
SIZES = {"atoms": "atoms", "length": "residues"}
"""What conditions count that are no classes."""
MORE = 200
"""Rounds of a tuning that goes on."""
LOOKED = 100
"""Chains among which one with a short sequence is looked for."""


def _command(*words: object) -> str:
    return shlex.join(["feller", *map(str, words)])


def _code(asked: Asked) -> tuple[str, ...]:
    """Name the user's own file, where a run needs it."""
    return ("--code", asked.recipe.rpartition(":")[0]) if asked.code else ()


def fitting(run: Run, asked: Asked, training: Training) -> str:
    """Return the command that makes such a run; deeper fields stand in the settings."""
    budget = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    target = ("--target", *asked.target) if asked.target else ()
    words = ("--recipe", asked.recipe, *target, "--size", asked.size, *budget, "--seed", asked.seed, "--out", run.path)
    return _command("fit", asked.data, *words)


def tuning(run: Run, asked: Asked, tuned: Tuned, rule: Tuning, training: Training) -> str:
    """Return the command that makes such a tuned run; deeper fields stand in the settings."""
    budget = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    rank = ("--rank", tuned.rank) if tuned.rank is not None else ()
    given = ("--given", *(f"{name}={text}" for name, text in tuned.given.items())) if tuned.given else ()
    how = ("--strength", f"{rule.strength:g}", "--method", tuned.method, *rank, *given, *budget, "--seed", tuned.seed)
    return _command("tune", tuned.base, *_code(asked), "--reward", *tuned.rewards, *how, "--out", run.path)


def evaluating(run: Run, asked: Asked, named: Mapping[str, str | None]) -> str:
    """Return the command that judges again, with the flags that have a value."""
    flags = (word for flag, value in named.items() if value is not None for word in (flag, value))
    return _command("evaluate", run.path, *_code(asked), *flags)


def again(run: Run, asked: Asked, tuned: Tuned | None) -> tuple[str, str]:
    """Return the command that goes on training, and what it does."""
    if tuned is not None:
        reward = ("--reward", *tuned.rewards) if needs_again(tuned) else ()
        words = ("--resume", "--out", run.path, *_code(asked), *reward, "--steps", MORE)
        return _command("tune", *words), f"tune longer, {MORE} rounds in all"
    own = ("--recipe", asked.recipe) if asked.code else ()
    return _command("fit", "--resume", *own, "--out", run.path, "--minutes", 10), "train longer, ten minutes in all"


def onward(run: Run, asked: Asked, about: Description, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield commands that draw samples, and what they do."""
    sample = ("sample", run.path, *_code(asked))
    files = next((name for ending, name in FILES.items() if ending in about.modality.forms), None)
    if files:
        yield _command(*sample, "-n", 100, "--out", "samples"), f"draw samples into a folder of {files} files"
    else:
        yield _command(*sample, "-n", 1000, "--out", "samples.npz"), "draw samples into one file"
    for wish, what in wishes(about, train):
        yield _command(*sample, "-n", 64, "--given", wish, "--out", "wanted"), what


def rewarding(run: Run, target: Target) -> Iterator[tuple[str, str]]:
    """Yield commands that use a regressor as a reward, and what they do."""
    if target.classes:
        wish, what = f"{run.path}={target.classes[0]}", f"draw samples of another run that are {target.classes[0]}"
    else:
        name = f":{target.names[0]}" if len(target.names) > 1 else ""
        wish, what = f"{run.path}{name} == {target.means[0]:.3g}", f"draw samples of another run by {target.names[0]}"
    yield _command("steer", "RUN", "--reward", wish), what


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
