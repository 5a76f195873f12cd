"""How often is argmax wrong, how often can that be certified, and how often is a certificate wrong?

    python benchmarks/certificate.py [--quick]

Three tables; the last line is one JSON object.

1. Random networks ``y = v^T s(W x)`` whose s is a mixture of h random activations. Realisable: the targets are the mixture's
   output. Stationary: with a residual for which the shares are a stationary point. Unconverged: the same, and then the
   shares' logits are moved by N(0, 0.5).
2. The same with candidates whose outputs differ in scale by factors of up to 1e8, and shares to match: what rounding may hide.
3. Networks that search: one random teacher per network, method `mixture` with Adam on weights and choices, judged after
   more and more steps.

Wrong: the chosen candidate has a larger loss, with the shared weights, than another one. Argmin L, the candidate with the least
loss on the samples that the certificate sees, is never wrong on those. It needs labels, and where they are there it costs the
same; so the last table also has new samples, on which all three ways of choosing may be wrong. A pair passes Condition 6
where ``L_i < L_j`` and ``D_i >= D_j``; it is wrong where the shares then rank the other way. A draw passes if all its pairs do.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields, replace

import torch
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.optimizers import Adam
from nasplug.replicas import normal, uniform
from nasplug.schedules import constant, track
from nasplug.tasks import Split, Task, unscaled
from nasplug.train import Search, start, step
from nasplug_mixture import USUAL, Certificate, certificate, certificates, mixture

INPUTS, HIDDEN, SAMPLES = 4, 8, 64
POOL = [name for name in FUNCTIONS if name != "identity"]
SETTINGS = ("realisable", "stationary", "unconverged")
RATIOS = (1.0, 1e2, 1e4, 1e6, 1e8)
SEARCHED = 5
STEPS = (0, 30, 100, 300, 1000, 2000)
PACK = 125  # near the caches


def drawn(seeds: Tensor, h: int, inputs: str = "x") -> tuple[Tensor, Tensor]:
    """Candidate outputs ``(K, h, 1, N)`` of random networks, each with h activations of its own, and shares ``(K, h)``."""
    x = normal(torch.tensor([0]), inputs, (INPUTS, SAMPLES))[0]
    z = normal(seeds, "W", (HIDDEN, INPUTS)) * (1.5 / INPUTS**0.5) @ x  # (K, H, N)
    v = normal(seeds, "v", (1, HIDDEN)) / HIDDEN**0.5
    f = torch.stack([v @ FUNCTIONS[name](z) for name in POOL], 1)  # (K, pool, 1, N)
    mine = uniform(seeds, "which", (len(POOL),)).argsort(1)[:, :h]  # (K, h)
    f = f.gather(1, mine[:, :, None, None].expand(-1, -1, 1, SAMPLES))
    return f, torch.softmax(normal(seeds, "logits", (h,)), 1)


def targets(f: Tensor, a: Tensor, seeds: Tensor, setting: str) -> Tensor:
    """``(K, 1, N)``: the mixture, and a residual half its size that is orthogonal to every ``f_i - f_a``."""
    f_a = (a[..., None, None] * f).sum(1)
    if setting == "realisable":
        return f_a
    r = 0.5 * f_a.std(-1, keepdim=True) * normal(seeds, "residual", (1, SAMPLES))
    span = (f - f_a.unsqueeze(1)).flatten(2)  # (K, h, N), of rank h - 1
    q = torch.linalg.svd(span, full_matrices=False)[2][:, :-1]
    return f_a + r - (r @ q.mT) @ q


def moved(a: Tensor, seeds: Tensor) -> Tensor:
    """Shares that have not arrived: their logits moved by N(0, 0.5)."""
    return torch.softmax(a.log() + 0.5 * normal(seeds, "moved", (a.shape[1],)), 1)


def apart(seeds: Tensor, h: int, ratio: float) -> tuple[Tensor, Tensor]:
    """`drawn`, with a scale in [1, ratio] for each candidate's outputs, both ends among them, and its share divided by it."""
    f, a = drawn(seeds, h)
    power = uniform(seeds, "scale", (h,))
    power[:, 0], power[:, 1] = 1.0, 0.0
    scale = ratio**power
    return f * scale[..., None, None], torch.softmax(a.log() - scale.log(), 1)


