"""What to do next with a run, as commands that can be copied."""

import shlex
import string
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from feller.app.modalities.registration import registration_of
from feller.app.options import option_of, recorded, values_of
from feller.app.workflows.fine_tuned_run import Tuned, needs_again
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import UNRECORDED, FitRecord
from feller.control.fine_tuning.fine_tuning import Tuning
from feller.core.run_folder import Run
from feller.data.loading.in_memory import MEMORY
from feller.data.modality import Dataset, Target
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
READ = ("modality", "schema", "longest", "space", "vocabulary", "tokenizer", "start_from")
"""Flags of `fit` that say how data are read, or what the model begins with, as they are recorded."""
LOOKED = 100
"""Chains among which one with a short sequence is looked for."""


def _command(*words: object) -> str:
    return shlex.join(["feller", *map(str, words)])


def _code(asked: FitRecord) -> tuple[str, ...]:
    """Name the user's own file, where a run needs it."""
    return ("--code", asked.code_file) if asked.provenance.code else ()


def fitting(run: Run, asked: FitRecord, training: Training) -> str:
    """Return the command that makes such a run, or the call in Python where its rows were in memory."""
    if asked.data.startswith(MEMORY):
        return _call(run, asked)
    steps, minutes = training.steps, training.minutes
    budget = ("--steps", steps) if steps else ("--minutes", minutes) if minutes else ()
    target = ("--target", *asked.target) if asked.target else ()
    named = {name.replace("_", "-"): values_of(asked.config)[name] for name in READ}
    how = [word for flag, value in named.items() if value is not None for word in (f"--{flag}", value)]
    how += ["--project"] if asked.config.reading.project else []
    words = (
        "--recipe",
        asked.provenance.recipe,
        *target,
        *how,
        "--size",
        asked.provenance.size,
        *_private(asked),
        *budget,
        *asked.provenance.fields,
    )
    return _command("fit", asked.data, *words, "--seed", asked.seed, "--out", run.path)


def _call(run: Run, asked: FitRecord) -> str:
    """Return the call in Python that makes a run of rows in memory."""
    fields: dict[str, tuple[str, ...]] = {}
    name = ""
    for word in asked.provenance.fields:
        if word.startswith("--"):
            fields[name := option_of(word)] = ()
        else:
            fields[name] += (word,)
    options: dict[str, Any] = {**recorded(asked.config, ("data", "config", *UNRECORDED)), "out": str(run.path)}
    if fields:
        options["fields"] = {key: value[0] if len(value) == 1 else value for key, value in fields.items()}
    return f"feller.fit(rows, {', '.join(f'{name}={value!r}' for name, value in options.items())})"


def _private(asked: FitRecord) -> tuple[object, ...]:
    """Name what protects the rows; a seed of the noise is no part of it."""
    planned = asked.provenance.private
    if planned is None:
        return ()
    rest = (f"{planned.epsilon:g}", "--delta", f"{planned.delta:.6g}")
    if isinstance(planned, Guarantee) and planned.by_noise:
        return ("--noise", planned.sigma, "--stop-at-epsilon", *rest)
    return ("--epsilon", *rest)


def tuning(run: Run, asked: FitRecord, tuned: Tuned, rule: Tuning, training: Training) -> str:
    """Return the command that makes such a tuned run."""
    budget = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    rank = ("--rank", tuned.rank) if tuned.rank is not None else ()
    given = ("--given", *(f"{name}={text}" for name, text in tuned.given.items())) if tuned.given else ()
    guided = ("--guidance", f"{rule.guidance:g}") if rule.guidance != 1 else ()
    how = ("--strength", f"{rule.strength:g}", "--method", tuned.method, *rank, *given, *guided, *budget)
    whole = ("--reward", *tuned.rewards, *how, *tuned.fields, "--seed", tuned.seed, "--out", run.path)
    return _command("tune", tuned.base, *_code(asked), *whole)


def evaluating(run: Run, asked: FitRecord, named: Mapping[str, str | None]) -> str:
    """Return the command that judges again, with the flags that have a value."""
    flags = (word for flag, value in named.items() if value is not None for word in (flag, value))
    return _command("evaluate", run.path, *_code(asked), *flags)


