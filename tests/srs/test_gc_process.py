"""A collector that lives longer than the call that started it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from srs.gc.control import Aborted
from srs.gc.process import require_still_ours
from srs.protocol import Request
from srs.session import Session
from xapi.testing import CAPABILITIES, Rig, serve


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path, {"nfs": CAPABILITIES}, hosts=2) as rig:
        yield rig


def test_a_collector_ends_where_its_host_is_not_the_master_any_more(rig: Rig) -> None:
    old, new = rig.api.host.get_all()
    sr = rig.sr("nfs", shared=True)
    begun = Request("gc", host_ref=old, sr_uuid=rig.api.SR.get_uuid(sr))
    session = Session.login("SM-gc", str(rig.host.socket))
    require_still_ours(session, begun)
    rig.api.pool.designate_new_master(new)
    with pytest.raises(Aborted):
        require_still_ours(session, begun)
    rig.api.pool.designate_new_master(old)
    require_still_ours(session, begun)
    [pbd] = [pbd for pbd in rig.api.SR.get_PBDs(sr) if rig.api.PBD.get_host(pbd) == old]
    rig.api.PBD.unplug(pbd)
    with pytest.raises(Aborted):
        require_still_ours(session, begun)
    session.logout()
