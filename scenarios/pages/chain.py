"""The chain of a disk as a picture: base copies below, the disk and its snapshots above."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scenarios.pages.page import Html, join, tag

_WIDE, _HIGH, _GAP_X, _GAP_Y = 128, 46, 22, 40
_COLOURS: Final = {"disk": "--main", "snapshot": "--c", "base copy": "--soft"}


@dataclass(frozen=True, slots=True)
class Node:
    """An image.

    Attributes:
        uuid: its own.
        role: disk, snapshot or base copy.
        parent: uuid of what it stands on; empty for none.
        detail: a few words about what it holds.
    """

    uuid: str
    role: str
    parent: str
    detail: str


def picture(nodes: Sequence[Node], alt: str) -> Html:
    """A tree; who stands on whom is joined by a line."""
    places = _places(nodes)
    columns = max(x for x, _ in places.values()) + 1
    rows = max(y for _, y in places.values()) + 1
    width = columns * (_WIDE + _GAP_X) - _GAP_X + 4
    height = rows * (_HIGH + _GAP_Y) - _GAP_Y + 4

    def corner(uuid: str) -> tuple[float, float]:
        x, y = places[uuid]
        return 2 + x * (_WIDE + _GAP_X), 2 + (rows - 1 - y) * (_HIGH + _GAP_Y)

    lines = [
        _edge(corner(node.uuid), corner(node.parent)) for node in nodes if node.parent in places
    ]
    boxes = [_box(node, *corner(node.uuid)) for node in nodes]
    return tag(
        "svg",
        *lines,
        *boxes,
        viewBox=f"0 0 {width:.0f} {height}",
        role="img",
        aria_label=alt,
        style=f"max-width:{width:.0f}px",
    )


def _places(nodes: Sequence[Node]) -> dict[str, tuple[float, int]]:
    """Column and level of each: leaves side by side, a base copy in the middle of its children."""
    children: dict[str, list[str]] = {}
    known = {node.uuid for node in nodes}
    for node in nodes:
        children.setdefault(node.parent if node.parent in known else "", []).append(node.uuid)
    places: dict[str, tuple[float, int]] = {}
    taken = 0

    def place(uuid: str, level: int) -> float:
        nonlocal taken
        below = [place(child, level + 1) for child in children.get(uuid, ())]
        if below:
            x = (below[0] + below[-1]) / 2
        else:
            x = float(taken)
            taken += 1
        places[uuid] = (x, level)
        return x

    for root in children.get("", ()):
        place(root, 0)
    return places


def _edge(child: tuple[float, float], parent: tuple[float, float]) -> Html:
    x1, y1 = child[0] + _WIDE / 2, child[1] + _HIGH
    x2, y2 = parent[0] + _WIDE / 2, parent[1]
    middle = (y1 + y2) / 2
    path = f"M{x1:.0f} {y1:.0f} C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"
    return tag("path", d=path, fill="none", stroke="var(--soft)", stroke_width="1.5")


def _box(node: Node, x: float, y: float) -> Html:
    colour = f"var({_COLOURS[node.role]})"
    dashes = {"stroke_dasharray": "4 3"} if node.role == "base copy" else {}
    frame = {"x": f"{x:.0f}", "y": f"{y:.0f}", "width": str(_WIDE), "height": str(_HIGH)}
    return join(
        (
            tag(
                "rect",
                rx="7",
                fill="var(--card)",
                stroke=colour,
                stroke_width="1.5",
                **frame,
                **dashes,
            ),
            tag(
                "text",
                f"{node.role} {node.uuid[:4]}",
                x=f"{x + 11:.0f}",
                y=f"{y + 20:.0f}",
                cls="strong",
            ),
            tag("text", node.detail, x=f"{x + 11:.0f}", y=f"{y + 36:.0f}"),
        )
    )