def again(
    run: Run, asked: FitRecord, tuned: Tuned | None, training: Training | None = None, sketch: str = ""
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
    words = ("fit", "--resume", *asked.own_words, "--out", run.path)
    if asked.is_private:
        return _command(*words), "go on, within what was planned"
    if training is None:
        return _command(*words), "go on to where it was to end"
    if training.steps is not None:
        return _command(*words, "--steps", 2 * training.steps), f"train longer, {2 * training.steps:,} steps in all"
    minutes = f"{2 * (training.minutes or SHORT):g}"
    return _command(*words, "--minutes", minutes), f"train longer, {minutes} minutes in all"


STEPS = {
    "table": (
        ("sample {run} -n {n} --out synthetic.csv", "draw a table as long as the training table"),
        ("sample {run} --complete partial.csv --out whole.csv", "fill the gaps of a table"),
    ),
    "mixed": (("sample {run} -n {n} --out synthetic.csv", "draw a table as long as the training table"),),
    "files": (("sample {run} -n 100 --out samples", "draw samples into a folder of {files} files"),),
    "array": (("sample {run} -n 1000 --out samples.npz", "draw samples into one file"),),
    "given": (("sample {run} -n 64 --given {given} --out wanted", "{what}"),),
    "audit": (("audit {run}", "say what somebody could learn about single rows"),),
    "regressor": (("steer RUN --reward {reward}", "draw samples of another run {what}"),),
    "questions": (("sample {run} --ask picture.png {question}", "answer a question about a picture"),),
    "instructions": (("sample {run} --edit picture.png {instruction} -n 4", "change a picture"),),
    "captions": (
        ("sample {run} --prompt {words} -n 9 --guidance 3", "draw what words say"),
        ("sample {run} --prompt {infill}", "say what a picture shows"),
        ("sample {run} --prompt {words} --memory {memory}", "draw it beside documents of your own"),
    ),
    "speech": (
        ("sample {run} --text {words} --out said.wav", "say something, in any voice"),
        ("sample {run} --text {words} --voice voice.wav --out said.wav", "in the voice of a recording"),
        ("sample {run} --edit clip.wav --text {words} --out new.wav", "change what a recording says"),
        (
            "sample {run} --denoise clip.wav --span 0.2:0.6 --out clean.wav",
            "say a part of a recording again, without its noise",
        ),
    ),
}
"""Commands by what a run is good for, and what they do; words in braces are filled in."""


def steps(kind: str, run: Run, asked: FitRecord | None = None, **values: object) -> Iterator[tuple[str, str]]:
    """Yield the commands of one kind, and what they do; those for which a value is missing are left out."""
    code = () if asked is None else _code(asked)
    known = {"run": run.path, **{name: value for name, value in values.items() if value not in (None, "")}}
    for template, what in STEPS[kind]:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        if names <= known.keys():
            name, *words = (word.format(**known) for word in template.split(" "))
            yield _command(name, *words[:1], *code, *words[1:]), what.format(**known)


def onward(run: Run, asked: FitRecord, about: Description, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield commands that draw samples, and what they do."""
    kind = registration_of(about.modality)
    if kind.steps:
        yield from steps(kind.steps, run, asked, n=len(train))
        return
    files = next((name for ending, name in FILES.items() if ending in about.modality.forms), None)
    yield from steps("files" if files else "array", run, asked, files=files)
    for wish, what in wishes(about, train):
        yield from steps("given", run, asked, given=wish, what=what)


def rewarding(run: Run, target: Target) -> Iterator[tuple[str, str]]:
    """Yield commands that use a regressor as a reward, and what they do."""
    if target.classes:
        reward, what = f"{run.path}={target.classes[0]}", f"that are {target.classes[0]}"
    else:
        name = f":{target.names[0]}" if len(target.names) > 1 else ""
        reward, what = f"{run.path}{name} == {target.means[0]:.3g}", f"by {target.names[0]}"
    yield from steps("regressor", run, reward=reward, what=what)


def asking(
    run: Run, words: str, *, remembers: bool, question: str = "", instruction: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield commands that ask a model of documents, in words of such documents, and what they do."""
    yield from steps("questions", run, question=question)
    yield from steps("instructions", run, instruction=instruction)
    if not question and not instruction:
        memory = "documents" if remembers else None
        yield from steps("captions", run, words=words, infill="<image:picture.png> <infill>", memory=memory)


def wishes(about: Description, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield what can be given, KEY=VALUE as in the training data, and what comes of it."""
    first = train.subset(torch.arange(min(len(train), LOOKED)))
    yield from registration_of(about.modality).wishes(about, first)
    for name, classes in about.modality.conditions.items():
        if name not in SIZES:
            yield f"{name}={classes[0]}", "one class alone"
        elif len(classes) > 1:
            yield f"{name}={classes[len(classes) // 2]}", f"samples with one number of {SIZES[name]}"
