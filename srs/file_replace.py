"""Replacing a disk's image on a file SR: the last steps of a revert.

    1  journal revert_<T> = <S>_<unique id of the image that T has>
    2  T.new, the new image
    3  rename(T.new, T)                    commit point: rename(2) drops the old image in it

Which of both T has tells on which side of the commit point a crash was; before it, T.new is
rubbish. The entry stays until logs of changed blocks and the database agree with the medium.
"""

from srs import fist, vhd
from srs.filestore import NEW, FileStore
from srs.journal import REVERT, Entry
from srs.vdi import Disk


def begin(store: FileStore, target: Disk, source: Disk) -> None:
    """Write down that `target` is about to read as its snapshot `source` does."""
    store.journal.create(REVERT, target.uuid, f"{source.uuid}_{_image(store, target.uuid)}")


def replace(store: FileStore, target: Disk, like: Disk) -> Disk:
    """Make `target` an empty leaf like `like`."""
    with store.new_leaf(target.uuid, like):
        fist.point("FileSR_revert_create_dest")
    return store.disk(target.uuid)


def settle(store: FileStore, entry: Entry) -> bool:
    """End a replacement; says whether the disk has its new image."""
    store.remove(f"{entry.id}.vhd{NEW}")
    _, _, old = entry.value.partition("_")
    return bool(old) and _image(store, entry.id) != old


def _image(store: FileStore, uuid: str) -> str:
    return str(vhd.query(store.vhd_path(uuid), resolve_parent=False).unique_id)
