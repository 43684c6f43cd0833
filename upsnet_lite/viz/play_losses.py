"""Lesson 06: the weights of the eight losses as sliders; what each then teaches each module, and how far all move it.

    L = sum_k w_k L_k      taught(k, m) = |w_k g_km|,  g_km = dL_k / d(parameters of module m)
    move(m) = |sum_k w_k g_km| = sqrt(w' G_m w),       G_m[k, l] = g_km · g_lm

The gradients are linear in the weights: G is computed once, and a slider costs no pass through the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from upsnet_lite.viz.lessons_losses import show_matrix
from upsnet_lite.viz.play import Answer, Play, play, slider


@dataclass(frozen=True)
class Lesson:
    """What eight losses say about one batch: their values, unweighted, and G for each module."""

    losses: tuple[str, ...]
    modules: tuple[str, ...]
    values: Float[Tensor, " K"]
    gram: Float[Tensor, "M K K"]


def lesson(losses: Mapping[str, Float[Tensor, ""]], modules: Mapping[str, Sequence[nn.Module]]) -> Lesson:
    """losses: unweighted, on the graph; modules: the parts of each by name. One backward pass per loss."""
    of_module = [[p for part in parts for p in part.parameters()] for parts in modules.values()]
    every = [p for parameters in of_module for p in parameters]
    gradients = []
    for loss in losses.values():
        found = torch.autograd.grad(loss, every, retain_graph=True, allow_unused=True)
        gradients.append([torch.zeros_like(p) if g is None else g for g, p in zip(found, every, strict=True)])
    gram, first = [], 0
    for parameters in of_module:
        rows = [torch.cat([g.flatten() for g in one[first : first + len(parameters)]]) for one in gradients]
        flat = torch.stack(rows).double()
        gram.append(flat @ flat.T)
        first += len(parameters)
    values = torch.stack([loss.detach() for loss in losses.values()]).double()
    return Lesson(tuple(losses), tuple(modules), values, torch.stack(gram))


@dataclass(frozen=True)
class Balance:
    """The weighted sum, each loss's share of it, what each teaches each module, how far all of them move it."""

    total: float
    shares: Float[Tensor, " K"]
    taught: Float[Tensor, "K M"]
    move: Float[Tensor, " M"]


def balance(given: Lesson, weights: Sequence[float]) -> Balance:
    """The shares are 0 where all weights are."""
    w = torch.tensor(weights, dtype=torch.float64)
    added = w * given.values
    total = float(added.sum())
    taught = (w * given.gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()).T
    move = torch.einsum("k,mkl,l->m", w, given.gram, w).clamp(min=0).sqrt()
    return Balance(total, added / total if total else added, taught, move)


def show_balance(given: Lesson, found: Balance):
    """The matrix loss x module of norms, each loss with its share of the sum, and the move of each module below."""
    names = [f"{short(k)}  {100 * s:.0f} %" for k, s in zip(given.losses, found.shares.tolist(), strict=True)]
    values = torch.cat((found.taught, found.move[None]))
    title = f"total {found.total:.2f}"
    note = "share of the sum, and norm of the weighted gradient by module; · is exactly 0"
    picture = show_matrix(values, [*names, "all together"], list(given.modules), title, note)
    picture.alt_text = f"Matrix of eight losses and {len(given.modules)} modules. {words(given, found)}"
    return picture


def short(loss: str) -> str:
    return loss.removeprefix("loss_").replace("_", " ")


def words(given: Lesson, found: Balance) -> str:
    shares = ", ".join(f"{short(k)} {100 * s:.0f} %" for k, s in zip(given.losses, found.shares.tolist(), strict=True))
    moves = ", ".join(f"{m} {v:.2g}" for m, v in zip(given.modules, found.move.tolist(), strict=True))
    return f"Total {found.total:.2f}: {shares}.\nAll together move: {moves}."


def play_weights(given: Lesson, weights: Mapping[str, float], most: float = 3.0) -> Play:
    """A slider for each loss, from 0 to `most`, at the network's own weights."""

    def draw(**chosen: float) -> Answer:
        found = balance(given, [chosen[k] for k in given.losses])
        return Answer([show_balance(given, found)], words(given, found))

    return play(draw, **{k: slider(short(k), 0.0, most, float(weights[k]), 0.05) for k in given.losses})
