"""Suggestions of next commands for a run, ready to copy and paste."""

import contextlib
import shlex
import string
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from feller.app.modalities.registration import registration_of
from feller.app.options import option_of, option_words, to_record
from feller.app.workflows.fine_tuned_run import TuningRecord, needs_rewards
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.run_config import UNRECORDED, FitRecord
from feller.control.fine_tuning.tuning_objective import FineTuning
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.data.loading.in_memory import IN_MEMORY_PREFIX
from feller.data.modality import Dataset, Target
from feller.models.spec import ModelSpec
from feller.training.optimizer import TrainConfig

FILES = {".cif": "CIF", ".xyz": "XYZ", ".pdb": "PDB"}
"""File suffix -> name of the format, for formats that `sample` writes as a folder with one file per sample."""
SIZES = {"atoms": "atoms", "length": "residues", "steps": "steps"}
"""Name of a condition that is a count -> name of the counted objects, for descriptions of suggested commands."""
MORE_ROUNDS = 200
"""Total number of rounds in the suggested command that resumes fine-tuning."""
DEFAULT_MINUTES = 5.0
"""Training time in minutes that suggested commands assume if the training budget is neither in steps nor in minutes."""
CONTINUE_PREFIX = "resume with: "
"""Text in the notice of an undertrained run that precedes the command to resume the run."""
DATA_OPTIONS = (
    "modality",
    "schema",
    "longest",
    "space",
    "project",
    "vocabulary",
    "tokenizer",
    "latent",
    "nested",
    "links",
    "person",
    "order",
    "max_rows",
    "start_from",
    "rank",
    "target_modules",
)
"""Names of the recorded `fit` options for data loading and initial weights."""
MAX_EXAMINED = 100
"""Maximum number of protein chains examined to find a short sequence for an example command."""


def _command(*words: object) -> str:
    return shlex.join(["feller", *map(str, words)])


def _code(record: FitRecord) -> tuple[str, ...]:
    """Return the flag --code with the user code file, if the run needs one."""
    return ("--code", record.code_file) if record.provenance.code else ()


def fit_command(run: Run, record: FitRecord, training: TrainConfig) -> str:
    """Return the command that repeats a fit; for data passed as a Python object, return the Python call."""
    if record.data.startswith(IN_MEMORY_PREFIX):
        return _call(run, record)
    steps, minutes = training.steps, training.minutes
    budget = ("--steps", steps) if steps else ("--minutes", minutes) if minutes else ()
    target = ("--target", *record.target) if record.target else ()
    condition = ("--condition", *record.condition) if record.condition else ()
    arguments = (
        "--recipe",
        record.provenance.recipe,
        *target,
        *condition,
        *option_words(record.config, DATA_OPTIONS),
        "--size",
        record.provenance.size,
        *_private(record),
        *budget,
        *option_words(record.config, ("report",)),
        *record.provenance.fields,
    )
    return _command("fit", record.data, *arguments, "--seed", record.seed, "--out", run.path)


def _call(run: Run, record: FitRecord) -> str:
    """Return the Python call that repeats a fit to rows in memory."""
    fields: dict[str, tuple[str, ...]] = {}
    name = ""
    for arg in record.provenance.fields:
        if arg.startswith("--"):
            fields[name := option_of(arg)] = ()
        else:
            fields[name] += (arg,)
    options: dict[str, Any] = {**to_record(record.config, ("data", "config", *UNRECORDED)), "out": str(run.path)}
    if fields:
        options["fields"] = {key: value[0] if len(value) == 1 else value for key, value in fields.items()}
    return f"feller.fit(rows, {', '.join(f'{name}={value!r}' for name, value in options.items())})"


def _private(record: FitRecord) -> tuple[object, ...]:
    """Return the privacy flags of a command that repeats the fit, except for the noise seed."""
    privacy_plan = record.provenance.private
    if privacy_plan is None:
        return ()
    arguments: tuple[object, ...] = (f"{privacy_plan.epsilon:g}", "--delta", f"{privacy_plan.delta:.6g}")
    if isinstance(privacy_plan, Guarantee) and privacy_plan.by_noise:
        arguments = ("--noise", privacy_plan.sigma, "--stop-at-epsilon", *arguments)
    else:
        arguments = ("--epsilon", *arguments)
    is_correlated = isinstance(privacy_plan, Guarantee) and privacy_plan.bands > 1
    correlation = ("--bands", privacy_plan.bands) if is_correlated else ()
    return (*arguments, *option_words(record.config, ("clip",)), *correlation, *option_words(record.config, ("audit",)))


