"""feller sample."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from feller.commands.arguments import Real, RunPlace, Text, Whole, Words, named, short
from feller.errors import UsageError
from feller.record import nearest

MOST_LINES = 10
"""Texts that are shown at once; the file has all."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw samples from RUN, the newest by default."""

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    n: Annotated[int, short("-n")] = 64
    """Number of samples."""
    out: Text = None
    """Where they go; the ending decides the form: .npz for all data, and by their kind .csv, .tsv, .parquet, .npy,
    or .txt, .jsonl, .cif, .xyz, .sdf, .pdb; without an ending a folder. By default samples/ in the run."""
    calls: Whole = None
    """Network calls per sample; a midpoint step is two."""
    solver: Text = None
    """euler, midpoint, heun, rk4, dopri5, euler-maruyama or ancestral."""
    given: Words = ()
    """Conditions or parts of the data, KEY=VALUE; those not given are drawn: conditions as often as in the training
    data, parts beside the others."""
    superpose: Text = None
    """jump=SHARE, such as jump=0.5: how much of the process jumps and how much flows, for models that can do both."""
    known: Text = None
    """Text to fill in: ___ stands for what is missing, one underscore a symbol, as does all that follows; \\n is a new
    line."""
    complete: Text = None
    """Table whose gaps are filled, in place of -n new rows: cells that are empty, or ? or *, unless their column can be
    that."""
    temperature: float = 1.0
    """Divides what the network says of symbols: below 1 is safer, above 1 is bolder."""
    top_k: Whole = None
    """Draw symbols among so many of the likeliest."""
    top_p: Real = None
    """Draw symbols among the likeliest that hold this share of the probability."""
    order: Text = None
    """Which masked symbols are revealed first: confidence or entropy; by default chance decides."""
    guidance: float = 1.0
    """1 is the plain conditional model, 0 the unconditional, more sharpens."""
    begin: Annotated[Text, named("--from")] = None
    """Of the run of a bridge: what is pushed through it, a file or folder like those that were bridged; by default the
    population where it begins."""
    backward: bool = False
    """Of the run of a bridge: go back in time."""
    seed: int = 0
    """Of all randomness."""
    code: Text = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print a JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        from feller.commands.folder import find
        from feller.commands.terminal import heard, speaker
        from feller.journeys.bridged import bridged_of
        from feller.journeys.sample import sample
        from feller.paths import Choice

        tell = speaker()
        run = find(self.folder, self.code, tell)
        if self.begin is not None or self.backward or bridged_of(run) is not None:
            return self._push(run, tell)
        with heard(tell):
            drawn, place = sample(
                run,
                self.n,
                out=self.out,
                given=pairs(self.given),
                guidance=self.guidance,
                solver=self.solver,
                calls=self.calls,
                choice=Choice(self.temperature, self.top_k, self.top_p),
                order=_order(self.order),
                jump=_share(self.superpose),
                complete=self.complete,
                known=None if self.known is None else self.known.replace("\\n", "\n"),
                seed=self.seed,
                tell=tell,
            )
        for line in _lines(drawn, MOST_LINES):
            tell.say(line)
        tell.say(f"{len(drawn):,} samples: {place}")
        return {"run": str(run.path), "samples": str(place), "n": len(drawn)}

    def _push(self, run: Any, tell: Any) -> dict[str, Any]:
        """Push data through a bridge."""
        from feller.commands.terminal import heard
        from feller.journeys.push import push

        usual = {field.name: field.default for field in fields(Sample)}
        wrong = [name for name in usual if name not in _PUSHED and getattr(self, name) != usual[name]]
        if wrong:
            raise UsageError(f"--{wrong[0].replace('_', '-')} is of samples that begin with noise; a bridge has none")
        with heard(tell):
            ends, place = push(run, self.begin, out=self.out, backward=self.backward, seed=self.seed, tell=tell)
        tell.say(f"{len(ends):,} ends: {place}")
        return {"run": str(run.path), "samples": str(place), "n": len(ends)}


_PUSHED = ("folder", "out", "begin", "backward", "seed", "code", "json")
"""Flags that a bridge takes."""


def _lines(drawn: Any, most: int) -> list[str]:
    """Return the first samples where they are text, each after a line that counts."""
    from feller.data.text.modality import Text

    if not isinstance(drawn.modality, Text):
        return []
    return [f"--- {i}\n{text}" for i, text in enumerate(drawn.modality.texts(drawn.values[:most]), 1)]


def _order(name: str | None) -> Any:
    """Return the order with a name."""
    from feller.paths import Confidence, Entropy

    orders = {"confidence": Confidence, "entropy": Entropy}
    if name is None:
        return None
    if name not in orders:
        raise UsageError(f"no order is called {name!r}: {nearest(name, list(orders))}")
    return orders[name]()


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


def pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE."""
    pairs: dict[str, str] = {}
    for word in words:
        key, is_there, value = word.partition("=")
        if not is_there:
            raise UsageError(f"--given takes KEY=VALUE, got {word!r}")
        if key in pairs:
            raise UsageError(f"--given says {key} twice, {pairs[key]!r} and {value!r}; leave one out")
        pairs[key] = value
    return pairs
