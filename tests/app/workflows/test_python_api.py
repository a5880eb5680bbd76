"""What people get wrong in Python is told in words, not by an error of Python's own."""

import json
import subprocess
import sys

SCRIPT = """
import json, torch, feller

def still(x, t):
    return feller.Characteristics(velocity=-x)

model = feller.Model(lambda x, t: -x, data=(2,))
sorts = feller.Model(lambda x, t, label: -x, data=(2,), classes=("moons", "circles"), null={"label": 2})
x, grid, draws = torch.zeros(2, 2), feller.linear_grid(4), feller.Rng(0)
calls = {
    "wrap": lambda: feller.Model(lambda x, t: -x, data=2),
    "words": lambda: feller.Model(lambda x, t: -x, data=(2, "a")),
    "none": lambda: feller.Model(lambda x, t: -x, data=(0,)),
    "grid": lambda: feller.simulate(still, x, 20, feller.Midpoint(), draws),
    "solver": lambda: feller.simulate(still, x, grid, feller.Midpoint, draws),
    "other": lambda: feller.simulate(still, x, grid, "midpoint", draws),
    "n": lambda: model.sample(2.5),
    "tensor": lambda: feller.simulate(still, x, torch.linspace(0, 1, 9), feller.Midpoint(), draws),
    "narrow": lambda: feller.simulate(
        lambda x, t: feller.Characteristics(velocity=x[:, :1]), x, [0, 1], feller.Midpoint(), draws
    ),
    "network": lambda: feller.simulate(
        feller.Affine(prediction=feller.paths.DataPrediction()).process(lambda x, t, given: x[:, :1], {}),
        x, grid, feller.Midpoint(), draws,
    ),
    "bare": lambda: feller.simulate(lambda x, t: -x, x, [0, 1], feller.Midpoint(), draws),
    "class": lambda: feller.FlowMatching(feller.Affine(), feller.Euclidean((2,)), feller.Loss),
    "recipe": lambda: feller.SamplerConfig(solver=feller.Midpoint()),
    "kinds of bridge": lambda: feller.BridgeProblem.between([torch.zeros(50, 2), torch.zeros(50, 1)], 1.0),
    "no file": lambda: feller.BridgeProblem.between(["a.csv", "b.csv"], 1.0),
    "odd": lambda: feller.BridgeProblem.between([object(), object()], 1.0),
    "run": lambda: feller.cite(feller.Affine()),
    "guided field": lambda: feller.velocity(sorts, guidance="a"),
    "guided": lambda: sorts.sample(2, guidance="x"),
    "many guided": lambda: sorts.sample(2, guidance=torch.ones(2)),
    "given": lambda: sorts.sample(2, given="circles"),
    "parse_conditions": lambda: sorts.parse_conditions(2, "circles", draws),
    "minutes": lambda: feller.fit(x, minutes="x"),
    "steps": lambda: feller.fit(x, steps=2.5),
    "epsilon": lambda: feller.fit(x, epsilon="4"),
    "stepps": lambda: feller.fit(x, stepps=3),
    "strange": lambda: feller.fit(x, qqqq=3),
}
told = {}
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        fields = [getattr(error, field, None) for field in ("argument", "found", "remedy")]
        told[name] = [type(error).__name__, *fields, str(error)]
import inspect
told["fit"] = {one.name: str(one) for one in inspect.signature(feller.fit).parameters.values()}
kinds = (feller.Loss, feller.TimeDistribution, feller.Coupling, feller.MLP)
told["kinds"] = [issubclass(kind, object) for kind in kinds]
print(json.dumps(told))
"""


def test_wrong_calls_are_told_in_words():
    """In a process of its own: here the types of all arguments are checked before."""
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    told = json.loads(found.stdout)
    assert {told[name][0] for name in told if name not in ("no file", "fit", "kinds")} == {"UsageError"}
    arguments = {name: fields[1] for name, fields in told.items() if name not in ("fit", "kinds")}
    assert {arguments[name] for name in ("grid", "tensor")} == {"times"}
    assert {arguments[name] for name in ("solver", "other")} == {"solver"}
    named = {"n": "n", "class": "criterion", "strange": "qqqq", "stepps": "stepps"}
    named |= {name: name for name in ("minutes", "steps", "epsilon")}
    assert {name: arguments[name] for name in named} == named
    assert told["stepps"][3] == "Did you mean 'steps'?"
    assert [*told["fit"]][:2] == ["data", "recipe"]
    assert told["fit"]["epsilon"] == "epsilon: float | None = None"
    assert "object at" not in str(told["fit"])
    assert all(told["kinds"])
