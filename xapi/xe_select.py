"""Which objects a command is about: filters over the columns of a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from xapi.datamodel import CLASSES
from xapi.datatypes import SetOf
from xapi.xe_args import Arguments
from xapi.xe_client import ApiFailure, Client, XeError
from xapi.xe_command import Command, Parameter, parameters
from xapi.xe_output import Column, columns, show

Record: TypeAlias = Mapping[str, Any]

#: Keys that filter nothing, whatever the command.
_NOT_FILTERS = ("params", "minimal", "multiple", "force", "all")


def records(
    client: Client, cls: str, filters: Mapping[str, str], where: Mapping[str, bool]
) -> dict[str, Record]:
    """The objects that have the columns of the filters and the fields of `where`, by reference.

    A filter is a column's name; `map:key`, for one key of a map; or `set:contains`.

    Raises:
        XeError: there is no such column.
    """
    known = columns(CLASSES[cls])
    for name in filters:
        column(cls, known, name.partition(":")[0])
    return {
        ref: record
        for ref, record in _candidates(client, cls, filters).items()
        if all(record[field] == value for field, value in where.items())
        and all(_matches(client, known, record, *item) for item in filters.items())
    }


def _candidates(client: Client, cls: str, filters: Mapping[str, str]) -> dict[str, Record]:
    """All objects of a class; where a filter has a uuid, the one that can match."""
    if "uuid" not in filters:
        every: dict[str, Record] = client.call(f"{cls}.get_all_records")
        return every
    try:
        ref = client.ref(cls, filters["uuid"])
        return {ref: client.call(f"{cls}.get_record", ref)}
    except ApiFailure:
        return {}


def column(cls: str, known: Mapping[str, Column], name: str) -> Column:
    """A column by its name. Raises XeError, with the names that there are."""
    if name not in known:
        raise XeError(f"Unknown field {name} of {cls}\nIt has: {' '.join(known)}")
    return known[name]


def _matches(
    client: Client, known: Mapping[str, Column], record: Record, filter_: str, wanted: str
) -> bool:
    name, _, key = filter_.partition(":")
    shown, value = known[name], record[known[name].field.name]
    if key == "contains" and isinstance(shown.field.type, SetOf):
        return wanted in [show(client, shown.field.type.item, member) for member in value]
    if key:
        return isinstance(value, dict) and value.get(key) == wanted
    return shown.show(client, value, record) == wanted


def filters(args: Arguments, *others: str) -> dict[str, str]:
    """The keys of a command line that are filters: all but those that mean something else."""
    return {key: value for key, value in args.keys.items() if key not in (*_NOT_FILTERS, *others)}


def named(client: Client, cls: str, text: str) -> str:
    """The one object that has this uuid or name-label.

    Raises:
        XeError: there is none, or there are several.
    """
    found = [
        ref
        for ref, record in client.call(f"{cls}.get_all_records").items()
        if text in (record["uuid"], record["name_label"])
    ]
    if len(found) != 1:
        raise XeError(f"Error: {len(found) or 'no'} objects of class {cls} are called {text}")
    return str(found[0])


# -- VMs


def one_snapshot(client: Client, args: Arguments) -> str:
    """The VM that uuid= or snapshot-uuid= names."""
    return client.ref("VM", args.keys.get("snapshot-uuid") or args.required("uuid"))


def on_vms(name: str, method: str, spec: str, text: str, *, forced: str = "") -> Command:
    """A command that sends a message about each VM that its filters select.

    The message's parameters are the VM, then those of the spec. `forced`: the message that is
    sent in its place, with the VM alone, when the flag --force is there.
    """

    def one(client: Client, args: Arguments, vm: str) -> str:
        if forced and args.flag("force"):
            client.call(forced, vm)
        else:
            client.call(method, vm, *(p.value(client, args) for p in parameters(spec)))
        return ""

    methods = (method, forced) if forced else (method,)
    return each_vm(name, one, spec, text, methods=methods)


def each_vm(
    name: str,
    run: Callable[[Client, Arguments, str], str],
    spec: str,
    text: str,
    *,
    methods: tuple[str, ...] = (),
) -> Command:
    """A command that does something with each VM that its filters select."""

    def on_all(client: Client, args: Arguments) -> str:
        chosen = vms(client, args, parameters(spec))
        return "\n".join(filter(None, (run(client, args, vm) for vm in chosen)))

    return Command(name, on_all, spec, text, fields="VM", methods=methods)


def vms(client: Client, args: Arguments, own: tuple[Parameter, ...]) -> list[str]:
    """The VMs that a command line selects: vm=<name or uuid>, or filters as for vm-list.

    Templates, snapshots and control domains are not among them.

    Raises:
        XeError: there is none, or there are several without --multiple.
    """
    chosen = {
        key: value
        for key, value in filters(args).items()
        if key != "vm" and not any(parameter.covers(key) for parameter in own)
    }
    where = {"is_a_template": False, "is_a_snapshot": False, "is_control_domain": False}
    found = records(client, "VM", chosen, where)
    if "vm" in args.keys:
        wanted = args.keys["vm"]
        found = {ref: vm for ref, vm in found.items() if wanted in (vm["uuid"], vm["name_label"])}
    if not found:
        raise XeError("Error: No matching VMs found")
    if len(found) > 1 and not args.flag("multiple"):
        raise XeError("Error: Multiple VMs match. Use --multiple to run the command on all of them")
    return list(found)
