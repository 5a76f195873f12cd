"""From soft networks to hard ones: run the discretizers in order, remove what is dead, fine-tune what is left, score it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from nasplug import additive
from nasplug.activations import non_decreasing
from nasplug.byrow import ByRow, together
from nasplug.contracts import Certifying, Discretizer, Score
from nasplug.errors import ContractError
from nasplug.monotone import constrain
from nasplug.networks import Networks, alive, harden, sized, take
from nasplug.tasks import Task
from nasplug.train import ValidationLoss

__all__ = ["Certificates", "discretize"]

Certificates = Sequence[Mapping[str, Any]]
"""One per network; empty where no discretizer is `nasplug.contracts.Certifying`."""


@torch.no_grad()
def discretize(
    task: Task, nets: Networks, discretizers: Sequence[Discretizer | ByRow], *, certify: bool = True
) -> tuple[Networks, Certificates]:
    """``nets`` in direct space -> hard networks with nothing off their input-output paths, and their certificates.

    Sizes of kernels are chosen first. Discretizers run in the order of the config, each scored on the validation split; what
    they leave soft is rounded; then dead weights and neurons are removed exactly (`nasplug.networks.alive`). The first
    discretizer that certifies is asked, about the networks that it is given, unless ``certify`` is false. Where its options
    differ between rows, each gets its own.

    Raises:
        ContractError: when a discretizer changes the number of replicas or the skeleton, or its record does not fit itself, or
            it does not certify each network.
    """
    nets, score = sized(nets), ValidationLoss(task)
    certificates: Certificates = ()
    for discretizer in discretizers:
        nets, found = _harder(discretizer, nets, score, certify=certify and not certificates)
        certificates = certificates or found
    return replace(alive(harden(nets)), concentrations={}, kept={}), certificates  # a search's alone: nothing is left to choose


def _harder(place: Discretizer | ByRow, nets: Networks, score: Score, *, certify: bool) -> tuple[Networks, Certificates]:
    """What a discretizer makes of networks, or each of several of its own rows; certificates if wanted and given."""
    if isinstance(place, ByRow):
        certify = certify and all(isinstance(one, Certifying) for one in place.each)
        parts = []
        for one, rows in place.parts():
            here = rows.to(next(iter(nets.blocks.values())).device)
            parts.append((rows, *_harder(one, take(nets, here), score.take(here), certify=certify)))
        return together(parts)
    certificates: Certificates = ()
    if certify and isinstance(place, Certifying):
        harder, certificates = place.certified(nets, score)
        if len(certificates) != nets.replicas or not all("verdict" in one for one in certificates):
            raise ContractError(
                f"discretizer {place!r} gave {len(certificates)} certificates for {nets.replicas} networks; it must "
                "give each one, with a verdict"
            )
    else:
        harder = place(nets, score)
    if not isinstance(harder, Networks):
        raise ContractError(f"discretizer {place!r} returned {type(harder).__name__}; needed: nasplug.Networks")
    if harder.replicas != nets.replicas or harder.widths != nets.widths:
        raise ContractError(
            f"discretizer {place!r} returned {harder.replicas} networks of widths {harder.widths} for "
            f"{nets.replicas} of {nets.widths}; it must keep both (cut gates instead of shapes)"
        )
    harder.check()  # gates of the wrong shape would spread over rows
    return _kept_monotone(place, _kept_additive(place, harder, nets.terms), nets.monotone), certificates


def _kept_additive(discretizer: Discretizer, nets: Networks, terms: tuple[int, ...]) -> Networks:
    """With the terms that they came with; refused where a hidden neuron reads more columns than they allow."""
    nets = replace(nets, terms=terms)
    if terms and not bool(additive.holds(nets).all()):
        raise ContractError(
            f"discretizer {discretizer!r} joined columns in networks that are {additive.structure_of(terms)}; take another "
            "discretizer, or remove structure from the method"
        )
    return nets


def _kept_monotone(discretizer: Discretizer, nets: Networks, directions: tuple[int, ...]) -> Networks:
    """With the directions that they came with, whatever was made of the weights."""
    if not directions:
        return nets
    if wrong := [name for name in nets.candidates if not non_decreasing(name, nets.functions)]:
        raise ContractError(
            f"discretizer {discretizer!r} brought the activation {', '.join(wrong)}, which may decrease, to monotone networks; "
            "take another discretizer, or remove monotone"
        )
    return constrain(nets, directions)