def tune_command(
    run: Run, record: FitRecord, tuning_record: TuningRecord, fine_tuning: FineTuning, training: TrainConfig
) -> str:
    """Return the command that repeats a fine-tuning.

    Args:
        run: Fine-tuned run, which the command names as output.
        record: Fit record, whose user code files are added to the command.
        tuning_record: Recorded options of the fine-tuning, including base model and rewards.
        fine_tuning: Fine-tuning method with its reward scale and guidance.
        training: Training configuration, of which the command repeats the number of steps or minutes.
    """
    budget = ("--steps", training.steps) if training.steps else ("--minutes", training.minutes)
    rank = ("--rank", tuning_record.rank) if tuning_record.rank is not None else ()
    rank += ("--target-modules", *tuning_record.target_modules) if tuning_record.target_modules else ()
    condition_arguments = (
        ("--given", *(f"{name}={text}" for name, text in tuning_record.given.items())) if tuning_record.given else ()
    )
    condition_arguments += ("--prompts", *tuning_record.prompts) if tuning_record.prompts else ()
    guidance = ("--guidance", f"{fine_tuning.guidance:g}") if fine_tuning.guidance != 1 else ()
    method_arguments = (
        "--strength",
        f"{fine_tuning.reward_scale:g}",
        "--method",
        tuning_record.method,
        *rank,
        *condition_arguments,
        *guidance,
        *budget,
    )
    arguments = (
        "--reward",
        *tuning_record.rewards,
        *method_arguments,
        *tuning_record.fields,
        "--seed",
        tuning_record.seed,
        "--out",
        run.path,
    )
    return _command("tune", tuning_record.base, *_code(record), *arguments)


def evaluate_command(run: Run, record: FitRecord, options: Mapping[str, str | None]) -> str:
    """Return the command that evaluates a run again.

    `options` maps flags to their values; flags with the value None are omitted.
    """
    flags = (arg for flag, value in options.items() if value is not None for arg in (flag, value))
    return _command("evaluate", run.path, *_code(record), *flags)


def continue_command(
    run: Run,
    record: FitRecord,
    tuning_record: TuningRecord | None,
    training: TrainConfig | None = None,
    notice: str = "",
) -> tuple[str, str]:
    """Return the command that resumes a run, and a description of the command.

    Args:
        run: Run folder.
        record: Fit record.
        tuning_record: Fine-tuning record, if any.
        training: Training budget that was used up; the command doubles it. None if training stopped before its end.
        notice: Notice of an undertrained run, which ends with the command; this command is then returned. Empty if
            there is no notice.
    """
    if notice:
        return notice.partition(CONTINUE_PREFIX)[2], "train longer" if tuning_record is None else "fine-tune longer"
    if tuning_record is not None:
        reward_arguments = ("--reward", *tuning_record.rewards) if needs_rewards(tuning_record) else ()
        args = ("--resume", "--out", run.path, *_code(record), *reward_arguments, "--steps", MORE_ROUNDS)
        return _command("tune", *args), f"fine-tune longer, {MORE_ROUNDS} rounds in total"
    args = ("fit", "--resume", *record.code_arguments, "--out", run.path)
    if record.is_private:
        return _command(*args), "continue within the privacy plan"
    if training is None:
        return _command(*args), "continue to the planned end"
    if training.steps is not None:
        return _command(*args, "--steps", 2 * training.steps), f"train longer, {2 * training.steps:,} steps in total"
    minutes = f"{2 * (training.minutes or DEFAULT_MINUTES):g}"
    return _command(*args, "--minutes", minutes), f"train longer, {minutes} minutes in total"


COMMAND_TEMPLATES = {
    "table": (
        ("sample {run} -n {n} --out synthetic.csv", "sample a table with as many rows as the training table"),
        ("sample {run} --complete partial.csv --out whole.csv", "impute the missing cells of a table"),
    ),
    "mixed": (("sample {run} -n {n} --out synthetic.csv", "sample a table with as many rows as the training table"),),
    "linked": (
        ("sample {run} -n {n} --out synthetic", "sample as many persons as there are, with their rows in all tables"),
    ),
    "histories": (("sample {run} -n {n} --out synthetic.csv", "sample as many persons as there are training persons"),),
    "files": (("sample {run} -n 100 --out samples", "sample into a folder of {files} files"),),
    "array": (("sample {run} -n 1000 --out samples.npz", "sample into one file"),),
    "given": (("sample {run} -n 64 --given {given} --out wanted", "{what}"),),
    "audit": (("audit {run}", "audit what the run reveals about individual rows or persons"),),
    "regressor": (("steer RUN --reward {reward}", "steer samples of another run {what}"),),
    "questions": (("sample {run} --ask picture.png {question}", "answer a question about an image"),),
    "instructions": (("sample {run} --edit picture.png {instruction} -n 4", "edit an image"),),
    "captions": (
        ("sample {run} --prompt {words} -n 9 --guidance 3", "generate images from a prompt"),
        ("sample {run} --prompt {infill}", "caption an image"),
        ("sample {run} --prompt {words} --memory {memory}", "generate with retrieval from your own documents"),
    ),
    "speech": (
        ("sample {run} --text {words} --out said.wav", "speak a text in a random voice"),
        ("sample {run} --text {words} --voice voice.wav --out said.wav", "speak it in the voice of a recording"),
        ("sample {run} --edit clip.wav --text {words} --out new.wav", "edit the words of a recording"),
        (
            "sample {run} --denoise clip.wav --span 0.2:0.6 --out clean.wav",
            "regenerate a part of a recording without its noise",
        ),
    ),
}
"""Kind of run -> command templates with descriptions; names in braces are placeholders for values."""


