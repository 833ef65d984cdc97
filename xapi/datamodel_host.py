"""The classes around storage: session, pool, host, VM, task and message."""

from __future__ import annotations

from typing import Final

from xapi.datatypes import STRING_MAP, STRINGS, Basic, Enumeration, MapOf, Ref, SetOf, words
from xapi.fields import UUID, Class, internal, inverse, server, static, writable

POWER_STATE: Final = Enumeration("vm_power_state", ("Halted", "Paused", "Running", "Suspended"))
TASK_OPERATIONS: Final = Enumeration("task_allowed_operations", ("cancel", "destroy"))
TASK_STATUS: Final = Enumeration(
    "task_status_type", ("pending", "success", "failure", "cancelling", "cancelled")
)
MESSAGE_CLASS: Final = Enumeration(
    "cls", words("VM Host SR Pool VMPP VMSS PVS_proxy VDI Certificate")
)

SESSION: Final = Class(
    "session",
    (
        UUID,
        server("this_host", Ref("host")),
        server("this_user", Ref("user")),
        server("last_active", Basic.DATETIME),
        server("pool", Basic.BOOL),
        writable("other_config", STRING_MAP, {}),
        server("is_local_superuser", Basic.BOOL),
        server("subject", Ref("subject")),
        server("validation_time", Basic.DATETIME),
        server("auth_user_sid", Basic.STRING),
        server("auth_user_name", Basic.STRING),
        server("rbac_permissions", STRINGS),
        server("tasks", SetOf(Ref("task"))),
        server("parent", Ref("session")),
        server("originator", Basic.STRING),
        server("client_certificate", Basic.BOOL),
        # Who the caller really is: a client could write anything into other_config.
        internal("local_root", Basic.BOOL),
        internal("storage_of", Ref("SR")),
    ),
    listed=False,
)

POOL: Final = Class(
    "pool",
    (
        UUID,
        writable("name_label", Basic.STRING, ""),
        writable("name_description", Basic.STRING, ""),
        server("master", Ref("host")),
        writable("default_SR", Ref("SR")),
        writable("suspend_image_SR", Ref("SR")),
        writable("crash_dump_SR", Ref("SR")),
        writable("other_config", STRING_MAP, {}),
        server("ha_enabled", Basic.BOOL),
        server("ha_configuration", STRING_MAP),
        server("ha_statefiles", STRINGS),
        server("ha_host_failures_to_tolerate", Basic.INT),
        server("ha_plan_exists_for", Basic.INT),
        writable("ha_allow_overcommit", Basic.BOOL, False),
        server("ha_overcommitted", Basic.BOOL),
        writable("tags", STRINGS, ()),
        writable("gui_config", STRING_MAP, {}),
        server("redo_log_enabled", Basic.BOOL),
        server("redo_log_vdi", Ref("VDI")),
    ),
)

HOST: Final = Class(
    "host",
    (
        UUID,
        writable("name_label", Basic.STRING, ""),
        writable("name_description", Basic.STRING, ""),
        server("API_version_major", Basic.INT),
        server("API_version_minor", Basic.INT),
        server("API_version_vendor", Basic.STRING),
        server("API_version_vendor_implementation", STRING_MAP),
        server("enabled", Basic.BOOL),
        server("software_version", STRING_MAP),
        writable("other_config", STRING_MAP, {}),
        server("capabilities", STRINGS),
        inverse("resident_VMs", "VM", "resident_on"),
        writable("suspend_image_sr", Ref("SR")),
        writable("crash_dump_sr", Ref("SR")),
        inverse("PBDs", "PBD", "host"),
        writable("hostname", Basic.STRING, ""),
        writable("address", Basic.STRING, ""),
        writable("tags", STRINGS, ()),
        server("local_cache_sr", Ref("SR")),
        server("control_domain", Ref("VM")),
    ),
)

VM: Final = Class(
    "VM",
    (
        UUID,
        writable("name_label", Basic.STRING, ""),
        writable("name_description", Basic.STRING, ""),
        static("power_state", POWER_STATE, "Halted"),
        writable("is_a_template", Basic.BOOL),
        static("suspend_VDI", Ref("VDI")),
        server("resident_on", Ref("host")),
        writable("affinity", Ref("host")),
        inverse("VBDs", "VBD", "VM"),
        static("other_config", STRING_MAP, {}),
        server("domid", Basic.INT, -1),
        server("is_control_domain", Basic.BOOL),
        server("is_a_snapshot", Basic.BOOL),
        server("snapshot_of", Ref("VM")),
        inverse("snapshots", "VM", "snapshot_of"),
        server("snapshot_time", Basic.DATETIME),
        writable("tags", STRINGS, ()),
        server("parent", Ref("VM")),
        inverse("children", "VM", "parent"),
    ),
)

TASK: Final = Class(
    "task",
    (
        UUID,
        server("name_label", Basic.STRING),
        server("name_description", Basic.STRING),
        server("allowed_operations", SetOf(TASK_OPERATIONS)),
        server("current_operations", MapOf(Ref("task"), TASK_OPERATIONS)),
        server("created", Basic.DATETIME),
        server("finished", Basic.DATETIME),
        server("status", TASK_STATUS),
        server("resident_on", Ref("host")),
        server("progress", Basic.FLOAT),
        server("type", Basic.STRING),
        server("result", Basic.STRING),
        server("error_info", STRINGS),
        writable("other_config", STRING_MAP, {}),
        server("subtask_of", Ref("task")),
        inverse("subtasks", "task", "subtask_of"),
        server("backtrace", Basic.STRING),
    ),
)

MESSAGE: Final = Class(
    "message",
    (
        UUID,
        server("name", Basic.STRING),
        server("priority", Basic.INT),
        server("cls", MESSAGE_CLASS),
        server("obj_uuid", Basic.STRING),
        server("timestamp", Basic.DATETIME),
        server("body", Basic.STRING),
    ),
)
