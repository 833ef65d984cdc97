"""Each invariant, broken on purpose on a real SR, is reported by its name."""

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scenarios import contents
from scenarios.images import SECTOR
from scenarios.invariants import broken, check, check_everything, look, mended
from scenarios.medium import Stored
from scenarios.oracle import BLOCK, Model, awkward_spans, one_sector
from scenarios.plugin import RepositoryCache
from scenarios.storage import VDI, Repository
from scenarios.violations import InvariantsBroken, Violation
from xapi.datatypes import Value

NOBODY = "00000000-0000-4000-8000-000000000000"
FOOTER_SUM, HEADER_SUM = 64, 36


@dataclass(frozen=True)
class Sample:
    """A disk with a snapshot, and the base copy below both."""

    sr: Repository
    disk: VDI
    snapshot: VDI
    model: Model

    @property
    def base(self) -> VDI:
        (ref,) = self.sr.base_copies() & {
            self.sr.api.VDI.get_by_uuid(self.disk.record()["sm_config"]["vhd-parent"])
        }
        return VDI(self.sr, ref)

    def image(self, vdi: VDI) -> Stored:
        return look(self.sr).medium.images[vdi.uuid]

    def places(self, name: str, offset: int, length: int) -> list[tuple[str, int, int]]:
        """Where bytes of a file or volume lie."""
        group = look(self.sr).medium.group
        if group is None:
            return [(f"{self.sr.directory}/{name}", offset, length)]
        device = self.sr.device()
        return [(device, at, size) for at, size in group.volumes[name].places(offset, length)]

    def put(self, name: str, offset: int, data: bytes) -> None:
        for path, at, length in self.places(name, offset, len(data)):
            self.sr.host.write(path, (at, data[:length]))
            data = data[length:]

    def get(self, name: str, offset: int, length: int) -> bytes:
        found = self.sr.host.read_pieces(self.places(name, offset, length))
        return b"".join(data for _, data in found)

    @contextmanager
    def edited(self, name: str, offset: int, data: bytes) -> Iterator[None]:
        """Other bytes in a file or volume, until the block ends."""
        kept = self.get(name, offset, len(data))
        self.put(name, offset, data)
        yield
        self.put(name, offset, kept)

    @contextmanager
    def footers(self, vdi: VDI, at: int, data: bytes) -> Iterator[None]:
        """Both footers of an image with other bytes at an offset, and right checksums."""
        image = self.image(vdi)
        footer = summed(changed(self.get(image.name, 0, SECTOR), at, data), FOOTER_SUM)
        with (
            self.edited(image.name, 0, footer),
            self.edited(image.name, image.size - SECTOR, footer),
        ):
            yield

    @contextmanager
    def header(self, vdi: VDI, at: int, data: bytes) -> Iterator[None]:
        image = self.image(vdi)
        header = summed(changed(self.get(image.name, SECTOR, 1024), at, data), HEADER_SUM)
        with self.edited(image.name, SECTOR, header):
            yield

    @contextmanager
    def field(self, object_class: str, ref: str, **fields: Value) -> Iterator[None]:
        """Other values in the database."""
        db = self.sr.host.xapi.xapi.db
        kept = {name: db.get(object_class, ref, name) for name in fields}
        db.put(object_class, ref, **fields)
        yield
        db.put(object_class, ref, **kept)

    @contextmanager
    def command(self, do: str, undo: str) -> Iterator[None]:
        for line in (do, undo):
            done = self.sr.host.kernel.run(["sh", "-c", line])
            assert done.returncode == 0, done.stderr
            if line is do:
                yield

    @property
    def group(self) -> str:
        return f"VG_XenStorage-{self.sr.uuid}"


