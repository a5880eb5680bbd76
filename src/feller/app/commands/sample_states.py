"""feller sample, of a run whose samples are states: of all data but documents and speech."""

from typing import Any

from feller.app.commands.flag_types import pairs
from feller.app.commands.sample_flags import SampleFlags
from feller.core.errors import UsageError
from feller.core.serialization import nearest

N = 64
"""Samples, where it is not said."""
MOST_LINES = 10
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
        "order": _order(asked.symbols.order),
        "rates": _rates(asked.symbols.rates),
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
    from feller.data.text.text_modality import Text

    if not isinstance(drawn.modality, Text):
        return []
    return [f"--- {i}\n{text}" for i, text in enumerate(drawn.modality.texts(drawn.values[:most]), 1)]


def _order(name: str | None) -> Any:
    """Return the order with a name."""
    from feller.sampling.sampler_config import ORDERS

    if name is None:
        return None
    if name not in ORDERS:
        raise UsageError(f"no order is called {name!r}: {nearest(name, list(ORDERS))}")
    return ORDERS[name]()


def _rates(name: str | None) -> Any:
    """Return the rates with a name."""
    from feller.sampling.sampler_config import RATES

    if name is None:
        return None
    if name not in RATES:
        raise UsageError(f"no rates are called {name!r}: {nearest(name, list(RATES))}")
    return RATES[name]()


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
