"""The paper's claim: a language model over rows against methods that know tables of few columns."""

from collections.abc import Iterator

from feller_papers.claims import Claim, spread_of, untestable, verdict
from feller_papers.private_tables.figures import called, caution, nats, nll, number, read_off, surprises, told, worth
from feller_papers.private_tables.methods import AIM, ALONE, MARGINAL, MST, ROWS, TRIPLES
from feller_papers.private_tables.setting import PAPER, STRONG, Budget, Setting
from feller_papers.private_tables.tables import ADULT, FEW, GERMAN, there

SAID = "competitive, also at small scales that favour marginals (abstract)"
NEAR, CLOSE = 0.01, 0.05
"""By how much area under ROC may be lower, and nats of a row more, to be competitive."""


def competitive(setting: Setting) -> Iterator[Claim]:
    """Beside AIM, for each table and budget."""
    for name in there(setting):
        for budget in setting.budgets:
            yield _beside_aim(setting, name, budget)


def _beside_aim(setting: Setting, name: str, budget: Budget) -> Claim:
    lacking = [
        b - a for a, b in zip(*(read_off(setting, name, way, budget, worth) for way in (ROWS, AIM)), strict=True)
    ]
    more = [a - b for a, b in zip(*(read_off(setting, name, way, budget, nll) for way in (ROWS, AIM)), strict=True)]
    kind = called(setting, name, ROWS, budget)
    shown = (ROWS, *MARGINAL)

    def each(figure: str, digits: int = 3) -> str:
        take = worth if figure == kind else number(figure.lower())
        return ", ".join(f"{way.name} {told(read_off(setting, name, way, budget, take), digits)}" for way in shown)

    surprise = ", ".join(f"{way.name} {nats(setting, name, way, budget)}" for way in shown)
    return Claim(
        f"{name}, {budget.name}: a language model over rows is competitive with AIM",
        SAID,
        f"{kind} {each(kind)}; nats of a held-out row {surprise}; TV2 {each('TV2')}. {kind} lower by"
        f" {told(lacking)}, {told(more)} nats more. Wanted: at most {NEAR:g} and {CLOSE:g}.{caution(setting)}",
        spread_of(lacking),
        verdict(max(lacking) <= NEAR and max(more) <= CLOSE),
    )


def few_rows(setting: Setting) -> Iterator[Claim]:
    """Where rows are few, noise drowns gradients before it drowns counts."""
    for name in (FEW, GERMAN):
        claim = f"{name}, {STRONG.name}: a small table favours marginals, in TV2 and in what rows are worth"
        if name == GERMAN and name not in there(setting):
            yield untestable(claim, SAID, "needs german_credit.csv.gz in the folder of --data")
            continue
        ways = (ROWS, *MARGINAL, ALONE)
        tv, value = (
            {way: read_off(setting, name, way, STRONG, figure) for way in ways} for figure in (number("tv2"), worth)
        )
        ahead = [min(tv[way][i] for way in MARGINAL) - own for i, own in enumerate(tv[ROWS])]
        behind = [max(value[way][i] for way in MARGINAL) - own for i, own in enumerate(value[ROWS])]
        kind = called(setting, name, ROWS, STRONG)
        yield Claim(
            claim,
            SAID,
            f"TV2 {', '.join(f'{way.name} {told(tv[way])}' for way in ways)}; {kind}"
            f" {', '.join(f'{way.name} {told(value[way])}' for way in ways)}.{caution(setting)}",
            spread_of(ahead),
            verdict(max(ahead) < 0 < min(behind)),
        )


def protocol(setting: Setting) -> Iterator[Claim]:
    """The comparison of the paper's program: nats of held-out rows, by AIM of tables of 1 to 3 columns."""
    claim = (
        f"{ADULT}, epsilon {PAPER.epsilon:g} at delta {PAPER.delta:g}: held-out rows surprise the row model less than"
        " AIM of all tables of 1 to 3 columns with at most 100,000 cells"
    )
    if not setting.whole:
        yield untestable(claim, SAID, "takes minutes; run without --quick")
        return
    ours, theirs = (surprises(setting, ADULT, way, PAPER) for way in (ROWS, TRIPLES))
    more = [a - b for a, b in zip(ours, theirs, strict=True)]
    yield Claim(
        claim,
        "NLL of AIM with 80 MB; no figure at hand",
        f"nats of a row {nats(setting, ADULT, ROWS, PAPER)}; AIM of triples in 8 MiB"
        f" {nats(setting, ADULT, TRIPLES, PAPER)}, of pairs in 1 MiB {nats(setting, ADULT, AIM, PAPER)}; MST"
        f" {nats(setting, ADULT, MST, PAPER)}; {told(more)} nats more than AIM of triples",
        spread_of(more),
        verdict(max(more) < 0),
    )
