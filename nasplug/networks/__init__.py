"""`Networks`: the record of K feed-forward networks, and the operations on it.

Searching, discretizing, scoring and exporting all use this one record. A hard network is a soft one whose gates are
0 or 1 and whose choices are one-hot.

Layout: ``K`` replicas lead every tensor, samples are columns: activations are ``(K, H, B)``, weights ``(K, H_to, H_from)``.
"""

from __future__ import annotations

from nasplug.networks.alternatives import decided, ends, inside, operation, shares, sized
from nasplug.networks.batchnorm import PACE, folded, observing
from nasplug.networks.passing import features, forward, mixed, product, sums, values
from nasplug.networks.pruning import SIZES, alive, harden, sizes
from nasplug.networks.record import MOST_WIDTH, PARTS, Edge, Networks, Way, check_hidden, join, take, where

__all__ = [
    "MOST_WIDTH",
    "PACE",
    "PARTS",
    "SIZES",
    "Edge",
    "Networks",
    "Way",
    "alive",
    "check_hidden",
    "decided",
    "ends",
    "features",
    "folded",
    "forward",
    "harden",
    "inside",
    "join",
    "mixed",
    "observing",
    "operation",
    "product",
    "shares",
    "sized",
    "sizes",
    "sums",
    "take",
    "values",
    "where",
]
