"""The page: everything in one file, readable on a phone, in light and in dark."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

_STYLE: Final = Path(__file__).with_name("style.css")


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is HTML already; all other text is escaped where it is put in."""

    text: str


Content = str | Html


def plain(content: Content) -> str:
    """As it stands in the page."""
    return content.text if isinstance(content, Html) else escape(content)


def tag(name: str, *contents: Content, **attributes: str) -> Html:
    """An element; `cls` is its class."""
    words = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Html(f"<{name}{words}>{''.join(map(plain, contents))}</{name}>")


def join(contents: Iterable[Content]) -> Html:
    """One after the other."""
    return Html("".join(map(plain, contents)))


def table(headings: Sequence[str], rows: Iterable[Sequence[Content]]) -> Html:
    """A table; a row of one cell is a heading over what follows."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag("tr", *(tag("td", cell) for cell in row))
        if len(row) > 1
        else tag("tr", tag("th", row[0], colspan=str(len(headings))), cls="head")
        for row in rows
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), cls="scroll")


def cards(contents: Iterable[Content], *, wide: bool = False) -> Html:
    """Side by side, as many as there is room for, but only two of wide ones."""
    shown = (tag("div", content, cls="card") for content in contents)
    return tag("div", *shown, cls="grid wide" if wide else "grid")


def facts(about: Mapping[str, str]) -> Html:
    """Names and values, such as the environment."""
    return tag("dl", *(join((tag("dt", key), tag("dd", value))) for key, value in about.items()))


def legend(colours: Mapping[str, str]) -> Html:
    """What colours mean: name -> colour."""
    return tag(
        "div",
        *(
            tag("span", tag("i", style=f"background:{colour}"), name)
            for name, colour in colours.items()
        ),
        cls="key",
    )


def section(title: str, *contents: Content) -> Html:
    """A heading and what it is about."""
    return tag("section", tag("h2", title), *contents)


def write(path: Path, title: str, lead: str, sections: Iterable[Html]) -> None:
    """Write a page that needs nothing else."""
    body = join((tag("h1", title), tag("p", lead, cls="lead"), *sections))
    path.write_text(
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # A page without an icon of its own would ask a server for one.
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_STYLE.read_text('utf-8')}</style></head>"
        f"<body><main>{body.text}</main></body></html>\n",
        encoding="utf-8",
    )
