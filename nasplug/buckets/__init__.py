"""Studies in a bucket: what a study writes into its folder on this machine is copied there, and fetched from there elsewhere.

The folder is the only truth while a study runs. ``copied.json`` in the bucket lists what is there, with digests.
"""

from __future__ import annotations

from nasplug.buckets.places import opened
from nasplug.buckets.running import copied, copying, fetched

__all__ = ["copied", "copying", "fetched", "opened"]
