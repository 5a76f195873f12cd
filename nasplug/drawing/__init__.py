"""Pictures of a study: the front, a network, curves. For a page (SVG that follows light and dark), a file (PNG), a terminal.

Figures are made without pyplot, so that nothing global is touched, and matplotlib is imported when the first one is made.
Colours are near Okabe and Ito's palette, scales run from blue to amber: they can be told apart with any colour vision, and each
has a contrast of 3:1 at least (text 4.5:1) to a white page and to a dark one.
"""

from __future__ import annotations

from nasplug.drawing.curves import draw_curves, draw_cut
from nasplug.drawing.effects import MOST_EFFECTS, draw_effects
from nasplug.drawing.found import draw_schedule
from nasplug.drawing.fronts import draw_front
from nasplug.drawing.graphs import draw_network
from nasplug.drawing.judging import draw_labels, draw_numbers
from nasplug.drawing.magnitudes import STRONGEST, draw_magnitudes
from nasplug.drawing.paths import draw_path, path_of
from nasplug.drawing.ranks import draw_ranks
from nasplug.drawing.reading import Strength, strengths
from nasplug.drawing.several import draw_fronts, fronts_picture
from nasplug.drawing.steadiness import draw_frequencies
from nasplug.drawing.style import INK as INK
from nasplug.drawing.style import save_png, svg
from nasplug.drawing.terminal import front_picture, network_picture

__all__ = [
    "MOST_EFFECTS",
    "STRONGEST",
    "Strength",
    "draw_curves",
    "draw_cut",
    "draw_effects",
    "draw_frequencies",
    "draw_front",
    "draw_fronts",
    "draw_labels",
    "draw_magnitudes",
    "draw_network",
    "draw_numbers",
    "draw_path",
    "draw_ranks",
    "draw_schedule",
    "front_picture",
    "fronts_picture",
    "network_picture",
    "path_of",
    "save_png",
    "strengths",
    "svg",
]
