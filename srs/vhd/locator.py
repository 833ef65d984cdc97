r"""How a disk remembers the path of its parent, and how that path is found again.

A differencing disk holds the same relative path, from its own directory to its parent, in three
spellings. For the parent ``../base.vhd``:

    MacX    file://../base.vhd      ASCII, not percent-encoded
    W2ku    .\..\base.vhd           UTF-16LE, backslashes, ``.\`` in front
    W2ru    the same as W2ku

Relative, so that an SR can be mounted anywhere and its disks still find each other. A reader
tries the spellings in the order of their slots. Reference: disks that XenServer's tools write.
"""

import os
from errno import EILSEQ, ENAMETOOLONG

from srs.vhd.errors import ParentPathRefused
from srs.vhd.header import MACX, W2KU, W2RU

DEV = "/dev"
_URL = "file://"
_NAME_LIMIT = 256


def canonical(path: str) -> str:
    """The one absolute path that stands for ``path`` in locators.

    Symbolic links are resolved, except where device nodes have a name that outlives a reboot:

    - a node in /dev/mapper keeps its name, though it may link to ../dm-3;
    - /dev/<vg>/<lv> becomes /dev/mapper/<vg>-<lv>, each dash within the two doubled, if that
      node exists;
    - /dev/drbd/by-res/<resource>/<volume> keeps its name.
    """
    path = os.path.abspath(path)
    if not path.startswith(DEV + "/"):
        return os.path.realpath(path)
    mapper = os.path.join(DEV, "mapper")
    directory, name = os.path.split(path)
    if directory == mapper and os.path.exists(path):
        return path
    parent, group = os.path.split(directory)
    if parent == DEV:
        node = os.path.join(mapper, f"{_doubled(group)}-{_doubled(name)}")
        if os.path.exists(node):
            return node
    real = os.path.realpath(path)
    if path.startswith(f"{DEV}/drbd/by-res/") and real.startswith(f"{DEV}/drbd"):
        return path
    return real


def _doubled(name: str) -> str:
    return name.replace("-", "--")


def relative(child: str, parent: str) -> str:
    """The path to ``parent`` from the directory of ``child``, both canonical.

    Raises:
        ParentPathRefused: not ASCII, or a name longer than the header's field.
    """
    path = os.path.relpath(parent, os.path.dirname(child))
    if not path.isascii():
        raise ParentPathRefused(child, parent, "it is not ASCII", EILSEQ)
    if len(os.path.basename(parent)) > _NAME_LIMIT:
        reason = f"its name is longer than {_NAME_LIMIT} characters"
        raise ParentPathRefused(child, parent, reason, ENAMETOOLONG)
    return path if path.startswith("../") else f"./{path}"


def spellings(path: str) -> tuple[tuple[bytes, bytes], ...]:
    """The (platform, text) of each slot, in order, for the relative ``path``."""
    windows = ".\\" + path.removeprefix("./").replace("/", "\\")
    utf16 = windows.encode("utf-16-le")
    return (MACX, (_URL + path).encode("ascii")), (W2KU, utf16), (W2RU, utf16)


def decode(platform: bytes, text: bytes) -> str | None:
    """The path that ``text`` spells, None if it spells none or the platform is not used."""
    try:
        path = _spelled(platform, text)
    except UnicodeDecodeError:
        return None
    return None if "\0" in path else path or None


def _spelled(platform: bytes, text: bytes) -> str:
    if platform == MACX:
        url = text.decode("ascii").rstrip("\0")
        return url.removeprefix(_URL) if url.startswith(_URL) else ""
    if platform in (W2KU, W2RU):
        path = text.decode("utf-16-le").rstrip("\0").replace("\\", "/")
        return path[2:] if path[:2] in ("C:", "c:") else path
    return ""


def candidates(child: str, paths: list[str]) -> list[str]:
    """The canonical paths of those stored ``paths`` that lead to a readable file, in order.

    A relative path starts at the directory of ``child``; an absolute one that leads nowhere is
    tried from there, too, as the tail of a moved tree.
    """
    directory = os.path.dirname(canonical(child))
    found: dict[str, None] = {}
    for path in paths:
        places = [path] if path.startswith("/") else []
        places.append(os.path.join(directory, path.lstrip("/")))
        for place in places:
            if os.access(place, os.R_OK):
                found[canonical(place)] = None
                break
    return list(found)