def wrong(loss: Tensor | None, chosen: Tensor | None) -> Tensor:
    """Bool ``(K,)``: another candidate has less loss, beyond rounding."""
    assert loss is not None
    assert chosen is not None
    mine = loss.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return mine > loss.amin(1) * (1.0 + 1e-9)


def rates(some: Certificate) -> dict[str, float]:
    """Counts over draws, and the medians of what the certificate measures."""
    assert some.asked is not None
    assert some.passes is not None
    assert some.condition6 is not None
    assert some.sure is not None
    assert some.gap is not None
    argmax_wrong, closest_wrong = wrong(some.loss, some.largest), wrong(some.loss, some.closest)
    pairs = some.asked & some.passes
    misranked = pairs & (some.a.unsqueeze(-1) < some.a.unsqueeze(-2) - 1e-9)
    return {
        "draws": len(some.a),
        "argmax_wrong": int(argmax_wrong.sum()),
        "passes": int(some.condition6.sum()),
        "wrong_passes": int((some.condition6 & argmax_wrong).sum()),
        "pairs_pass": float(pairs.sum() / some.asked.sum().clamp(min=1)),
        "wrong_pairs": int(misranked.sum()),
        "label_free": int(some.label_free.sum()),
        "wrong_label_free": int((some.label_free & argmax_wrong).sum()),
        "closest_wrong": int(closest_wrong.sum()),
        "least_wrong": int(wrong(some.loss, some.best).sum()),
        "sure": int(some.sure.sum()),
        "wrong_sure": int((some.sure & closest_wrong).sum()),
        "gap": float(some.gap.median()),
        "margin": float(some.margin.median()),
    }


def show(label: str, found: dict[str, float]) -> None:
    names = ("argmax_wrong", "passes", "label_free", "closest_wrong", "least_wrong", "sure")
    share = {name: 100.0 * found[name] / found["draws"] for name in names}
    print(
        f"{label:<22} | argmax wrong {share['argmax_wrong']:5.1f} % | Condition 6 passes {share['passes']:5.1f} %, "
        f"wrong {found['wrong_passes']:>3} (pairs {100 * found['pairs_pass']:3.0f} %, wrong {found['wrong_pairs']:>4}) | "
        f"label-free {share['label_free']:5.1f} %, wrong {found['wrong_label_free']:>3} | "
        f"closest wrong {share['closest_wrong']:5.1f} % | argmin L wrong {share['least_wrong']:.0f} % | "
        f"proven {share['sure']:5.1f} %, wrong {found['wrong_sure']:>2} | "
        f"gap {found['gap']:.1e}, margin {found['margin']:.1e}",
        flush=True,
    )


def teachers(seeds: Tensor) -> Task:
    """One data set per row, ``y (K, 1, N)`` of random networks with one activation each, variance 1, noise 0.1; test: new x."""
    centre = scale = None
    splits = []
    for inputs, noise in (("x", "noise"), ("new x", "new noise")):
        f, _ = drawn(seeds + 10**6, 1, inputs)
        centre = f[:, 0].mean(-1, keepdim=True) if centre is None else centre
        y = f[:, 0] - centre
        scale = y.std(-1, keepdim=True) if scale is None else scale
        y = y / scale + 0.1 * normal(seeds, noise, (1, SAMPLES))
        x = normal(torch.tensor([0]), inputs, (INPUTS, SAMPLES))  # (1, I, N)
        splits.append(Split(x.expand(len(seeds), -1, -1).float(), y.float()))
    return unscaled("teachers", (splits[0], splits[0], splits[1]))


