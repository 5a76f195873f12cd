"""``python -m nasplug.cli`` is ``nasplug``."""

from __future__ import annotations

from nasplug.cli.group import main  # the package itself has added the commands

if __name__ == "__main__":
    main()
