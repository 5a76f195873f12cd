"""Plugins: loading them, and every name with its owner, version and options."""

from __future__ import annotations

from nasplug.plugins.defects import Broken, Clash, Owner
from nasplug.plugins.loading import listing, load_plugins
from nasplug.plugins.options import options_model
from nasplug.plugins.registration import KINDS, Offer
from nasplug.plugins.registry import Plugins

__all__ = ["KINDS", "Broken", "Clash", "Offer", "Owner", "Plugins", "listing", "load_plugins", "options_model"]
