"""The picture on the start page, drawn in the colours of the page."""

from __future__ import annotations

from kdcore.figures.palette import FAMILIES
from kdcore.figures.template import INK, PAGE, QUIET

DESCRIPTION = "Teachers predict each sentence; the student learns from their outputs and from the gold labels"


def idea(dark: bool) -> str:
    """An SVG: teachers on the left, what is passed on in the middle, the student on the right."""
    ink, quiet = INK[dark], QUIET[dark]
    soft, hidden, attention = (FAMILIES[family][dark] for family in ("soft_targets", "hidden", "attention"))
    box = f'fill="{PAGE[dark]}" stroke="{ink}" stroke-width="2" rx="12"'
    flows = "".join(
        f'<line x1="246" y1="{y}" x2="494" y2="{y}" stroke="{color}" stroke-width="3" stroke-dasharray="{dash}" '
        f'marker-end="url(#tip-{number})"/>'
        f'<text x="368" y="{y - 8}" text-anchor="middle" fill="{quiet}" font-size="17">{label}</text>'
        for number, (y, color, dash, label) in enumerate(
            [
                (46, soft, "none", "soft targets"),
                (94, hidden, "9 5", "hidden states"),
                (142, attention, "9 4 2 4", "attention"),
            ]
        )
    )
    tips = "".join(
        f'<marker id="tip-{number}" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        f'<path d="M0,0 L7,3 L0,6 z" fill="{color}"/></marker>'
        for number, color in enumerate([soft, hidden, attention, quiet])
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 690 214" font-family="Source Sans, Arial, sans-serif">'
        f"<defs>{tips}</defs>"
        f'<rect x="26" y="10" width="212" height="150" {box} stroke-opacity="0.35"/>'
        f'<rect x="14" y="20" width="212" height="150" {box} stroke-opacity="0.6"/>'
        f'<rect x="2" y="30" width="212" height="150" {box}/>'
        f'<text x="108" y="102" text-anchor="middle" fill="{ink}" font-size="25" font-weight="600">Teachers</text>'
        f'<text x="108" y="132" text-anchor="middle" fill="{quiet}" font-size="17">large, accurate, slow</text>'
        f"{flows}"
        f'<rect x="510" y="44" width="170" height="104" {box}/>'
        f'<text x="595" y="92" text-anchor="middle" fill="{ink}" font-size="25" font-weight="600">Student</text>'
        f'<text x="595" y="120" text-anchor="middle" fill="{quiet}" font-size="17">small and fast</text>'
        f'<text x="595" y="206" text-anchor="middle" fill="{quiet}" font-size="17">gold labels</text>'
        f'<line x1="595" y1="188" x2="595" y2="156" stroke="{quiet}" stroke-width="2" marker-end="url(#tip-3)"/>'
        "</svg>"
    )
