"""What is installed, as plain data: every name with its options, observers, and the plugins that are broken."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from nasplug.config.checking import in_words
from nasplug.plugins.defects import Owner
from nasplug.plugins.registration import KINDS, Offer
from nasplug.plugins.registry import Plugins

__all__ = ["describe"]


def describe(plugins: Plugins) -> dict[str, Any]:
    """``plugins`` (the manifest), ``offers`` by kind, ``observers``, ``broken``, ``clashes`` and ``left_out``."""
    return {
        "plugins": plugins.manifest,
        "offers": {kind: [_offer(offer) for offer in plugins.offers(kind).values()] for kind in KINDS},
        "observers": [_whose(owner) | {"hooks": hooks} for owner, hooks in plugins.observers.items()],
        "broken": [_whose(b.owner) | {"error": b.error, "remedy": b.remedy} for b in plugins.broken],
        "clashes": [
            {
                "kind": clash.kind,
                "name": clash.name,
                "offered_by": [_whose(owner) for owner in clash.owners],
                "error": clash.error,
                "remedy": clash.remedy,
            }
            for clash in plugins.clashes
        ],
        "left_out": [_whose(owner) for owner in plugins.left_out],
    }


def _whose(owner: Owner) -> dict[str, str]:
    return {"plugin": owner.plugin, "distribution": owner.distribution, "version": owner.version}


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.name,
        "plugin": offer.plugin,
        "distribution": offer.owner,
        "version": offer.version,
        "summary": offer.summary,
        "options": [_option(name, field) for name, field in offer.options.model_fields.items()],
    }


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    """Its name, its type in words, and its default where it has one."""
    described: dict[str, Any] = {"name": name, "type": in_words(field) or str(field.annotation)}
    return described if field.is_required() else described | {"default": to_jsonable_python(field.default)}
