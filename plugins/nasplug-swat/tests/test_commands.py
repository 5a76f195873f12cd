"""The commands of this plugin keep the laws of commands."""

from __future__ import annotations

from nasplug.testing import CommandLaws


class TestSwat(CommandLaws):
    name = "swat"
