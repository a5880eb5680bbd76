"""`feller sample` for states, documents, speech and bridges."""

from typing import Any

from feller.app.commands.flag_types import pairs
from feller.app.commands.sample_flags import SampleFlags, SymbolFlags
from feller.core.errors import UsageError
from feller.core.serialization import nearest


def push(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Push data through a bridge."""
    from feller.app.terminal import heard
    from feller.app.workflows.apply_bridge import push as pushed

    with heard(tell):
        ends, place = pushed(
            run, asked.bridge.begin, out=asked.out, backward=asked.bridge.backward, seed=asked.seed, tell=tell
        )
    tell.say(f"{len(ends):,} ends: {place}")
    return {"run": str(run.path), "samples": str(place), "n": len(ends)}


MOST_LINES = 10
"""Texts that are shown at once; the file has all."""
ALPHA = 0.1
"""Of contrastive decoding, where it is not said."""


def write(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Draw documents."""
    from feller.app.terminal import heard
    from feller.app.workflows.documents.generate_documents import documents

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


def speak(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Say something."""
    from feller.app.terminal import heard
    from feller.app.workflows.speech.sample_speech import utter
    from feller.app.workflows.speech.speech_request import Asked
    from feller.app.workflows.speech.synthesize import GUIDANCE

    with heard(tell):
        uttered, place = utter(
            run,
            Asked(
                text=asked.speech.text,
                voice=asked.speech.voice,
                denoise=asked.speech.denoise,
                span=asked.speech.span,
                edit=asked.edit,
                style=asked.speech.style,
                content=asked.speech.content,
                durations=asked.speech.durations,
                spelled=asked.speech.spell,
                language=asked.speech.language,
            ),
            1 if asked.n is None else asked.n,
            out=asked.out,
            guidance=GUIDANCE if asked.guidance is None else asked.guidance,
            calls=asked.calls,
            solver=asked.solver,
            speed=1.0 if asked.speech.speed is None else asked.speech.speed,
            vocoder=asked.speech.vocoder,
            seed=asked.seed,
            tell=tell,
        )
    n, seconds = len(uttered.sounds), uttered.seconds
    what = "sound" if n == 1 else "sounds"
    tell.say(
        f"{n:,} {what} of {seconds:.1f} s in all, log mels made in {uttered.network_seconds:.1f} s, seed {asked.seed}:"
        f" {place}"
    )
    return {
        "run": str(run.path),
        "samples": str(place),
        "n": n,
        "seed": asked.seed,
        "seconds": round(seconds, 3),
        "network_seconds": round(uttered.network_seconds, 3),
    }


N = 64
"""Samples, where it is not said."""
"""Texts that are shown at once; the file has all."""


def draw(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Draw samples, into a file or into shards."""
    from feller.app.terminal import heard
    from feller.app.workflows.sample import sample

    if asked.shards.shard is not None:
        return _write_shards(asked, run, tell)
    if asked.overwrite and asked.out is None:
        raise UsageError(
            "--overwrite is of a file at --out or of shards: name it, or say with --shard how many samples a file holds"
        )
    if "{shard}" in (asked.out or ""):
        raise UsageError("say with --shard how many samples a file holds, or leave {shard} out of the name")
    if asked.complete is not None and (asked.n is not None or asked.known is not None):
        flag = "-n" if asked.n is not None else "--known"
        raise UsageError(f"--complete fills the rows of its table, each once; leave {flag} out")
    n = N if asked.n is None else asked.n
    with heard(tell):
        drawn, place = sample(run, n, out=asked.out, complete=asked.complete, tell=tell, **_wishes(asked))
    for line in _lines(drawn, MOST_LINES):
        tell.say(line)
    tell.say(f"{len(drawn):,} samples: {place}")
    return {"run": str(run.path), "samples": str(place), "n": len(drawn)}


def _wishes(asked: SampleFlags) -> dict[str, Any]:
    """Return what is asked of the samples."""
    return {
        "given": pairs(asked.given),
        "guidance": 1.0 if asked.guidance is None else asked.guidance,
        "solver": asked.solver,
        "calls": asked.calls,
        "choice": asked.symbols.choice(),
        "order": _made(asked.symbols.order, "ORDERS", "no order is"),
        "rates": _made(asked.symbols.rates, "RATES", "no rates are"),
        "jump": _share(asked.superpose),
        "known": None if asked.known is None else asked.known.replace("\\n", "\n"),
        "compiled": asked.shards.compile,
        "seed": asked.seed,
    }


def _write_shards(asked: SampleFlags, run: Any, tell: Any) -> dict[str, Any]:
    """Write many samples."""
    from feller.app.terminal import heard
    from feller.app.workflows.sampler import ready
    from feller.app.workflows.sharded_samples import sample_shards
    from feller.core.output_shards import check_numbers

    if asked.complete is not None:
        raise UsageError("--complete writes the rows of its table, all in one file; leave out --shard")
    n, shard = N if asked.n is None else asked.n, asked.shards.shard or 0
    check_numbers(n=n, shard=shard)
    with heard(tell):
        drawing = ready(run, tell=tell, **_wishes(asked))
        found = sample_shards(run, drawing, n, shard, out=asked.out, overwrite=asked.overwrite, tell=tell)
    tell.say(f"{n:,} sample{'s' * (n != 1)} in {len(found):,} shard{'s' * (len(found) != 1)}: {found.folder}")
    return {"run": str(run.path), "samples": str(found.folder), "n": n, "shards": len(found)}


def _lines(drawn: Any, most: int) -> list[str]:
    """Return the first samples where they are text, each after a line that counts."""
    from feller.data.text.modality import Text

    if (kind := drawn.modality.view(Text)) is None:
        return []
    return [f"--- {i}\n{text}" for i, text in enumerate(kind.texts(drawn.values[:most]), 1)]


def _made(name: str | None, table: str, none_called: str) -> Any:
    """Return an object of the class with a name in a table of the sampler config; None without a name."""
    from feller.sampling import sampler_config

    classes: dict[str, type] = getattr(sampler_config, table)
    if name is None:
        return None
    if name not in classes:
        raise UsageError(f"{none_called} called {name!r}: {nearest(name, list(classes))}")
    return classes[name]()


def _share(text: str | None) -> float | None:
    """Return the share of the jumps."""
    if text is None:
        return None
    name, _, share = text.partition("=")
    if name != "jump":
        raise UsageError(f"--superpose takes jump=SHARE, got {text!r}")
    try:
        return float(share)
    except ValueError:
        raise UsageError(f"--superpose takes jump=SHARE with a share from 0 to 1, got {text!r}") from None
