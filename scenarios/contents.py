"""Every byte of an SR's disks, by four witnesses: the costly part of the invariants.

    the model        what the scenario says that the disk must hold, where it gives one
    the device       the drivers, their engine and the data path, up to the block device
    our reader       scenarios/images.py on the bytes of the images
    libvhdi          on the same, where it is installed (it is for whoever develops this)

The images are copied out of the guest, without what nobody reads: room that holds no block.
There the engine's `check` looks at them, too.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import XenAPI

from scenarios import images, medium
from scenarios.images import Image
from scenarios.medium import Medium, Stored
from scenarios.oracle import Content, Holds
from scenarios.storage import VDI, Repository
from scenarios.violations import Found, Violation
from srs import vhd
from testbed.errors import GuestFault

_PAGE: Final = 4096
#: Findings of the check that follow from a copy's parent not being where the original's is.
_PARENT_MISSING: Final = ("could not find parent", "error resolving")


class Copies:
    """The images of an SR as files of this machine, in a directory that is taken away."""

    def __init__(self, sr: Repository, stored: Medium, directory: Path) -> None:
        self._stored = stored
        self._directory = directory
        self.images: dict[str, Image] = {}
        for image in stored.images.values():
            if image.head is not None:
                read = medium.reader(sr, stored, image)
                self.images[image.uuid] = _copy(image, read, self.path(image.uuid))

    def path(self, uuid: str) -> Path:
        """The copy of an image."""
        return self._directory / f"{uuid}.vhd"

    def chain(self, uuid: str) -> list[Image]:
        """An image and its ancestors."""
        return [self.images[image.uuid] for image in self._stored.chain(uuid)]

    def content(self, uuid: str) -> bytes:
        """What a disk shows."""
        return images.content(self.chain(uuid))

    def by_libvhdi(self, uuid: str) -> bytes:
        """What libvhdi reads; for a disk that has grown only up to its first size."""
        import pyvhdi

        files = []
        for image in self._stored.chain(uuid):
            file = pyvhdi.file()
            file.open(str(self.path(image.uuid)))
            files.append(file)
        for number in range(len(files) - 1, 0, -1):
            files[number - 1].set_parent(files[number])
        data: bytes = files[0].read_buffer_at_offset(files[0].get_media_size(), 0)
        return data


def _copy(image: Stored, read: images.Reader, path: Path) -> Image:
    """Copy what counts: structures up to the first block, blocks, footer."""
    assert image.head is not None
    source = Image(image.head, read)
    with path.open("wb") as file:
        for offset, length in source.used(image.size):
            file.seek(offset)
            file.write(read(offset, length))

    def read_copy(offset: int, length: int) -> bytes:
        with path.open("rb") as copy:
            copy.seek(offset)
            return copy.read(length)

    return Image(image.head, read_copy)


def compare(sr: Repository, stored: Medium, models: Mapping[str, Holds]) -> Found:
    """What differs. Disks without a model (these are by uuid) are compared among readers alone."""
    with TemporaryDirectory(prefix="testbed-images-") as directory:
        copies = Copies(sr, stored, Path(directory))
        for image in stored.images.values():
            if image.head is not None:
                yield from _check(copies, image, volumes=stored.group is not None)
            if not image.hidden:
                yield from agree(sr, stored, copies, image, models.get(image.uuid))


def _check(copies: Copies, image: Stored, *, volumes: bool) -> Found:
    for finding in vhd.check(copies.path(image.uuid)).findings:
        # A copy of a volume names its parent by a device of the guest; `tree` has judged that.
        if not (volumes and finding.text.startswith(_PARENT_MISSING)):
            yield Violation("the VHD check passes", image.uuid, "no finding", finding.text)


def agree(
    sr: Repository, stored: Medium, copies: Copies, image: Stored, model: Holds | None
) -> Found:
    """Compare the witnesses of one visible disk."""
    try:
        device = VDI(sr, sr.api.VDI.get_by_uuid(image.uuid)).content()
    except (GuestFault, XenAPI.Failure) as error:
        yield Violation("the device can be read", image.uuid, "its bytes", str(error))
        return
    if image.raw:
        read = medium.reader(sr, stored, image)
        ours = read(0, image.size)
    else:
        ours = copies.content(image.uuid)
    reading = Content(len(ours), hashlib.sha256(ours).hexdigest())
    if model is not None and device != model.content():
        yield Violation("the device shows the content", image.uuid, model.content(), device)
    if reading != device:
        yield Violation("readers agree", f"{image.uuid} by our reader", device, reading)
    if not image.raw and find_spec("pyvhdi") is not None:
        yield from libvhdi_agrees(copies, image.uuid, ours)


def libvhdi_agrees(copies: Copies, uuid: str, ours: bytes) -> Found:
    """Compare what libvhdi reads with what a disk shows."""
    try:
        data = copies.by_libvhdi(uuid)
    except OSError as error:
        yield Violation("libvhdi opens it", uuid, "a disk", str(error))
        return
    # It takes the rest of a bitmap's byte for set behind a run of set bits (seen in 20260901).
    unsure = set().union(*(image.split_pages() for image in copies.chain(uuid)))
    for page in range(min(len(data), len(ours)) // _PAGE):
        piece = slice(page * _PAGE, (page + 1) * _PAGE)
        if page not in unsure and data[piece] != ours[piece]:
            yield Violation("readers agree", f"{uuid} by libvhdi", "our bytes", f"at {piece.start}")
            return
