"""The claims of CM3Leon at a size at which nothing is learned."""

from feller_papers.cm3leon.setting import Setting

TINY = Setting(
    workers=1,
    seeds=(0,),
    heads=12,
    tails=6,
    scenes=40,
    lessons=40,
    dials=(1, 2, 3),
    batch=4,
    steps=2,
    tuned=2,
    finder=2,
    judge=5,
    asked=4,
    exams=16,
    drawn=4,
    weights=(1.0, 3.0),
    kept=(1, 4),
    best_of=2,
    prompts=2,
)