def searched(seeds: Tensor, stops: tuple[int, ...]) -> dict[int, tuple[Certificate, Tensor]]:
    """The certificates of one pack after each number of steps, and the candidates' losses on new samples ``(K, A)``."""
    k = len(seeds)
    method = mixture(hidden=[HIDDEN], candidates=USUAL[:SEARCHED], per="layer")
    task = teachers(seeds)
    one = track([constant()], [0] * k, [1.0] * k, 1).to("cpu", torch.float32)
    search = Search(task, method, (), Adam(), seeds, stops[-1], one, one, ())
    state = start(search)
    lr, tau = torch.full((k,), 0.01), torch.ones(k)
    found = {}
    for t in range(stops[-1] + 1):
        if t in stops:
            nets = method.relax(state.params, tau)
            ((_, some),) = certificates(nets, task)
            ((_, new),) = certificates(nets, replace(task, train=task.test))
            assert new.loss is not None
            found[t] = some, new.loss[:, 0]
        step(search, state.params, state.moments, (task.train.x, task.train.y), lr, tau, (), None)
    return found


def together(parts: list[Certificate]) -> Certificate:
    """Packs of one site as one, without the site's axis."""
    whole = Certificate.joined(parts)
    flat = {f.name: getattr(whole, f.name) for f in fields(whole)}
    return Certificate(**{name: t[:, 0] if isinstance(t, Tensor) else t for name, t in flat.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few draws: to see that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    began = time.perf_counter()
    draws, stops = (100, STEPS[:3]) if quick else (2000, STEPS)
    figures: dict[str, float] = {"wrong_passes_where_premises_hold": 0, "closest_wrong_at_stationarity": 0}
    seeds = torch.arange(draws)
    for h in (2, 3, 5, 8):
        f, a = drawn(seeds, h)
        for setting in SETTINGS:
            y = targets(f, a, seeds, setting)
            now = moved(a, seeds) if setting == "unconverged" else a
            found = rates(certificate(f, now, y))
            show(f"h={h} {setting}", found)
            figures[f"argmax_wrong_h{h}_{setting}"] = found["argmax_wrong"] / draws
            figures[f"closest_wrong_h{h}_{setting}"] = found["closest_wrong"] / draws
            figures[f"condition6_passes_h{h}_{setting}"] = found["passes"] / draws
            figures["wrong_proven"] = figures.get("wrong_proven", 0) + found["wrong_sure"]
            if setting != "unconverged":
                names = ("wrong_passes", "wrong_pairs", "wrong_label_free")
                figures["wrong_passes_where_premises_hold"] += sum(found[name] for name in names)
                figures["closest_wrong_at_stationarity"] += found["closest_wrong"]
    print()
    for ratio in RATIOS:
        f, a = apart(seeds, SEARCHED, ratio)
        for setting in SETTINGS:
            now = moved(a, seeds) if setting == "unconverged" else a
            found = rates(certificate(f, now, targets(f, a, seeds, setting)))
            show(f"x{ratio:.0e} {setting}", found)
            figures[f"proven_x{ratio:.0e}_{setting}"] = found["sure"] / draws
            figures["wrong_proven"] += found["wrong_sure"]
    seeds = seeds[: draws // 2]
    print(f"\nsearched: {SEARCHED} candidates in a layer of {HIDDEN}, {len(seeds)} teachers, Adam 0.01 on weights and choices")
    packs = [searched(part, stops) for part in seeds.split(PACK)]
    for t in stops:
        some, new = together([pack[t][0] for pack in packs]), torch.cat([pack[t][1] for pack in packs])
        found = rates(some)
        show(f"after {t} steps", found)
        ways = {"argmax": some.largest, "closest": some.closest, "argmin L": some.best}
        new_wrong = {way: float(wrong(new, chosen).double().mean()) for way, chosen in ways.items()}
        told = ", ".join(f"{way} {100 * share:.1f} %" for way, share in new_wrong.items())
        print(f"{'':<22} | on new samples wrong: {told}", flush=True)
        figures |= {f"{way.replace(' ', '_')}_wrong_on_new_after_{t}": share for way, share in new_wrong.items()}
        figures[f"argmax_wrong_after_{t}"] = found["argmax_wrong"] / found["draws"]
        figures[f"closest_wrong_after_{t}"] = found["closest_wrong"] / found["draws"]
        figures[f"gap_after_{t}"] = found["gap"]
        figures["wrong_proven"] += found["wrong_sure"]
    figures["draws"] = draws
    figures["seconds"] = time.perf_counter() - began
    print(json.dumps({name: float(f"{value:.4g}") for name, value in figures.items()}))


if __name__ == "__main__":
    main()
