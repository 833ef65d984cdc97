"""Host plugins: what one host's driver has another host do, by XenAPI `host.call_plugin`.

A plugin is a function `(fn, arguments) -> text`, registered under its name. It runs in a process
of its own on the host that was named, while the driver that asked may hold its SR's lock: a
plugin takes no lock of an SR, unless only hosts other than its own call it. What it raises
reaches the caller as an error of the XenAPI:

    srs.session.Failure   as it is: the details of a call that the toolstack refused
    UnknownFunction       UNKNOWN_XENAPI_PLUGIN_FUNCTION [fn]
    any other exception   XENAPI_PLUGIN_FAILURE [fn, class of the exception, its text]

A name that nobody registered is XENAPI_MISSING_PLUGIN [name].
"""

from collections.abc import Callable, Mapping

from srs.session import Failure

Plugin = Callable[[str, dict[str, str]], str]

_plugins: dict[str, Plugin] = {}
_own_loaded = False


class UnknownFunction(Exception):
    """The plugin has no such function."""


def register(name: str, plugin: Plugin) -> None:
    """Add a plugin; a later one takes the place."""
    _plugins[name] = plugin


def by_function(functions: Mapping[str, Callable[[dict[str, str]], str]]) -> Plugin:
    """The plugin that consists of these functions."""

    def plugin(fn: str, arguments: dict[str, str]) -> str:
        if fn not in functions:
            raise UnknownFunction(fn)
        return functions[fn](arguments)

    return plugin


def load() -> None:
    """Register the storage manager's own plugins, unless others have taken their places."""
    global _own_loaded
    if not _own_loaded:
        _own_loaded = True
        from srs.plugins import (
            gc,
            lvhd_thin,
            nfs_on_slave,
            on_slave,
            sr_master,
            tapdisk_pause,
            testing_hooks,
        )

        for name, plugin in (
            ("gc", gc.plugin),
            ("lvhd-thin", lvhd_thin.plugin),
            ("nfs-on-slave", nfs_on_slave.plugin),
            ("on-slave", on_slave.plugin),
            ("sr-master", sr_master.plugin),
            ("tapdisk-pause", tapdisk_pause.plugin),
            ("testing-hooks", testing_hooks.plugin),
        ):
            _plugins.setdefault(name, plugin)


def call(name: str, fn: str, arguments: dict[str, str]) -> dict[str, object]:
    """Run a plugin.

    Returns:
        {"value": text}, or {"error": [code of the XenAPI, parameters ...]}.
    """
    load()
    if name not in _plugins:
        return {"error": ["XENAPI_MISSING_PLUGIN", name]}
    try:
        return {"value": _plugins[name](fn, arguments)}
    except UnknownFunction:
        return {"error": ["UNKNOWN_XENAPI_PLUGIN_FUNCTION", fn]}
    except Failure as failure:
        return {"error": failure.details}
    except Exception as error:
        return {"error": describe(fn, error)}


def describe(fn: str, error: Exception) -> list[str]:
    """An exception of a function as an error of the XenAPI."""
    return ["XENAPI_PLUGIN_FAILURE", fn, type(error).__name__, str(error)]
