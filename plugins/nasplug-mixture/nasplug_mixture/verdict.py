"""Certificates as plain data: of each network what is proven, in words that state their scope."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nasplug.contracts import Score
from nasplug.networks import Networks
from nasplug.tasks import SquaredError, Task
from nasplug_mixture.certificate import Certificate
from nasplug_mixture.sites import Site, certificates
from nasplug_mixture.tuples import Tuples, tuples

__all__ = ["certify", "verdicts"]

DIGITS = 6
SCOPE = "training samples, shared weights, squared loss; nothing is said of the loss after training again"


def _number(value: float) -> float | None:
    """Six digits, or None for what is no number: JSON has no NaN."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _numbers(values: Any) -> Any:
    return [_numbers(v) for v in values] if isinstance(values, list) else _number(values)


def _plain(some: Certificate) -> dict[str, Any]:
    """Every quantity as nested lists, ``(K, S, ...)``."""
    tensors: dict[str, Tensor | None] = {
        "shares": some.a,
        "Q": some.q,
        "D": some.d,
        "L": some.loss,
        "C": some.c,
        "condition6": some.passes,
        "asked": some.asked,
        "lead": some.lead,
        "largest": some.largest,
        "closest": some.closest,
        "best": some.best,
        "least_share": some.least,
        "margin": some.margin,
        "gap": some.gap,
        "residual": some.residual,
        "label_free": some.label_free,
        "sure": some.sure,
        "left": some.left,
    }
    return {name: t.tolist() for name, t in tensors.items() if t is not None}


def _outside(site: Site, task: Task) -> str:
    """Why the theorems do not cover these sites; empty if they do."""
    if not site.linear:
        return "the site is followed by another nonlinearity"
    if not isinstance(task.loss, SquaredError):
        return f"the loss is {task.loss}, not the squared one"
    return ""


def _words(site: Mapping[str, Any], outside: str) -> str:
    """The verdict on one site."""
    largest, closest = site["largest"], site["closest"]
    if site["state"] == "broken":
        return "broken: outputs are not finite, nothing can be said"
    if site["state"] == "hard":
        return f"hard already: {largest}"
    same = "is also the largest share" if largest == closest else f"is not the largest share, which is {largest}"
    least = f". On these samples {site['least_loss']} has the least loss (argmin L)" if "least_loss" in site else ""
    if outside:
        return f"heuristic: {closest} is closest to the mixture and {same}; not covered, as {outside}{least}"
    if not site["proven"]:
        return (
            f"not proven: {closest} is closest to the mixture and {same}; but the stationarity gap {site['gap']:.2g} is too "
            f"large for its margin {site['margin']:.2g}: search longer{least}"
        )
    theorem = "; Condition 6 passes" if site["condition6_passes"] else "; Condition 6 does not pass, Q decides"
    if largest == closest:
        return f"proven: {closest} has the least loss, argmax is right{theorem}"
    judged = f"the largest share, {largest}, has the same" if site["argmax_least"] else f"argmax is wrong to take {largest}"
    return f"proven: {closest} has the least loss, {judged}"


