"""Flags of feller fit that belong together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from feller.app.commands.kinds import Counted, Names, Real, Text, Whole, Words
from feller.app.commands.marks import Offers
from feller.core.errors import UsageError

if TYPE_CHECKING:
    from feller.app.workflows.private.privacy_config import Wish

ADAPTIVE = "adaptive"


@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How data are read."""

    longest: Counted = None
    """Bring images to this longer side, by default at most 64, of documents 32; leave out chains of more residues, by
    default 128, and crystals and molecules of more atoms, by default 64, and sounds of more seconds, by default 30;
    learn texts of so many symbols, by default 128."""
    space: Annotated[Text, Offers(tables=("feller.data.points.named_spaces:NAMES",))] = None
    """Where rows of numbers lie: sphere, torus, simplex, poincare, spd, rotations, euclidean, or a mesh (.obj .off)."""
    project: bool = False
    """Move points beside --space to the nearest on it, instead of refusing them."""
    vocabulary: Annotated[Text, Offers(tables=("feller.data.text.dataset:NAMES",))] = None
    """Symbols of a text: characters, bytes, subwords or subwords:NUMBER; by default characters, where there are few."""
    tokenizer: Annotated[Text, Offers(tables=("feller.app.workflows.fitting.tokenised:NAMED",), runs=True)] = None
    """Of documents: the run of a tokeniser of their pictures; or palette, where these have few colours, tiles, where
    small squares recur in them, or learned: one is trained first. By default tiles if all is made of few, else that."""
    target: Names = ()
    """What is to be told of the data, instead of drawing such: numbers that XYZ comments, SDF records, columns of a
    table or those beside one of CIF give; or label, the class."""
    schema: Text = None
    """File that says what is public about a table: its columns, and which cells they may have; `feller data schema`
    writes one."""


@dataclass(frozen=True, kw_only=True)
class PrivacyFlags:
    """Of private training."""

    epsilon: Real = None
    """Protect each row: what the model tells depends on no single one but by a factor of e^EPSILON."""
    delta: Annotated[Text, Offers(("auto",))] = None
    """Chance that --epsilon does not cover, or auto: min(1e-5, 1 / rows^1.1)."""
    noise: Real = None
    """Noise of private training in clip norms, instead of --epsilon."""
    stop_at_epsilon: Real = None
    """With --noise: train no further than this epsilon."""
    clip: Annotated[Text, Offers((ADAPTIVE,))] = None
    """Longest gradient of one row in private training, 1 by default; or adaptive, which follows the middle of their
    lengths by a noisy count."""
    audit: Words = ()
    """fisher=ROWS keeps account of what each step of private training tells about so many rows, for `feller audit`."""
    unsafe_seed: Whole = None
    """Draw private noise from a seed, so that it can be repeated, and taken away by whoever knows it: for tests."""

    def wish(self) -> "Wish | None":
        """Return the privacy that is asked for."""
        from feller.app.workflows.private.privacy_config import Wish

        given = (self.epsilon, self.delta, self.noise, self.stop_at_epsilon, self.clip, self.unsafe_seed)
        if all(value is None for value in given):
            return None
        delta = _number("--delta is a chance such as 1e-6", self.delta, "auto")
        clip = _number("--clip is a length such as 1", self.clip, ADAPTIVE)
        return Wish(
            epsilon=self.epsilon,
            delta=delta,
            noise=self.noise,
            stop_at=self.stop_at_epsilon,
            clip=1.0 if clip is None else clip,
            adaptive=self.clip == ADAPTIVE,
            unsafe_seed=self.unsafe_seed,
        )

    def watched(self) -> int:
        """Return how many rows are watched."""
        if not self.audit:
            return 0
        kind, _, count = self.audit[0].partition("=")
        if len(self.audit) > 1 or kind != "fisher" or not count.isdecimal() or int(count) < 1:
            raise UsageError(f"--audit takes fisher=ROWS, such as fisher=64, got {' '.join(self.audit)}")
        return int(count)


def _number(what: str, text: str | None, word: str) -> float | None:
    """Return a number; None where there is nothing, or a word that stands for none.

    Raises:
        UsageError: If it is neither.
    """
    if text is None or text == word:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{what}, or {word}, got {text!r}") from error