def changed(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def summed(block: bytes, at: int) -> bytes:
    """A footer or header with the right checksum."""
    zeroed = changed(block, at, bytes(4))
    return changed(block, at, struct.pack(">I", ~sum(zeroed) & 0xFFFFFFFF))


@pytest.fixture(scope="module", params=["file", "lvhd"])
def sample(repositories: RepositoryCache, request: pytest.FixtureRequest) -> Iterator[Sample]:
    with repositories.lend(request.param) as sr:
        disk = sr.create(5 * BLOCK, label="disk")
        model = Model(disk.size)
        model.write(awkward_spans("sample", disk.size))
        disk.write(awkward_spans("sample", disk.size))
        made = Sample(sr, disk, disk.snapshot(), model)
        check(sr)
        yield made


Breaker = Callable[[Sample], AbstractContextManager[None]]


@dataclass(frozen=True)
class Case:
    rule: str
    breaker: Breaker
    note: str = ""

    def __str__(self) -> str:
        return f"{self.rule} {self.note}".strip()


def other_id(s: Sample) -> AbstractContextManager[None]:
    image = s.image(s.disk)
    assert image.head
    return s.footers(s.snapshot, 68, image.head.id)


@contextmanager
def childless(s: Sample) -> Iterator[None]:
    with s.header(s.disk, 40, bytes(16)), s.header(s.snapshot, 40, bytes(16)):
        yield


@contextmanager
def ring(s: Sample) -> Iterator[None]:
    base = s.base
    image = s.image(base)
    assert image.head
    with s.footers(base, 60, struct.pack(">I", 4)), s.header(base, 40, image.head.id):
        yield


def stray(s: Sample, name: str) -> AbstractContextManager[None]:
    if s.sr.on_volumes:
        make = f"lvcreate -qq -Wn -Zn -L 4M -n {name} {s.group}"
        return s.command(make, f"lvremove -qq -f {s.group}/{name}")
    return s.command(f"touch {s.sr.directory}/{name}", f"rm {s.sr.directory}/{name}")


def renamed(s: Sample) -> AbstractContextManager[None]:
    name = s.image(s.snapshot).name
    if s.sr.on_volumes:
        other = f"VHD-{NOBODY}"
        line = "lvrename -qq {} {} {}"
        return s.command(line.format(s.group, name, other), line.format(s.group, other, name))
    there, here = f"{s.sr.directory}/{name}", f"{s.sr.directory}/{NOBODY}.vhd"
    return s.command(f"mv {there} {here}", f"mv {here} {there}")


def metadata(s: Sample, old: str, new: str) -> AbstractContextManager[None]:
    text = s.get("MGT", 0, 8 * 1024)
    at = text.index(old.encode())
    assert len(old) == len(new)
    return s.edited("MGT", at, new.encode())


def vdi(s: Sample, who: VDI, **fields: Value) -> AbstractContextManager[None]:
    return s.field("VDI", who.ref, **fields)


def config(s: Sample, who: VDI, **pairs: str) -> AbstractContextManager[None]:
    return vdi(s, who, sm_config={**who.record()["sm_config"], **pairs})


CASES: tuple[Case, ...] = (
    Case("readable", lambda s: s.edited(s.image(s.base).name, 20, b"\x55")),
    Case("distinct", other_id),
    Case("parent exists", lambda s: s.header(s.disk, 40, b"nobody's identity"[:16])),
    Case(
        "parent name", lambda s: s.header(s.disk, 64, "elsewhere".encode("utf-16-be") + bytes(400))
    ),
    Case("no visible inner node", lambda s: s.footers(s.base, 85, b"\0")),
    Case("parent no larger", lambda s: s.footers(s.disk, 48, struct.pack(">Q", BLOCK))),
    Case("chain ends", ring),
    Case("base copies are used", childless),
    Case("nothing else is stored", lambda s: stray(s, f"clone_{NOBODY}")),
    Case("logs belong to disks", lambda s: stray(s, f"{NOBODY}.cbtlog")),
    Case("images are known", renamed),
    Case("records have images", renamed),
    Case("location is the uuid", lambda s: vdi(s, s.disk, location=NOBODY)),
    Case("records agree", lambda s: vdi(s, s.disk, virtual_size=BLOCK), "virtual_size"),
    Case("records agree", lambda s: vdi(s, s.base, managed=True), "managed"),
    Case("records agree", lambda s: config(s, s.disk, **{"vhd-parent": NOBODY}), "vhd-parent"),
    Case("records agree", lambda s: config(s, s.disk, type="raw"), "type"),
    Case("records agree", lambda s: vdi(s, s.disk, missing=True), "missing"),
    Case("utilisation", lambda s: vdi(s, s.base, physical_utilisation=1)),
    Case("no mark is left", lambda s: config(s, s.disk, paused="true")),
    Case("no operation is left", lambda s: vdi(s, s.disk, current_operations={"task": "destroy"})),
    Case(
        "no operation is left",
        lambda s: s.field("SR", s.sr.ref, current_operations={"task": "vdi_create"}),
        "SR",
    ),
    Case("snapshot_of resolves", lambda s: vdi(s, s.snapshot, snapshot_of=s.base.ref)),
    Case("base copies are no snapshots", lambda s: vdi(s, s.base, is_a_snapshot=True)),
    Case("the SR's accounts", lambda s: s.field("SR", s.sr.ref, virtual_allocation=1)),
    Case(
        "nothing is in use",
        lambda s: s.command(
            f"mkdir -p /dev/sm/phy/{s.sr.uuid}; touch /dev/sm/phy/{s.sr.uuid}/x",
            f"rm /dev/sm/phy/{s.sr.uuid}/x",
        ),
    ),
    Case(
        "locks have owners",
        lambda s: s.command(
            f"mkdir /var/lock/sm/{NOBODY}; touch /var/lock/sm/{NOBODY}/vdi",
            f"rm -r /var/lock/sm/{NOBODY}",
        ),
    ),
)

#: Where volumes are, and their metadata.
VOLUME_CASES: tuple[Case, ...] = (
    Case(
        "base copies are read-only",
        lambda s: s.command(
            f"lvchange -qq -p rw {s.group}/{s.image(s.base).name}",
            f"lvchange -qq -p r {s.group}/{s.image(s.base).name}",
        ),
    ),
    Case("records agree", lambda s: config(s, s.disk, vdi_type="aio"), "vdi_type"),
    Case("the SR's accounts", lambda s: s.field("SR", s.sr.ref, physical_size=1)),
    Case("snapshot_of resolves", lambda s: vdi(s, s.snapshot, snapshot_of="OpaqueRef:gone")),
    Case("MGT knows every disk", lambda s: metadata(s, s.base.uuid, NOBODY)),
    Case("MGT knows no other", lambda s: metadata(s, s.base.uuid, NOBODY)),
    Case(
        "MGT agrees", lambda s: metadata(s, "<snapshot_of>" + s.disk.uuid, "<snapshot_of>" + NOBODY)
    ),
    Case(
        "nothing is in use",
        lambda s: s.command(
            f"lvchange -qq -ay {s.group}/{s.image(s.disk).name}",
            f"lvchange -qq -an {s.group}/{s.image(s.disk).name}",
        ),
    ),
)


def reported(found: list[Violation]) -> set[str]:
    return {violation.rule for violation in found}


def must_report(sample: Sample, case: Case) -> None:
    with case.breaker(sample):
        assert case.rule in reported(broken(look(sample.sr, collected=True)))
    check(sample.sr)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken(sample: Sample, case: Case) -> None:
    must_report(sample, case)


@pytest.mark.parametrize("sample", ["lvhd"], indirect=True)
@pytest.mark.parametrize("case", VOLUME_CASES, ids=str)
def test_broken_on_volumes(sample: Sample, case: Case) -> None:
    must_report(sample, case)


@pytest.mark.parametrize("sample", ["lvhd"], indirect=True)
def test_volumes_that_overlap(sample: Sample) -> None:
    state = look(sample.sr)
    group = state.medium.group
    assert group
    first, second, *_ = group.volumes
    moved = replace(group.volumes[second], segments=group.volumes[first].segments)
    overlapping = replace(group, volumes={**group.volumes, second: moved})
    state = replace(state, medium=replace(state.medium, group=overlapping))
    assert "volumes are apart" in reported(broken(state))


def failing(sample: Sample, models: dict[str, Model]) -> set[str]:
    with pytest.raises(InvariantsBroken) as caught:
        check_everything(sample.sr, models)
    return reported(list(caught.value.violations))


def test_all_is_well(sample: Sample) -> None:
    check_everything(sample.sr, {sample.disk.ref: sample.model, sample.snapshot.ref: sample.model})


def test_other_content(sample: Sample) -> None:
    """One sector in one of two disks."""
    model = sample.model.fork()
    model.write(one_sector("never written", 3 * BLOCK))
    found = failing(sample, {sample.disk.ref: model, sample.snapshot.ref: sample.model})
    assert found == {"the device shows the content"}


def test_a_lost_disk(sample: Sample) -> None:
    other = sample.sr.create(BLOCK)
    other.destroy()
    assert failing(sample, {other.ref: Model(BLOCK)}) == {"no disk is lost"}


def test_readers_that_disagree(sample: Sample, tmp_path: Path) -> None:
    """What the other readers see is another file than the device's."""
    state = look(sample.sr)
    witnesses = contents.Witnesses(sample.sr, state.medium, tmp_path)
    copies = witnesses.copies
    copy = copies.path(sample.base.uuid)
    data = copy.read_bytes()
    at = data.index(sample.model.piece(BLOCK - 4096, 4096))
    copy.write_bytes(changed(data, at, b"other bytes"))
    image = state.medium.images[sample.disk.uuid]
    _, found = witnesses.content(image)
    assert {(v.rule, v.where.partition(" ")[2]) for v in found} == {
        ("readers agree", "by our reader")
    }
    right = sample.model.piece(0, sample.model.size)
    (found_too,) = contents.libvhdi_agrees(copies, sample.disk.uuid, right)
    assert found_too.rule == "readers agree"
    copy.write_bytes(b"no disk at all")
    (refused,) = contents.libvhdi_agrees(copies, sample.disk.uuid, right)
    assert refused.rule == "libvhdi opens it"


def test_a_block_that_is_nowhere(sample: Sample) -> None:
    """What no head shows: the first entry of the block table leads past the end."""
    image = sample.image(sample.base)
    assert image.head
    with sample.edited(image.name, image.head.table, struct.pack(">I", 1 << 30)):
        assert "the VHD check passes" in failing(sample, {})


def test_what_a_scan_mends(sample: Sample) -> None:
    before = look(sample.sr)
    with vdi(sample, sample.disk, virtual_size=BLOCK):
        after = look(sample.sr)
    (violation,) = mended(before, after)
    assert violation.rule == "a scan mends nothing"
    assert violation.where == f"{sample.disk.uuid} virtual_size"


def test_the_report(sample: Sample) -> None:
    """All of it in one error: what, where, expected and found."""
    with (
        vdi(sample, sample.disk, virtual_size=BLOCK),
        config(sample, sample.snapshot, paused="true"),
        pytest.raises(InvariantsBroken) as caught,
    ):
        check(sample.sr)
    text = str(caught.value)
    assert f"broken on {sample.sr.kind} SR {sample.sr.uuid}" in text
    assert f"{sample.disk.uuid} virtual_size: expected {5 * BLOCK}, found {BLOCK}" in text
    assert f"{sample.snapshot.uuid} sm_config: expected no such key, found paused" in text