def _labelled(mine: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Argmin L, and whether each way of choosing finds a loss that is as small up to rounding; empty without labels."""
    if "L" not in mine:
        return {}
    beaten = [any(rows) for rows in zip(*mine["asked"], strict=True)]
    return {
        "least_loss": names[mine["best"]],
        "closest_least": not beaten[mine["closest"]],
        "argmax_least": not beaten[mine["largest"]],
    }


def _site(at: Site, names: tuple[str, ...], found: Mapping[str, Any], k: int, s: int, outside: str) -> dict[str, Any]:
    """One site of one network."""
    mine: dict[str, Any] = {name: values[k][s] for name, values in found.items()}
    compared = sum(q for q, is_left in zip(mine["Q"], mine["left"], strict=True) if is_left)
    state = "broken" if _number(compared) is None else "hard" if max(mine["shares"]) == 1.0 else "mixed"
    site: dict[str, Any] = {
        **at.where(s),
        "verdict": "",
        "state": state,
        "scope": "heuristic" if outside else "theorem",
        "proven": not outside and state == "mixed" and mine["sure"],
        "largest": names[mine["largest"]],
        "closest": names[mine["closest"]],
        **_labelled(mine, names),
        "label_free": mine["label_free"],
    }
    if "L" in mine:
        pairs = [(i, j) for i, row in enumerate(mine["asked"]) for j, asked in enumerate(row) if asked]
        site["condition6_passes"] = all(mine["condition6"][i][j] for i, j in pairs)
        site["condition6"] = [
            "".join("." if not asked else "+" if passes else "-" for asked, passes in zip(*rows, strict=True))
            for rows in zip(mine["asked"], mine["condition6"], strict=True)
        ]
        if pairs:
            site["condition6_margin"] = _number(min(mine["lead"][i][j] for i, j in pairs))
    site |= {name: _number(mine[name]) for name in ("least_share", "margin", "gap", "residual") if name in mine}
    site |= {name: _numbers(mine[name]) for name in ("shares", "Q", "D", "L", "C") if name in mine}
    if gone := [name for name, is_left in zip(names, mine["left"], strict=True) if not is_left]:
        site["dropped"] = gone
    told = f"; not compared, as the search had dropped them: {', '.join(gone)}" if gone else ""
    return site | {"verdict": _words(site, outside) + told}


def _whole(sites: list[dict[str, Any]]) -> str:
    """The verdict on a network."""
    mixed = [s for s in sites if s["state"] == "mixed"]
    if any(s["state"] == "broken" for s in sites):
        return "broken: outputs are not finite, nothing can be said"
    if not mixed:
        return "nothing to choose: every site is hard already"
    if len(mixed) == 1:
        where = ", ".join(f"{what} {mixed[0][what]}" for what in ("layer", "from", "neuron") if what in mixed[0])
        return f"{mixed[0]['verdict']} ({where}; {SCOPE})"
    proven = sum(s["proven"] for s in mixed)
    differ = sum(s["largest"] != s["closest"] for s in mixed)
    least = _least(mixed)
    told = (
        f"; the candidate with the least loss is the closest at {least['closest_least']}, the largest share at "
        f"{least['argmax_least']}"
        if least
        else ""
    )
    return (
        f"{proven} of {len(mixed)} sites proven, each with the others left mixed; discretizing them together is a heuristic. "
        f"argmax differs from the closest candidate at {differ}{told} ({SCOPE})"
    )


def _least(mixed: list[dict[str, Any]]) -> dict[str, int]:
    """How often each way of choosing takes the candidate with the least loss, argmin L; empty without labels."""
    labelled = [s for s in mixed if "least_loss" in s]
    return {way: sum(s[way] for s in labelled) for way in ("closest_least", "argmax_least")} if labelled else {}


def certify(nets: Networks, score: Score) -> list[dict[str, Any]]:
    """What is proven when each of K soft networks is discretized, as plain data.

    Keys: ``verdict`` (words), ``candidates``, ``sites`` and numbers over the mixed sites:

    - ``sites_mixed``, ``sites_proven``, ``argmax_differs`` (sites where the largest share is not the closest candidate),
      ``argmax_wrong`` (proven sites where the largest share has more loss), ``condition6_passes``, ``label_free_passes``;
    - ``closest_least``, ``argmax_least``: sites where that choice has the least loss of all candidates, with shared weights, on
      the samples that the certificate sees, up to rounding. Absent without labels;
    - ``gap``, ``residual``: largest over sites in the theorems' scope; ``least_share``, ``margin``: least. Absent without such.

    - ``tuple_proven``: 1 where no tuple of operations on the edges into the output has less loss than the closest one; its
      facts are in ``into_output``. Absent without two such edges.

    A site has the names ``largest``, ``closest`` and, with labels, ``least_loss`` (argmin L, which costs the same), and whether
    the first two have that loss too (``argmax_least``, ``closest_least``). ``dropped`` names candidates that the search dropped
    for good, if it did: nothing is said of them. It has ``shares``, ``Q``, ``D``, ``L`` and ``C`` per
    candidate; ``condition6`` (row i, column j: + passes, - fails, . is not asked, as L_i is not below L_j) with its least lead,
    ``condition6_margin``; ``least_share``, ``margin``, ``gap``, ``residual``, ``label_free``, ``proven``, ``scope`` and
    ``verdict``; see `nasplug_mixture.certificate`.

    D, C and L are of the training samples, on which the search was stationary, if it was; a bilevel search is so on its held
    share of them alone.
    """
    return verdicts(nets, score.task, certificates(nets, score.task), tuples(nets, score.task))


def verdicts(
    nets: Networks, task: Task, found: Sequence[tuple[Site, Certificate]], together: Tuples | None = None
) -> list[dict[str, Any]]:
    """`certify` with the `certificates`, and the `tuples`, of the networks at hand."""
    plain = [(site, _outside(site, task), _plain(some)) for site, some in found]
    told = [_network(nets, plain, k) for k in range(nets.replicas)]
    return told if together is None else [one | _tuple(nets, together, k) for k, one in enumerate(told)]


def _tuple(nets: Networks, together: Tuples, k: int) -> dict[str, Any]:
    """The edges into the output as one site: what `closest` takes there, and whether that is proven."""
    taken = together.chosen[k].tolist()
    some, gap = together.certificate, together.certificate.gap
    numbers = {"margin": some.margin, **({} if gap is None else {"gap": gap})}
    return {
        "into_output": {
            "edges": [list(edge.where(0).values()) for edge in together.edges],
            "closest": [edge.names(nets)[place] for edge, place in zip(together.edges, taken, strict=True)],
            "tuples": some.q.shape[1],
            "proven": bool(together.proven[k]),
            **{name: _number(float(values[k])) for name, values in numbers.items()},
        },
        "tuple_proven": int(together.proven[k]),
    }


def _network(nets: Networks, found: list[tuple[Site, str, dict[str, Any]]], k: int) -> dict[str, Any]:
    """One network."""
    sites = [_site(at, at.names(nets), some, k, s, out) for at, out, some in found for s in range(at.neurons)]
    mixed = [s for s in sites if s["state"] == "mixed"]
    inside = [s for s in mixed if s["scope"] == "theorem"]

    def over(name: str, extreme: Any) -> float | None:
        values = [s[name] for s in inside if s.get(name) is not None]
        return extreme(values) if values else None

    extremes = {
        name: over(name, kind) for name, kind in (("gap", max), ("residual", max), ("least_share", min), ("margin", min))
    }
    return {
        "verdict": _whole(sites),
        "candidates": list(dict.fromkeys(name for at, *_ in found for name in at.names(nets))) or list(nets.candidates),
        "sites": sites,
        "sites_mixed": len(mixed),
        "sites_proven": sum(s["proven"] for s in mixed),
        "argmax_differs": sum(s["largest"] != s["closest"] for s in mixed),
        "argmax_wrong": sum(s["proven"] and not s["argmax_least"] for s in mixed),
        "condition6_passes": sum(s.get("condition6_passes", False) for s in mixed),
        "label_free_passes": sum(s["label_free"] for s in mixed),
        **_least(mixed),
        **{name: value for name, value in extremes.items() if value is not None},
    }
