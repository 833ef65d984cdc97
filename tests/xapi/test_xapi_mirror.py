"""A client that only listens knows what a client that asks would be told."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import XenAPI
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xapi.datamodel import CLASSES
from xapi.testing import serve

WATCHED = [cls.name for cls in CLASSES.values() if cls.evented]
OPERATIONS = (
    *("snapshot", "clone", "destroy", "forget"),
    *("VBD", "plug", "unplug", "unplug host", "destroy VBD"),
    *("VM", "start", "stop", "VM.snapshot", "VM.revert", "destroy VM"),
)


class Mirror(RuleBasedStateMachine):
    """Random calls, some of which fail; the mirror hears of them by event.from alone."""

    @initialize()
    def start(self) -> None:
        self.closing = ExitStack()
        directory = self.closing.enter_context(TemporaryDirectory())
        self.rig = self.closing.enter_context(serve(Path(directory)))
        self.api = self.rig.api
        self.sr = self.rig.sr()
        self.disk = self.rig.vdi(self.sr)
        self.token = ""
        self.mirror: dict[str, dict[str, Any]] = {name.lower(): {} for name in WATCHED}

    def teardown(self) -> None:
        if hasattr(self, "closing"):
            self.closing.close()

    @rule(operation=st.sampled_from(OPERATIONS), data=st.data())
    def call(self, operation: str, data: st.DataObject) -> None:
        def some(cls: str) -> str:
            refs = getattr(self.api, cls).get_all()
            return str(data.draw(st.sampled_from(refs))) if refs else "OpaqueRef:NULL"

        with suppress(XenAPI.Failure):
            self.run_operation(operation, some)

    def run_operation(self, operation: str, some: Any) -> None:
        api = self.api
        if operation in ("snapshot", "clone", "destroy", "forget"):
            getattr(api.VDI, operation)(some("VDI"))
        elif operation == "VBD":
            api.VBD.create(self.rig.vbd_record(some("VDI")) | {"VM": some("VM")})
        elif operation in ("plug", "unplug"):
            getattr(api.VBD, operation)(some("VBD"))
        elif operation == "unplug host":
            self.rig.server.host_restarted()
            self.rig.host.attached_srs.clear()
            api.PBD.plug(some("PBD"))
        elif operation == "destroy VBD":
            api.VBD.destroy(some("VBD"))
        elif operation == "VM":
            vm = api.VM.create({"name_label": "a VM"})
            api.VBD.create(self.rig.vbd_record(api.VDI.clone(self.disk)) | {"VM": vm})
        elif operation == "start":
            api.VM.start(some("VM"), False, False)
        elif operation == "stop":
            api.VM.hard_shutdown(some("VM"))
        elif operation == "VM.snapshot":
            api.VM.snapshot(some("VM"), "a snapshot")
        elif operation == "VM.revert":
            api.VM.revert(some("VM"))
        elif operation == "destroy VM":
            api.VM.destroy(some("VM"))

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "mirror"):
            return
        answer = getattr(self.api.event, "from")(["*"], self.token, 0.0)
        self.token = answer["token"]
        for event in answer["events"]:
            objects = self.mirror[event["class"]]
            if event["operation"] == "del":
                del objects[event["ref"]]
            else:
                assert (event["operation"] == "add") is (event["ref"] not in objects)
                objects[event["ref"]] = event["snapshot"]
        for name in WATCHED:
            objects = self.mirror[name.lower()]
            assert answer["valid_ref_counts"][name.lower()] == len(objects)
            assert objects == getattr(self.api, name).get_all_records()


TestMirror = Mirror.TestCase
# Shrinking would take minutes: each example has a server of its own.
TestMirror.settings = settings(
    deadline=None,
    max_examples=10,
    stateful_step_count=25,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
