"""The classes around a call: session, task, message and secret."""

from __future__ import annotations

from typing import Final

from xapi.datatypes import STRING_MAP, STRINGS, Basic, Enumeration, MapOf, Ref, SetOf, words
from xapi.fields import UUID, Class, internal, inverse, server, writable

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
    evented=False,
    durable=False,
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
        # The server works on it; it is to be removed as soon as it has ended.
        internal("served", Basic.BOOL),
        internal("unwanted", Basic.BOOL),
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

SECRET: Final = Class(
    "secret",
    (
        UUID,
        writable("value", Basic.STRING),
        writable("other_config", STRING_MAP, {}),
    ),
    constructed=True,
    evented=False,
)
