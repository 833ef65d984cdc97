"""Golden images, built byte by byte from the format's description, with nothing of the engine.

    python tests/srs/golden.py            make tests/srs/golden/ anew: the same bytes
    python tests/srs/golden.py --qemu     also those that qemu-img makes, with other times

golden.json tells of each image the digests of its bytes and of the content of the disk, ancestors
included, both from the model here; or the error that opening it gives.
"""

import hashlib
import json
import lzma
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent / "golden"
MANIFEST = HERE / "golden.json"
SECTOR, BLOCK, PER_BLOCK = 512, 2 << 20, 4096
SIZE = 8 << 20
CHS = (240, 4, 17)
DYNAMIC, DIFFERENCING = 3, 4
WHOLE = ((0, PER_BLOCK),)
TERABYTES = 1 << 20
"""Slots of a table for 2 TiB."""

Runs = tuple[tuple[int, int], ...]


def padded(raw: bytes) -> bytes:
    return raw.ljust(-(-len(raw) // SECTOR) * SECTOR, b"\0")


def summed(raw: bytes, at: int) -> bytes:
    return raw[:at] + struct.pack(">I", ~sum(raw) & 0xFFFFFFFF) + raw[at + 4 :]


@dataclass(frozen=True)
class Image:
    """A disk of 8 MiB; ``blocks`` says in order of allocation which sectors each block holds.

    ``gap`` aligns blocks as XenServer's tools do, ``stale`` fills what nobody wrote, ``length``
    is that of a device. ``sectors`` gives the space of locators in sectors, not bytes.
    """

    name: str
    blocks: dict[int, Runs]
    parent: str = ""
    raw_parent: bool = False
    creator: bytes = b"tap\0"
    version: int = 0x00010003
    slots: int = SIZE // BLOCK
    batmap: bool = True
    gap: bool = True
    sectors: bool = False
    stale: bytes = b"\0"
    length: int = 0
    cookie: bytes = b"conectix"

    @property
    def unique_id(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()[:16]

    def footer(self) -> bytes:
        kind = DIFFERENCING if self.parent else DYNAMIC
        head = struct.pack(">8sIIQI", self.cookie, 2, 0x00010000, SECTOR, 0x2A000000)
        made = struct.pack(">4sI4sQQHBB", self.creator, self.version, b"\0" * 4, SIZE, SIZE, *CHS)
        tail = struct.pack(">II16sBB", kind, 0, self.unique_id, 0, 0)
        return summed((head + made + tail).ljust(SECTOR, b"\0"), 64)

    def locators(self, at: int) -> tuple[bytes, list[bytes]]:
        """The eight entries, and the texts that lie from byte ``at`` on."""
        if not self.parent:
            return bytes(192), []
        windows = f".\\{self.parent}".encode("utf-16-le")
        texts = [(b"MacX", f"file://./{self.parent}".encode()), (b"W2ku", windows)]
        texts.append((b"W2ru", windows))
        entries = b""
        for code, text in texts:
            space = 1 if self.sectors else SECTOR
            entries += struct.pack(">4sIIIQ", code, space, len(text), 0, at)
            at += SECTOR
        return entries.ljust(192, b"\0"), [padded(text) for _, text in texts]

    def header(self, entries: bytes) -> bytes:
        parent = hashlib.sha256(Path(self.parent).stem.encode()).digest()[:16]
        identity = bytes(16) if self.raw_parent or not self.parent else parent
        head = struct.pack(">8sQQII", b"cxsparse", (1 << 64) - 1, 1536, 0x00010000, self.slots)
        head += struct.pack(">II16sII", BLOCK, 0, identity, 0x2A000000 if self.parent else 0, 0)
        head += self.parent.encode("utf-16-be").ljust(512, b"\0") + entries
        return summed(head.ljust(1024, b"\0"), 36)

    def metadata(self) -> bytes:
        table = [0xFFFFFFFF] * self.slots
        batmap = self.map() if self.batmap else b""
        texts_at = 1536 + len(padded(bytes(4 * self.slots))) + len(batmap)
        entries, texts = self.locators(texts_at)
        for block, sector in self.places(texts_at // SECTOR + len(texts)):
            table[block] = sector
        bat = padded(struct.pack(f">{self.slots}I", *table))
        return b"".join([self.footer(), self.header(entries), bat, batmap, *texts])

    def map(self) -> bytes:
        bits = bytearray(max(1, -(-self.slots // 8 // SECTOR)) * SECTOR)
        for block, runs in self.blocks.items():
            if runs == WHOLE:
                bits[block // 8] |= 0x80 >> block % 8
        at = 1536 + len(padded(bytes(4 * self.slots))) + SECTOR
        total = ~sum(bits[:SECTOR]) & 0xFFFFFFFF
        head = struct.pack(">8sQIII", b"tdbatmap", at, len(bits) // SECTOR, 0x00010002, total)
        return padded(head) + bytes(bits)

    def places(self, end: int) -> Iterator[tuple[int, int]]:
        """The blocks with the sectors of their bitmaps, from sector ``end`` on."""
        for block in self.blocks:
            sector = end + (7 - end) % 8 if self.gap else end
            yield block, sector
            end = sector + 1 + PER_BLOCK

    def build(self) -> bytes:
        raw = self.metadata()
        for block, sector in self.places(len(raw) // SECTOR):
            bits, data = 0, bytearray(self.stale * BLOCK)
            for first, stop in self.blocks[block]:
                for at in range(first, stop):
                    bits |= 1 << (PER_BLOCK - 1 - at)
                    data[at * SECTOR : (at + 1) * SECTOR] = self.sector(block, at)
            raw = raw.ljust(sector * SECTOR, b"\0") + bits.to_bytes(SECTOR, "big") + data
        if self.length:
            raw = raw.ljust(self.length - SECTOR, self.stale)
        return raw + self.footer()

    def sector(self, block: int, at: int) -> bytes:
        return f"{self.name} {block} {at} ".encode().ljust(SECTOR, b"#")

    def content(self, below: bytes) -> bytes:
        """What the disk reads as, on top of what is ``below``."""
        found = bytearray(below.ljust(SIZE, b"\0"))
        for block, runs in self.blocks.items():
            for first, stop in runs:
                for at in range(first, stop):
                    start = block * BLOCK + at * SECTOR
                    found[start : start + SECTOR] = self.sector(block, at)
        return bytes(found)


BASE = Image("base", {2: WHOLE, 0: ((0, 8), (4088, 4096))})
CHILD = Image("child", {0: ((4, 12),), 3: WHOLE, 1: ((0, 1),)}, parent="base.vhd")
RAW = b"".join(f"raw {at} ".encode().ljust(SECTOR, b"#") for at in range(SIZE // SECTOR))
WINDOWS = Image(
    name="windows",
    blocks={1: WHOLE, 0: ((5, 6),)},
    creator=b"win ",
    version=0x00060001,
    batmap=False,
    gap=False,
)
LV = Image(
    name="lv",
    blocks={1: ((0, 16),), 3: ((8, 24),)},
    slots=TERABYTES,
    stale=b"\xa5",
    length=12 << 20,
)
IMAGES = (
    BASE,
    CHILD,
    Image("grandchild", {0: ((0, 1),), 2: ((7, 9), (100, 200))}, parent="child.vhd"),
    Image("on-raw", {1: ((0, 4),)}, parent="parent.raw", raw_parent=True),
    Image("no-batmap", {1: WHOLE}, version=0x00010001, batmap=False),
    Image("tap-1.1", {1: WHOLE}, version=0x00010001),
    Image("tap-1.2", {1: WHOLE, 3: ((0, 2),)}, version=0x00010002),
    WINDOWS,
    replace(WINDOWS, name="windows-child", parent="windows.vhd", sectors=True),
    LV,
    replace(LV, name="lv-child", blocks={0: ((0, 1),)}, parent="lv.vhd", length=8 << 20),
    Image("tap-0.1", {1: ((0, 1),)}, version=0x00000001),
    Image("poisoned", {1: ((0, 1),)}, cookie=b"v_poison"),
)
ERRORS = {"tap-0.1": "BadHeader", "poisoned": "Poisoned"}


def made() -> Iterator[tuple[str, bytes, bytes | None]]:
    """The name, bytes and content of every image, ancestors before their children."""
    contents = {"parent.raw": RAW, "": b""}
    yield "parent.raw", RAW, None
    for image in IMAGES:
        name = f"{image.name}.vhd"
        contents[name] = image.content(contents[image.parent])
        yield name, image.build(), contents[name]
    content = contents["base.vhd"]
    yield "footer-of-511.vhd", BASE.build()[:-1], content
    yield "crashed.vhd", BASE.build()[:-SECTOR], content


def made_by_qemu() -> Iterator[tuple[str, bytes, bytes]]:
    """Disks of qemu-img; its sizes are those of a geometry."""
    content = BASE.content(b"")
    with tempfile.TemporaryDirectory() as name:
        raw, path = Path(name, "raw"), Path(name, "disk.vhd")
        raw.write_bytes(content)
        for subformat in ("dynamic", "fixed"):
            how = ["convert", "-f", "raw", "-O", "vpc", "-o", f"subformat={subformat}"]
            subprocess.run(["qemu-img", *how, raw, path], check=True)
            made = path.read_bytes()
            (size,) = struct.unpack_from(">Q", made, len(made) - SECTOR + 48)
            yield f"qemu-{subformat}.vhd", made, content.ljust(size, b"\0")


def entry(name: str, raw: bytes, content: bytes | None) -> dict[str, object]:
    """What golden.json says about an image."""
    told: dict[str, object] = {"bytes": hashlib.sha256(raw).hexdigest()}
    if error := ERRORS.get(name.removesuffix(".vhd")):
        return told | {"error": error}
    if content is not None:
        told |= {"content": hashlib.sha256(content).hexdigest(), "size": len(content)}
    parents = {f"{image.name}.vhd": image.parent for image in IMAGES}
    return told | ({"parent": parents[name]} if parents.get(name) else {})


def unpack(name: str, directory: Path) -> Path:
    """Decompress an image and its ancestors into ``directory``."""
    path = directory / name
    path.write_bytes(lzma.decompress((HERE / f"{name}.xz").read_bytes()))
    parent = json.loads(MANIFEST.read_text())[name].get("parent")
    if parent:
        unpack(parent, directory)
    return path


def main() -> None:
    HERE.mkdir(exist_ok=True)
    told = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    images = [*made(), *(made_by_qemu() if "--qemu" in sys.argv[1:] else ())]
    for name, raw, content in images:
        told[name] = entry(name, raw, content)
        (HERE / f"{name}.xz").write_bytes(lzma.compress(raw, preset=9))
    MANIFEST.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in HERE.iterdir())
    print(f"{len(images)} images made, {len(told)} in {HERE}, {size >> 10} KiB")


if __name__ == "__main__":
    if "--qemu" in sys.argv[1:] and not shutil.which("qemu-img"):
        sys.exit("qemu-img is not installed")
    main()
