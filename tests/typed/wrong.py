"""One plain mistake in each line that is marked, which type checkers must find."""

import torch
from torch import Tensor

import feller


def flow(x: Tensor, t: Tensor) -> feller.Characteristics:
    return feller.Characteristics(velocity=-x)


space, draws = feller.Euclidean((2,)), feller.Rng(0)
path = feller.Affine(feller.Euclidean((2,)))  # wrong: a space is no schedule
other = feller.Afine()  # wrong: no such name
objective = feller.FlowMatching(path)  # wrong: the space is missing
square = feller.Euclidean("2")  # wrong: a word is no shape
draw = feller.Rng("seed")  # wrong: a word is no number
x_0, grid = torch.zeros(4, 2), [0.0, 1.0]
x_1 = feller.simulate(flow, x_0, grid, feller.Midpoint, draws)  # wrong: a class
number: float = feller.simulate(flow, x_0, grid, feller.Euler(), draws)  # wrong: a tensor
size = feller.linear_grid(4).shape  # wrong: a list has no shape
samples = feller.Model(lambda x, t: -x, data=(2,)).sample(n="5")  # wrong: a word is no number
mean = feller.Model(lambda x, t: -x, data=(2,)).sample(5).mean()  # wrong: a data set has no mean
run = feller.fit("data.csv", epsilon="4")  # wrong: a word is no number
other_run = feller.fit("data.csv", stepps=3)  # wrong: no such argument
report = feller.evaluate(other_run, n=10).metric  # wrong: no such field
nested_run = feller.fit("data.csv", privacy=feller.PrivacyOptions(delat=1e-6))  # wrong: no such option of the group
drawn = feller.sample("runs/a", output=feller.PrivacyOptions())  # wrong: options of another group
found = feller.load("runs/a").sample(3, top_k="3")  # wrong: an option of a group that takes a whole number
