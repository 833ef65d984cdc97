"""Every byte of an SR's disks, by four witnesses: the costly part of the invariants.

    the model        what the scenario says that the disk must hold, where it gives one
    the device       the drivers, their engine and the data path, up to the block device
    our reader       scenarios/images.py on the bytes of the images
    libvhdi          on the same, where it is installed (it is for whoever develops this)

The images are copied out of the guest, without what nobody reads: room that holds no block.
There the engine's `check` looks at them, too. Whoever asks about many SRs that are nearly the
same can keep what the witnesses agreed on, by the bytes that they looked at (`Known`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import XenAPI

from scenarios import images
from scenarios.fingerprint import fingerprints
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
    """Images of an SR as files of this machine, copied when they are asked for.

    Args:
        stored: where the images are.
        directory: gets the files.
    """

    def __init__(self, stored: Medium, directory: Path) -> None:
        self._stored = stored
        self._directory = directory
        self._images: dict[str, Image] = {}

    def path(self, uuid: str) -> Path:
        """The copy of an image."""
        path = self._directory / f"{uuid}.vhd"
        if uuid not in self._images:
            image = self._stored.images[uuid]
            self._images[uuid] = _copy(image, self._stored.reader(image), path)
        return path

    def chain(self, uuid: str) -> list[Image]:
        """Copies of an image and its ancestors."""
        found = []
        for image in self._stored.chain(uuid):
            self.path(image.uuid)
            found.append(self._images[image.uuid])
        return found

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


@dataclass(slots=True)
class Known:
    """What was seen of other SRs, by fingerprint: nobody is asked about it again.

    Attributes:
        checked: images in which the engine's check found nothing.
        shown: what disks show, where all witnesses agreed.
    """

    checked: set[str] = field(default_factory=set)
    shown: dict[str, Content] = field(default_factory=dict)


class Witnesses:
    """All who can say what the disks of an SR show.

    Args:
        sr: no disk of it is attached.
        stored: its medium.
        directory: for copies of images.
        known: what need not be asked; is added to.
    """

    def __init__(
        self, sr: Repository, stored: Medium, directory: Path, known: Known | None = None
    ) -> None:
        self._sr = sr
        self._stored = stored
        self._known = known or Known()
        self._keys = {uuid: uuid for uuid in stored.images}
        if known is not None:
            self._keys = fingerprints(stored)
        self.copies = Copies(stored, directory)

    def check(self, image: Stored) -> list[Violation]:
        """What the engine's check finds in an image that is no raw disk."""
        if self._keys[image.uuid] in self._known.checked:
            return []
        self.copies.chain(image.uuid)  # the check looks for ancestors beside it
        findings = [
            Violation("the VHD check passes", image.uuid, "no finding", finding.text)
            for finding in vhd.check(self.copies.path(image.uuid)).findings
            # A copy of a volume names its parent by a device inside; `tree` has judged that.
            if self._stored.group is None or not finding.text.startswith(_PARENT_MISSING)
        ]
        if not findings:
            self._known.checked.add(self._keys[image.uuid])
        return findings

    def know(self, image: Stored) -> bool:
        """Whether a disk of the same bytes was shown before, so that no device is opened now."""
        return self._keys[image.uuid] in self._known.shown

    def content(self, image: Stored) -> tuple[Content | None, list[Violation]]:
        """What the device of a visible disk shows, and where the others disagree."""
        key = self._keys[image.uuid]
        if self.know(image):
            return self._known.shown[key], []
        try:
            device = VDI(self._sr, self._sr.api.VDI.get_by_uuid(image.uuid)).content()
        except (GuestFault, XenAPI.Failure) as error:
            fault = Violation("the device can be read", image.uuid, "its bytes", str(error))
            return None, [fault]
        differences = self._readers(image, device)
        if not differences:
            self._known.shown[key] = device
        return device, differences

    def _readers(self, image: Stored, device: Content) -> list[Violation]:
        if image.raw:
            ours = self._stored.reader(image)(0, image.size)
        else:
            ours = self.copies.content(image.uuid)
        reading = Content(len(ours), hashlib.sha256(ours).hexdigest())
        differences = []
        if reading != device:
            where = f"{image.uuid} by our reader"
            differences.append(Violation("readers agree", where, device, reading))
        if not image.raw and find_spec("pyvhdi") is not None:
            differences += libvhdi_agrees(self.copies, image.uuid, ours)
        return differences


@contextmanager
def witnesses(sr: Repository, stored: Medium, known: Known | None = None) -> Iterator[Witnesses]:
    """`Witnesses`, with a directory of their own."""
    with TemporaryDirectory(prefix="testbed-images-") as directory:
        yield Witnesses(sr, stored, Path(directory), known)


def compare(
    sr: Repository, stored: Medium, models: Mapping[str, Holds], known: Known | None = None
) -> Found:
    """What differs. Disks without a model (these are by uuid) are compared among readers alone."""
    with witnesses(sr, stored, known) as asked:
        for uuid, image in stored.images.items():
            if image.head is not None:
                yield from asked.check(image)
            if image.hidden:
                continue
            content, differences = asked.content(image)
            yield from differences
            model = models.get(uuid)
            if content is not None and model is not None and content != model.content():
                yield Violation("the device shows the content", uuid, model.content(), content)


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
