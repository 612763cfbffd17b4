"""A chart as SVG for a page: its marks carry their tooltips, which the page's script shows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from analysis.figures.style import Chart, Mark, rendered
from analysis.record.runs import natural

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
SHAPES = (f"{{{SVG}}}use", f"{{{SVG}}}path")
BROAD = "fill: none; stroke: #000; stroke-opacity: 0; stroke-width: 7; pointer-events: stroke"
REFERENCES = ("href", f"{{{LINK}}}href")


def svg(chart: Chart, prefix: str, title: str) -> str:
    """The chart as an ``svg`` element whose ids begin with ``prefix``, so that one page can hold several.

    A mark's group has ``data-series`` and ``data-item``. Each of its points has ``data-told``, or the group if it has
    a single text. Raises ``ValueError`` for a mark whose numbers of texts and points differ.
    """
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", LINK)
    root = ET.fromstring(rendered(chart, "svg"))
    for unwanted in root.findall(f"{{{SVG}}}metadata"):
        root.remove(unwanted)
    root.set("role", "img")
    root.set("aria-label", title)
    groups = {element.get("id"): element for element in root.iter() if element.get("id")}
    for mark in chart.marks:
        _annotate(groups[mark.gid], mark)
    for element in root.iter():
        _prefix(element, prefix)
    return ET.tostring(root, encoding="unicode")


def series_of(chart: Chart) -> list[str]:
    """The series of a chart that can be turned on and off; empty if there is only one.

    They are in drawing order, except that those that differ in a number alone are in the order of their numbers.
    """
    names = list(dict.fromkeys(mark.series for mark in chart.marks if mark.series))
    words = list(dict.fromkeys(re.sub(r"\d+", "", name) for name in names))
    names.sort(key=lambda name: (words.index(re.sub(r"\d+", "", name)), natural(name)))
    return names if len(names) > 1 else []


def _annotate(group: ET.Element, mark: Mark) -> None:
    group.set("class", "mark")
    for name, value in (("data-series", mark.series), ("data-item", mark.item)):
        if value:
            group.set(name, value)
    if len(mark.told) == 1:
        group.set("data-told", mark.told[0])
        _widen(group)
    elif mark.told:
        points = _points(group)
        if len(points) != len(mark.told):
            raise ValueError(f"{mark.series}: {len(points)} points are drawn, but there are {len(mark.told)} texts")
        for point, told in zip(points, mark.told, strict=True):
            point.set("data-told", told)


def _widen(group: ET.Element) -> None:
    """Make thin lines easier to point at: an invisible broad path is put over every path without a fill."""
    for parent in list(group.iter()):
        lines = [each for each in parent if each.tag == SHAPES[1] and "fill: none" in each.get("style", "")]
        for line in lines:
            broad = ET.Element(SHAPES[1], {**line.attrib, "style": BROAD})
            broad.attrib.pop("id", None)
            parent.append(broad)


def _points(group: ET.Element) -> list[ET.Element]:
    """The shapes of a group that are drawn, not just defined: a line's markers, or its path."""
    defined = {id(each) for definitions in group.iter(f"{{{SVG}}}defs") for each in definitions.iter()}
    shapes = [element for element in group.iter() if element.tag in SHAPES and id(element) not in defined]
    used = [element for element in shapes if element.tag == SHAPES[0]]
    return used or shapes


def _prefix(element: ET.Element, prefix: str) -> None:
    """Put the prefix before all ids of an element and references to them, so that they are unique in a page."""
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, f"{prefix}-{value}")
        elif name in REFERENCES and value.startswith("#"):
            element.set(name, f"#{prefix}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}-"))
