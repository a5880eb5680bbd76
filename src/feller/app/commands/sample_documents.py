"""feller sample, of a run of documents."""

from typing import Any

from feller.app.commands.sample_flags import SampleFlags, SymbolFlags
from feller.core.errors import UsageError

MOST_LINES = 10
"""Texts that are shown at once; the file has all."""
ALPHA = 0.1
"""Of contrastive decoding, where it is not said."""


def write(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Draw documents."""
    from feller.app.terminal import heard
    from feller.app.workflows.documents.sampled import documents

    wanted = asked.documents
    with heard(tell):
        drawn, place = documents(
            run,
            asked.n,
            out=asked.out,
            prompt=wanted.prompt,
            mask=wanted.mask,
            edit=asked.edit,
            ask=wanted.ask,
            memory=wanted.memory,
            manner=_manner(asked),
            seed=asked.seed,
            tell=tell,
        )
    tell.say(drawn.pace)
    for i in range(min(len(drawn.said), MOST_LINES)):
        tell.say(f"--- {i + 1}\n{drawn.lines(i)}" if len(drawn.said) > 1 else drawn.lines(i))
    tell.say(f"{len(drawn.data):,} document{'s' * (len(drawn.data) != 1)}: {place}")
    told = {"said": list(drawn.said)} if drawn.said else {}
    told |= {"looked_up": list(drawn.front)} if wanted.memory is not None else {}
    return {"run": str(run.path), "samples": str(place), "n": len(drawn.data), **told}


def _manner(asked: SampleFlags) -> Any:
    """Return how documents are drawn."""
    from feller.app.workflows.documents.generate_documents import DOCUMENTS, PLAUSIBLE, Manner

    wanted, symbols = asked.documents, asked.symbols
    guidance = 1.0 if asked.guidance is None else asked.guidance
    if wanted.documents is not None and wanted.memory is None:
        raise UsageError("--documents stand in front from a --memory; name one, or leave it out")
    if wanted.picture_guidance is not None and not asked.edit:
        raise UsageError("--picture-guidance is of --edit; leave it out")
    if wanted.plausible is not None and max(guidance, wanted.picture_guidance or 1.0) <= 1:
        raise UsageError("--plausible is of --guidance above 1; name its weight, or leave it out")
    return Manner(
        guidance=guidance,
        picture_guidance=wanted.picture_guidance,
        plausible=PLAUSIBLE if wanted.plausible is None else wanted.plausible,
        contrast=_contrast(wanted.contrast),
        choice=symbols.choice() if symbols != SymbolFlags() else None,
        best_of=1 if wanted.best_of is None else wanted.best_of,
        documents=DOCUMENTS if wanted.documents is None else wanted.documents,
    )


def _contrast(text: str | None) -> tuple[int, float] | None:
    """Return k and alpha."""
    if text is None:
        return None
    k, _, alpha = text.partition(":")
    try:
        return int(k), float(alpha or ALPHA)
    except ValueError:
        raise UsageError(f"--contrast takes K or K:ALPHA, such as 8:0.1, got {text!r}") from None
