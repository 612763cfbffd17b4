"""Numbers and nouns in sentences."""

from __future__ import annotations


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """A number with its noun, in the singular where the number is one.

    >>> counted(1, "seed"), counted(3, "seed"), counted(0.5, "GPU")
    ('1 seed', '3 seeds', '0.5 GPUs')
    >>> counted(2, "axis", "axes"), counted(1500, "image")
    ('2 axes', '1500 images')
    """
    return f"{count:.15g} {noun if count == 1 else plural or noun + 's'}"
