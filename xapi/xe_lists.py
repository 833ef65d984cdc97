"""The lists of `xe`: one for each class, and three views of the class VM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xapi.datamodel import CLASSES
from xapi.xe_args import Arguments
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command, Run
from xapi.xe_output import Column, columns, minimal, record_lines
from xapi.xe_select import Record, column, filters, records


@dataclass(frozen=True, slots=True)
class View:
    """What commands call a class, or a part of it.

    `listed`: the columns that a list shows when it is not asked for others. `where`: values of
    fields that its objects have.
    """

    name: str
    cls: str
    listed: str
    where: Mapping[str, bool] = field(default_factory=dict)


_NAMED = "uuid name-label name-description"

VIEWS = (
    View("sr", "SR", f"{_NAMED} host type content-type"),
    View("pbd", "PBD", "uuid host-uuid sr-uuid device-config currently-attached"),
    View("sm", "SM", "uuid type name-label name-description vendor copyright configuration"),
    View("vdi", "VDI", f"{_NAMED} sr-uuid virtual-size sharable read-only"),
    View("vbd", "VBD", "uuid vm-uuid vm-name-label vdi-uuid empty device"),
    View(
        "vm", "VM", "uuid name-label power-state", {"is_a_template": False, "is_a_snapshot": False}
    ),
    View("template", "VM", _NAMED, {"is_a_template": True, "is_a_snapshot": False}),
    View(
        "snapshot",
        "VM",
        f"{_NAMED} snapshot-of snapshot-time is-vmss-snapshot",
        {"is_a_snapshot": True},
    ),
    View("vif", "VIF", "uuid vm-uuid vm-name-label device MAC MTU network-uuid"),
    View("host", "host", _NAMED),
    View("pool", "pool", f"{_NAMED} master default-SR"),
    View("network", "network", f"{_NAMED} bridge"),
    View("pif", "PIF", "uuid device VLAN MAC network-uuid"),
    View("console", "console", "uuid vm-uuid vm-name-label protocol location"),
    View("task", "task", f"{_NAMED} status progress"),
    View("message", "message", "uuid name priority cls obj-uuid timestamp body"),
    View("secret", "secret", "uuid value"),
)


def commands() -> Iterable[Command]:
    """The list of each view."""
    for view in VIEWS:
        yield Command(f"{view.name}-list", _list(view), "[params]", fields=view.cls)


def _list(view: View) -> Run:
    def run(client: Client, args: Arguments) -> str:
        shown = chosen(view, args, "params")
        if not shown:
            raise XeError(f"Error: params= names no field of {view.cls}")
        found = records(client, view.cls, filters(args), view.where)
        if args.flag("minimal"):
            return minimal(values(client, shown[0], found.values()))
        return paragraphs(client, shown, found.values())

    return run


def chosen(view: View, args: Arguments, key: str, default: str = "") -> Sequence[Column]:
    """The columns that a command line asks for: names with commas between them, or all.

    They come in the order of the record; for --minimal, which shows the first one, as asked.
    """
    known = columns(CLASSES[view.cls])
    if args.optional(key) == "all":
        return list(known.values())
    if key not in args.keys:
        return [known[name] for name in (default or view.listed).split()]
    wanted = {name: column(view.cls, known, name) for name in args.keys[key].split(",") if name}
    if args.flag("minimal"):
        return list(wanted.values())
    return [shown for name, shown in known.items() if name in wanted]


def values(client: Client, shown: Column, found: Iterable[Record]) -> Iterable[str]:
    """One column of records."""
    return (shown.show(client, record[shown.field.name], record) for record in found)


def paragraphs(client: Client, shown: Sequence[Column], found: Iterable[Record]) -> str:
    """Records, with two empty lines between them."""
    return "\n\n\n".join("\n".join(record_lines(client, shown, record)) for record in found)
