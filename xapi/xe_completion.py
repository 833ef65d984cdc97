"""Completion of `xe` command lines in bash: commands, keys, and values that the server knows.

bash asks with `xe completion line=<the line up to the cursor>`. The answer has one candidate on
each line. bash breaks words at `=` and `:`, too, and replaces only what comes after the last one:
so a candidate is what the whole word may become, less what bash keeps.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress

from xapi.datamodel import CLASSES
from xapi.datatypes import Basic, Enumeration, MapOf
from xapi.fields import Class
from xapi.xe_args import Arguments, parse
from xapi.xe_client import Client, XeError
from xapi.xe_command import Command, Parameter, parameters
from xapi.xe_lists import VIEWS
from xapi.xe_output import columns
from xapi.xe_select import records

SCRIPT = """\
_xe() {
    local IFS=$'\\n'
    COMPREPLY=($(xe completion "line=${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o nospace -o default -F _xe xe"""

_FLAGS = ("--minimal", "--multiple", "--force", "--trace")
_LAST_WORD = re.compile(r"(?:\\.|[^\s\\])*$")
_VIEWS = {view.name: view for view in VIEWS}


def run(commands: Mapping[str, Command], args: Arguments, environment: Mapping[str, str]) -> str:
    """`xe completion`: the script for bash; with a line, what its last word may become."""
    if "line" not in args.keys:
        return SCRIPT
    line = args.keys["line"]
    found = _LAST_WORD.search(line)
    word = found[0] if found else ""
    kept = max(word.rfind("="), word.rfind(":")) + 1
    # No server, no such command, a quotation that is not closed: nothing to offer.
    with suppress(XeError, ValueError):
        before = parse(shlex.split(line[: len(line) - len(word)])[1:], environment)
        offered = sorted(set(_candidates(commands, before, word)))
        return "\n".join(each[kept:] for each in offered if each.startswith(word))
    return ""


def _candidates(commands: Mapping[str, Command], before: Arguments, word: str) -> Iterable[str]:
    """What the last word may become, whatever is typed of it but its key."""
    if before.command == "help":
        return [f"{name} " for name in (*commands, "help", "completion")]
    if before.command not in commands:
        return ()
    command = commands[before.command]
    key, equals, value = word.partition("=")
    if not equals:
        return [*_keys(command, before), *(f"{flag} " for flag in _FLAGS if word[:1] == "-")]
    if key == "params" and command.fields in CLASSES:
        done = value[: value.rfind(",") + 1]
        return [f"{key}={done}{name}" for name in ("all", *columns(CLASSES[command.fields]))]
    with Client(before.server, before.user, before.password) as client:
        values = _values(client, command, before, key)
        return [f"{key}={re.sub(_SPECIAL, _ESCAPED, each)} " for each in values]


_SPECIAL = re.compile(r"([^\w@%+:,./-])")
_ESCAPED = r"\\\1"


def _keys(command: Command, before: Arguments) -> Iterable[str]:
    """Keys that are not given yet. One that something must follow ends in what that begins with."""
    for parameter in parameters(command.spec):
        if parameter.type == "map":
            yield parameter.key
        elif parameter.key not in before.keys:
            yield f"{parameter.key}="
    if command.fields in CLASSES:
        for name, column in columns(CLASSES[command.fields]).items():
            if name not in before.keys:
                yield f"{name}="
            if isinstance(column.field.type, MapOf):
                yield f"{name}:"


def _values(client: Client, command: Command, before: Arguments, key: str) -> Iterable[str]:
    for parameter in parameters(command.spec):
        if parameter.key == key:
            return _of_parameter(client, command, before, parameter)
    if key == "vm":
        return [vm[name] for vm in client.call("VM.get_all_records").values() for name in _NAMES]
    column = columns(CLASSES[command.fields]).get(key) if command.fields in CLASSES else None
    if column is None:
        return ()
    if column.field.type is Basic.BOOL:
        return ("true", "false")
    found = records(client, command.fields, {}, _where(command, command.fields))
    return [column.show(client, record[column.field.name], record) for record in found.values()]


_NAMES = ("uuid", "name_label")


def _of_parameter(
    client: Client, command: Command, before: Arguments, parameter: Parameter
) -> Iterable[str]:
    if parameter.type == "bool":
        return ("true", "false")
    if parameter.type in CLASSES:
        found = records(client, parameter.type, {}, _where(command, parameter.type))
        return [record["uuid"] for record in found.values()]
    if parameter.key == "class":
        return [name.lower() for name in CLASSES]
    view = _VIEWS.get(command.name.split("-")[0])
    if view is None:
        return ()
    cls = CLASSES[view.cls]
    if parameter.key == "param-name":
        return columns(cls)
    if parameter.key == "param-key":
        return _keys_of_map(client, cls, before)
    if (view.cls, parameter.key) == ("SR", "type"):
        return [sm["type"] for sm in client.call("SM.get_all_records").values()]
    field = cls.by_name.get(parameter.key)
    return field.type.members if field and isinstance(field.type, Enumeration) else ()


def _keys_of_map(client: Client, cls: Class, before: Arguments) -> Iterable[str]:
    """Those that the object on the line has in the map on the line."""
    column = columns(cls).get(before.required("param-name"))
    if column is None or not isinstance(column.field.type, MapOf):
        return ()
    ref = client.ref(cls.name, before.required("uuid"))
    return list(client.call(f"{cls.name}.get_{column.field.name}", ref))


def _where(command: Command, cls: str) -> Mapping[str, bool]:
    """What holds for the objects of a command's view: a snapshot-* command wants snapshots."""
    view = _VIEWS.get(command.name.split("-")[0])
    return view.where if view and view.cls == cls else {}
