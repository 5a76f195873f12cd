"""Pictures of a study: the front, a network, curves. For a page (SVG that follows light and dark), a file (PNG), a terminal.

Figures are made without pyplot, so that nothing global is touched, and matplotlib is imported when the first one is made.
Colours are from Okabe and Ito's palette and from viridis: they can be told apart with any colour vision.
"""

from __future__ import annotations

from nasplug.drawing.curves import draw_curves, draw_cut
from nasplug.drawing.effects import MOST_EFFECTS, draw_effects
from nasplug.drawing.fronts import draw_front
from nasplug.drawing.graphs import draw_network
from nasplug.drawing.judging import draw_labels, draw_numbers
from nasplug.drawing.reading import Strength, strengths
from nasplug.drawing.steadiness import draw_frequencies
from nasplug.drawing.style import INK as INK
from nasplug.drawing.style import save_png, svg
from nasplug.drawing.terminal import front_picture, network_picture

__all__ = [
    "MOST_EFFECTS",
    "Strength",
    "draw_curves",
    "draw_cut",
    "draw_effects",
    "draw_frequencies",
    "draw_front",
    "draw_labels",
    "draw_network",
    "draw_numbers",
    "front_picture",
    "network_picture",
    "save_png",
    "strengths",
    "svg",
]
