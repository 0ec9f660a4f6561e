"""How numbers are written in tables."""

from collections.abc import Sequence

__all__ = ["Row", "percent", "radius_name"]

Row = Sequence[str]


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f}%"


def radius_name(radius: str) -> str:
    """Name a radius of ``results.json``: whole steps of 8-bit pixels as a fraction, unless the decimal is short.

    Example:
        >>> [radius_name(radius) for radius in ("0.5", "1.58", "0.141176")]
        ['0.5', '1.58', '36/255']
    """
    steps = 255 * float(radius)
    return f"{steps:.0f}/255" if len(radius) > 6 and abs(steps - round(steps)) < 1e-3 else radius
