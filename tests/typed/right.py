"""Usual use, in which type checkers find nothing wrong."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import feller


def flow(x: Tensor, t: Tensor) -> feller.Characteristics:
    return feller.Characteristics(velocity=-x)


def net(x: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
    return -x


path = feller.Affine(feller.Cosine(), prediction=feller.DataPrediction())
space = feller.Euclidean((2,))
objective = feller.FlowMatching(path, space, coupling=feller.MinibatchOT())
network = feller.MLP(width=8, depth=1).build((2,), {}, feller.Rng(0))
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
draws = feller.Rng(0)
example = objective.draw({"x_1": torch.zeros(4, 2)}, draws.step(0))
objective.loss(network, example).mean().backward()
x_0 = space.sample_base(8, draws.stream("source"))
x_1 = feller.simulate(flow, x_0, feller.linear_grid(4), feller.Midpoint(), draws)
mean: float = x_1.mean().item()
guided = feller.cfg(net, 2.0)
x_1 = feller.simulate(path.process(guided, {}), x_0, [0.0, 1.0], feller.Euler(), draws)
pair = feller.simulate(feller.add(flow), {"a": x_0, "b": x_0}, [0.0, 1.0], feller.Heun(), draws)
first: Tensor = pair["a"]
density: Tensor = feller.log_prob(flow, x_1, [1.0, 0.0], feller.RK4(space), draws)
model = feller.Model(net, data=(2,))
samples = model.sample(5, solver="heun", rng=draws)
assert isinstance(samples, feller.Dataset)  # not a data frame, as samples of a table are
values: np.ndarray = samples.numpy()
frame: pd.DataFrame = samples.frame()
nats: Tensor = model.log_prob(values)
data = feller.read(pd.DataFrame({"x": [0.0], "y": [1.0]}))
rotation: Tensor = feller.SO3().exp(x_0, x_0)
scale = feller.VP(beta_max=10.0)(torch.linspace(0, 1, 5)).d_log_snr
run = feller.fit(frame, target="y", epsilon=4.0, steps=3, report=False, privacy=feller.PrivacyOptions(delta=1e-6))
again: feller.FittedRun = feller.fit(resume=True, out="runs/a", verbose=False)
whole = feller.fit("data.csv", config=feller.FitConfig(size="tiny"), steps=3)
drawn = run.sample(10, given={"label": 7}, guidance=2.0, top_k=3, sampler=feller.SamplerOptions(nfe=4))
some = run.sample(10, given={"label": 7, "age": (30, 40), "job": ["clerk", "smith"]}, guidance=2.0)
likely: np.ndarray = run.log_prob(frame)
shorter: Tensor = feller.log_prob(flow, x_1, divergence=feller.Hutchinson())
ema = feller.EMA(network, decay=0.9)
mine = feller.Model(ema.network, objective, data=feller.points(["x", "y"], ["a", "b"]), null={"label": 2})
report: feller.Report = feller.evaluate(run, data=frame, n=100)
wished = feller.steer("runs/a", reward="ink", n=4).samples
bridge = feller.bridge(values, values, noise=0.5, cost=["congestion"])
paths: np.ndarray = feller.bridge(values, values, cost=lambda x, t: x.norm(dim=-1)).trajectories(n=5)