def fill_templates(kind: str, run: Run, record: FitRecord | None = None, **values: object) -> Iterator[tuple[str, str]]:
    """Yield suggested commands for a kind of run, as pairs (command, description).

    Commands with a placeholder whose value is missing are omitted.

    Args:
        kind: Key of `COMMAND_TEMPLATES`.
        run: Run, whose path fills the placeholder `run`.
        record: Fit record, whose user code files are added to the commands; None to add none.
        **values: Values of the other placeholders by name; None or empty if missing.
    """
    code = () if record is None else _code(record)
    values_by_name = {"run": run.path, **{name: value for name, value in values.items() if value not in (None, "")}}
    for template, description in COMMAND_TEMPLATES[kind]:
        placeholders = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        if placeholders <= values_by_name.keys():
            name, *args = (arg.format(**values_by_name) for arg in template.split(" "))
            yield _command(name, *args[:1], *code, *args[1:]), description.format(**values_by_name)


def suggest_commands(run: Run, record: FitRecord, spec: ModelSpec, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield suggested sampling commands for a run, as pairs (command, description)."""
    registration = registration_of(spec.modality)
    if registration.next_steps:
        yield from fill_templates(registration.next_steps, run, record, n=len(train))
        return
    file_format = next((name for suffix, name in FILES.items() if suffix in spec.modality.writers), None)
    yield from fill_templates("files" if file_format else "array", run, record, files=file_format)
    for condition, description in condition_examples(spec, train):
        yield from fill_templates("given", run, record, given=condition, what=description)


def suggest_rewards(run: Run, target: Target) -> Iterator[tuple[str, str]]:
    """Yield commands that steer samples of another model by a regressor, as pairs (command, description).

    Args:
        run: Run of the regressor.
        target: What the regressor predicts; the commands aim at its first class, or at the mean of its first quantity.
    """
    if target.classes:
        reward, description = f"{run.path}={target.classes[0]}", f"toward the class {target.classes[0]}"
    else:
        name = f":{target.names[0]}" if len(target.names) > 1 else ""
        reward, description = f"{run.path}{name} == {target.means[0]:.3g}", f"toward a value of {target.names[0]}"
    yield from fill_templates("regressor", run, reward=reward, what=description)


def suggest_document_commands(
    run: Run, words: str, *, has_datastore: bool, question: str = "", instruction: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield sampling commands for a document model, with descriptions.

    Args:
        run: Run of the model.
        words: Text of a training document, as a prompt.
        has_datastore: True if the model can retrieve documents.
        question: Question from the training data; empty if they contain no questions.
        instruction: Editing instruction from the training data; empty if they contain none.
    """
    yield from fill_templates("questions", run, question=question)
    yield from fill_templates("instructions", run, instruction=instruction)
    if not question and not instruction:
        memory = "documents" if has_datastore else None
        yield from fill_templates("captions", run, words=words, infill="<image:picture.png> <infill>", memory=memory)


def condition_examples(spec: ModelSpec, train: Dataset) -> Iterator[tuple[str, str]]:
    """Yield example conditions as (KEY=VALUE, description), with values from the training data."""
    examples = train.subset(torch.arange(min(len(train), MAX_EXAMINED)))
    yield from registration_of(spec.modality).condition_examples(spec, examples)
    for name, kind in spec.modality.selected_conditions.items():
        with contextlib.suppress(UsageError):  # conditions whose values cannot be typed, such as long vectors
            kind.parse(name, kind.example, 1)
            yield f"{name}={kind.example}", f"samples given a value of {name}"
    for name, classes in spec.modality.conditions.items():
        if name not in SIZES:
            yield f"{name}={classes[0]}", "a single class"
        elif len(classes) > 1:
            yield f"{name}={classes[len(classes) // 2]}", f"samples with a fixed number of {SIZES[name]}"
