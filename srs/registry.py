"""Which drivers there are, by the type that `SR.create` names.

KeyError      a type that nobody registered
"""

from srs.sr import SR

_drivers: dict[str, type[SR]] = {}
_own_loaded = False


def register(cls: type[SR], *aliases: str) -> type[SR]:
    """Add a driver under its own type and other names; a later one takes the place."""
    for name in (cls.info.type, *aliases):
        _drivers[name] = cls
    return cls


def _load_own() -> None:
    global _own_loaded
    if not _own_loaded:
        _own_loaded = True
        from srs.ext import EXTSR
        from srs.file import FileSR
        from srs.lvhd import LVHDSR
        from srs.lvhd_hba import LVHDoHBASR
        from srs.lvhd_iscsi import LVHDoISCSISR
        from srs.nfs import NFSSR

        for cls, aliases in (
            (FileSR, ()),
            (EXTSR, ()),
            (NFSSR, ()),
            (LVHDSR, ("lvm",)),
            (LVHDoHBASR, ("lvmohba",)),
            (LVHDoISCSISR, ("lvmoiscsi",)),
        ):
            for name in (cls.info.type, *aliases):
                _drivers.setdefault(name, cls)


def get(name: str) -> type[SR]:
    """The driver of a type.

    Raises:
        KeyError: there is none.
    """
    _load_own()
    return _drivers[name]


def names() -> list[str]:
    """All types, sorted."""
    _load_own()
    return sorted(_drivers)
