"""Data as people have it, to a `nasplug.tasks.Task`: columns, images, and the tasks that come with nasplug."""

from __future__ import annotations

from nasplug.data.columns import from_frames
from nasplug.data.datasets import from_arrays
from nasplug.data.images import from_images
from nasplug.data.shuffled import split_rows

__all__ = ["from_arrays", "from_frames", "from_images", "split_rows"]
