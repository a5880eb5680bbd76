"""From a run of documents and what a person asks to documents on disk."""

import pathlib
import shlex

from feller.app.reporter import SILENT, Tell
from feller.app.workflows.documents.document_request import Wanted, anything, by_edit, by_mask, by_prompt, by_question
from feller.app.workflows.documents.generate_documents import Manner, Written, write
from feller.app.workflows.kind import reader, require_documents
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.core.run_folder import Run
from feller.models.model import load_model
from feller.sampling.autoregressive.decoding_goals import Fill
from feller.training.engine import engine


def documents(
    run: Run,
    n: int | None = None,
    *,
    out: str | None = None,
    prompt: str | None = None,
    mask: str | None = None,
    edit: tuple[str, ...] = (),
    ask: tuple[str, ...] = (),
    memory: str | None = None,
    manner: Manner = Manner(),  # noqa: B008 - frozen
    seed: int = 0,
    tell: Tell = SILENT,
) -> tuple[Written, pathlib.Path]:
    """Draw documents and write them.

    Args:
        run: Holds the model.
        n: How many; by default 1 where something is filled in, else 9.
        out: A file whose ending decides the form, or a folder; by default `samples` in the run.
        prompt: What they begin with, or what is to be filled in; by default nothing.
        mask: Picture whose white parts are drawn anew in the one of the prompt.
        edit: A picture and an instruction.
        ask: A picture and a question.
        memory: What the model looks up.
        manner: How they are drawn.
        seed: Of all randomness.
        tell: Hears how it goes.

    Returns:
        The documents, and where they are.

    Raises:
        InputError: If run, pictures or memory are not what they must be, or the disk is full.
        UsageError: If an argument is wrong.
    """
    if n is not None and n < 1:
        raise UsageError(f"-n must be at least 1, got {n}")
    wanted = _wanted(prompt, mask, edit, ask)
    if wanted is None and memory is not None:
        raise UsageError("a --memory is looked up for what is asked, and nothing is; give a --prompt, or leave it out")
    model = load_model(run)
    model.network.to(engine().device)
    kind, place = require_documents(model), run.place(out)
    kind.check_place(place)
    wanted = wanted or anything(reader(model).context)
    if (edit or ask) and not kind.tasks:
        tell.say("this model has learned no tasks, so this is a guess; train it on examples of them: fit --start-from")
    if prompt and kind.tasks and wanted.prompt.has_gap:
        tell.say("this model has learned tasks, and may have forgotten how to fill gaps inside texts")
    draws, n = Draws(seed).named("sample"), n or (1 if isinstance(wanted.plan, Fill) else 9)
    drawn = write(model, wanted, n, manner=manner, memory=memory, draws=draws, tell=tell)
    kind.write(drawn.data.values, drawn.data.given, place)
    return drawn, place


def _wanted(prompt: str | None, mask: str | None, edit: tuple[str, ...], ask: tuple[str, ...]) -> Wanted | None:
    """Return the one thing that is asked for; None for anything.

    Raises:
        UsageError: If several are, or one lacks its picture or its words.
    """
    asked = [flag for flag, value in (("--prompt", prompt), ("--edit", edit), ("--ask", ask)) if value]
    if len(asked) > 1:
        raise UsageError(f"{asked[0]} and {asked[1]} exclude each other; choose one")
    for flag, pair in (("--edit", edit), ("--ask", ask)):
        if pair and len(pair) != 2:
            raise UsageError(
                f'{flag} takes a picture and words in quotes, such as cat.png "is it blue?", got {shlex.join(pair)}'
            )
    if mask is not None:
        if prompt is None:
            raise UsageError("--mask says which part of the picture of a --prompt is drawn anew; give one")
        return by_mask(prompt, mask)
    if edit:
        return by_edit(edit[0], edit[1])
    if ask:
        return by_question(ask[0], ask[1])
    return None if prompt is None else by_prompt(prompt)
