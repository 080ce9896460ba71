"""Embed a figure in the web page: small, in the page's colors, with its methods marked for the page's script."""

import re
from typing import Any
from xml.etree import ElementTree

from triptych.reporting.drawing import Drawing
from triptych.text.characters import showable

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_COLORS = {"#000000": "currentColor", "#ffffff": "var(--ground)", "#d9d9d9": "var(--line)"}  # ink, paper, grid


def inline_svg(name: str, drawing: Drawing) -> str:
    """The SVG element of a figure for HTML.

    Elements of a method have the attribute `data-row`, legend entries `data-key`, each with the method's index. Hatches
    are left out: they make up most of a file, and on the page every bar shows its name on demand.

    Args:
        name: the name of the figure, unique in the page.
        drawing: the figure.
    """
    root = ElementTree.fromstring(drawing.svg)
    fills = {
        pattern.get("id"): rect.get("fill", "none")
        for pattern in root.iter(f"{_SVG}pattern")
        if (rect := pattern.find(f"{_SVG}rect")) is not None
    }
    _prune(root)
    for element in root.iter():
        _restyle(element, fills)
        _rename(element, name)
    for legend in root.iter(f"{_SVG}g"):
        if legend.get("id") == f"{name}-legend_1":
            _group_entries(legend, drawing)
    for group in root.iter(f"{_SVG}g"):
        _mark(group, name)
    return _html(root)


def figure_data(drawing: Drawing) -> dict[str, Any]:
    """The data of a figure for the page's script: labels, and the series with the positions of their numbers."""
    return {
        "labels": [showable(label) for label in drawing.labels],
        "series": [
            [series.row, showable(series.text), [[point.x, point.y, *point.numbers] for point in series.points]]
            for series in drawing.series
        ],
    }


def _prune(root: ElementTree.Element) -> None:
    """Remove what the page does not need."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.removeprefix(_SVG)
            if tag in ("metadata", "style", "pattern") or (tag == "g" and not len(child)):
                parent.remove(child)


def _restyle(element: ElementTree.Element, fills: dict[str | None, str]) -> None:
    style = element.get("style")
    if style is not None:
        style = re.sub(r"url\(#(\w+)\)", lambda found: fills.get(found[1], found[0]), style)
        style = re.sub(r"#[0-9a-f]{6}", lambda found: _COLORS.get(found[0], found[0]), style)
        style = re.sub(r"font-family: [^;]*;? ?|font-size: 8px;? ?|stroke-dashoffset: 0;? ?", "", style)
        element.set("style", style.replace(": ", ":").replace("; ", ";").strip("; "))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("d", "x", "y", "width", "height", "transform"):
        if (value := element.get(key)) is not None and element.tag != f"{_SVG}svg":
            value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
            element.set(key, re.sub(r"\s*([MLCQZz])\s*", r"\1", value) if key == "d" else value)


def _rename(element: ElementTree.Element, name: str) -> None:
    """Make ids unique in a page with several figures."""
    if (own := element.get("id")) is not None:
        element.set("id", f"{name}-{own}")
    if (link := element.attrib.pop(_LINK, None)) is not None:
        element.set("href", f"#{name}-{link[1:]}")
    if (clip := element.get("clip-path")) is not None:
        element.set("clip-path", clip.replace("(#", f"(#{name}-"))


def _group_entries(legend: ElementTree.Element, drawing: Drawing) -> None:
    """Group the elements of each legend entry; the text is the last one."""
    keys = iter(drawing.keys)
    parts: list[ElementTree.Element] = []
    for child in list(legend):
        legend.remove(child)
        parts.append(child)
        if child.find(f"{_SVG}text") is not None:
            entry = ElementTree.SubElement(legend, f"{_SVG}g", {"data-key": str(next(keys))})
            entry.extend(parts)
            parts = []
    legend.set("class", "legend")


def _mark(group: ElementTree.Element, name: str) -> None:
    """Replace a method's id with an attribute, and remove the ids of other groups."""
    own = group.attrib.pop("id", None)
    if own is not None and own.startswith(f"{name}-row-"):
        group.set("data-row", own.removeprefix(f"{name}-row-").split("-")[0])


def _html(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG[1:-1])
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    return re.sub(r">\s+<", "><", text)
