"""``python -m nasplug`` is ``nasplug``."""

from __future__ import annotations

from nasplug.cli import main

if __name__ == "__main__":
    main()
