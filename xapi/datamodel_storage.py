"""The storage classes: SR, PBD, SM, VDI and VBD."""

from __future__ import annotations

from typing import Final

from xapi.datatypes import NULL, STRING_MAP, STRINGS, Basic, Enumeration, MapOf, Ref, SetOf, words
from xapi.fields import (
    UUID,
    Class,
    internal,
    inverse,
    operations,
    renamable,
    server,
    static,
    writable,
)

STORAGE_OPERATIONS: Final = Enumeration(
    "storage_operations",
    words(
        "scan destroy forget plug unplug update vdi_create vdi_introduce vdi_destroy "
        "vdi_resize vdi_clone vdi_snapshot vdi_mirror vdi_enable_cbt vdi_disable_cbt "
        "vdi_data_destroy vdi_list_changed_blocks vdi_set_on_boot vdi_blocked vdi_copy "
        "vdi_force_unlock vdi_forget vdi_generate_config vdi_resize_online vdi_update "
        "vdi_revert pbd_create pbd_destroy"
    ),
)
VDI_OPERATIONS: Final = Enumeration(
    "vdi_operations",
    words(
        "clone copy resize resize_online snapshot mirror destroy forget update "
        "force_unlock generate_config enable_cbt disable_cbt data_destroy "
        "list_changed_blocks set_on_boot blocked revert_to revert_from"
    ),
)
VBD_OPERATIONS: Final = Enumeration(
    "vbd_operations",
    ("attach", "eject", "insert", "plug", "unplug", "unplug_force", "pause", "unpause"),
)
VDI_TYPE: Final = Enumeration(
    "vdi_type",
    words(
        "system user ephemeral suspend crashdump ha_statefile metadata redo_log rrd "
        "pvs_cache cbt_metadata"
    ),
)
ON_BOOT: Final = Enumeration("on_boot", ("persist", "reset"))
VBD_MODE: Final = Enumeration("vbd_mode", ("RO", "RW"))
VBD_TYPE: Final = Enumeration("vbd_type", ("CD", "Disk", "Floppy"))

SR: Final = Class(
    "SR",
    (
        UUID,
        *renamable(),
        *operations(STORAGE_OPERATIONS),
        inverse("VDIs", "VDI", "SR"),
        inverse("PBDs", "PBD", "SR"),
        server("virtual_allocation", Basic.INT),
        server("physical_utilisation", Basic.INT),
        static("physical_size", Basic.INT),
        static("type", Basic.STRING),
        static("content_type", Basic.STRING),
        server("shared", Basic.BOOL),
        writable("other_config", STRING_MAP, {}),
        writable("tags", STRINGS, ()),
        writable("sm_config", STRING_MAP, {}),
        server("blobs", MapOf(Basic.STRING, Ref("blob"))),
        server("local_cache_enabled", Basic.BOOL),
        server("introduced_by", Ref("DR_task")),
        server("clustered", Basic.BOOL),
        server("is_tools_sr", Basic.BOOL),
    ),
)

PBD: Final = Class(
    "PBD",
    (
        UUID,
        static("host", Ref("host")),
        static("SR", Ref("SR")),
        static("device_config", STRING_MAP, {}, custom_setter=True),
        server("currently_attached", Basic.BOOL),
        writable("other_config", STRING_MAP, {}),
    ),
)

SM: Final = Class(
    "SM",
    (
        UUID,
        server("name_label", Basic.STRING),
        server("name_description", Basic.STRING),
        server("type", Basic.STRING),
        server("vendor", Basic.STRING),
        server("copyright", Basic.STRING),
        server("version", Basic.STRING),
        server("required_api_version", Basic.STRING),
        server("configuration", STRING_MAP),
        server("capabilities", STRINGS),
        server("features", MapOf(Basic.STRING, Basic.INT)),
        writable("other_config", STRING_MAP, {}),
        server("driver_filename", Basic.STRING),
        server("required_cluster_stack", STRINGS),
        server("supported_image_formats", STRINGS),
    ),
)

VDI: Final = Class(
    "VDI",
    (
        UUID,
        *renamable(),
        *operations(VDI_OPERATIONS),
        static("SR", Ref("SR")),
        inverse("VBDs", "VBD", "VDI"),
        server("crash_dumps", SetOf(Ref("crashdump"))),
        static("virtual_size", Basic.INT),
        server("physical_utilisation", Basic.INT),
        static("type", VDI_TYPE),
        static("sharable", Basic.BOOL),
        static("read_only", Basic.BOOL),
        writable("other_config", STRING_MAP),
        server("storage_lock", Basic.BOOL),
        server("location", Basic.STRING),
        server("managed", Basic.BOOL),
        server("missing", Basic.BOOL),
        server("parent", Ref("VDI")),
        writable("xenstore_data", STRING_MAP, {}),
        writable("sm_config", STRING_MAP, {}),
        server("is_a_snapshot", Basic.BOOL),
        server("snapshot_of", Ref("VDI")),
        inverse("snapshots", "VDI", "snapshot_of"),
        server("snapshot_time", Basic.DATETIME),
        writable("tags", STRINGS, ()),
        server("allow_caching", Basic.BOOL),
        server("on_boot", ON_BOOT),
        server("metadata_of_pool", Ref("pool")),
        server("metadata_latest", Basic.BOOL),
        server("is_tools_iso", Basic.BOOL),
        server("cbt_enabled", Basic.BOOL),
    ),
)

VBD: Final = Class(
    "VBD",
    (
        UUID,
        *operations(VBD_OPERATIONS),
        static("VM", Ref("VM")),
        static("VDI", Ref("VDI")),
        static("device", Basic.STRING, ""),
        writable("userdevice", Basic.STRING),
        writable("bootable", Basic.BOOL),
        static("mode", VBD_MODE),
        writable("type", VBD_TYPE),
        writable("unpluggable", Basic.BOOL, True),
        server("storage_lock", Basic.BOOL),
        static("empty", Basic.BOOL),
        writable("other_config", STRING_MAP),
        static("currently_attached", Basic.BOOL, False),
        internal("reserved", Basic.BOOL),
        server("status_code", Basic.INT),
        server("status_detail", Basic.STRING),
        server("runtime_properties", STRING_MAP),
        writable("qos_algorithm_type", Basic.STRING),
        writable("qos_algorithm_params", STRING_MAP),
        server("qos_supported_algorithms", STRINGS),
        server("metrics", Ref("VBD_metrics"), NULL),
    ),
)
