"""The classes of virtual machines: VM, VM_metrics, VM_guest_metrics and console."""

from __future__ import annotations

from typing import Final

from xapi.datatypes import NULL, STRING_MAP, STRINGS, Basic, Enumeration, MapOf, Ref, SetOf, words
from xapi.fields import UUID, Class, each, inverse, operations, server, static, writable

POWER_STATE: Final = Enumeration("vm_power_state", ("Halted", "Paused", "Running", "Suspended"))
VM_OPERATIONS: Final = Enumeration(
    "vm_operations",
    words(
        "snapshot clone copy create_template revert checkpoint snapshot_with_quiesce provision "
        "start start_on pause unpause clean_shutdown clean_reboot hard_shutdown "
        "power_state_reset hard_reboot suspend csvm resume resume_on pool_migrate migrate_send "
        "get_boot_record send_sysrq send_trigger query_services shutdown call_plugin "
        "changing_memory_live awaiting_memory_live changing_dynamic_range "
        "changing_static_range changing_memory_limits changing_shadow_memory "
        "changing_shadow_memory_live changing_VCPUs changing_VCPUs_live changing_NVRAM "
        "assert_operation_valid data_source_op update_allowed_operations make_into_template "
        "import export metadata_export reverting destroy create_vtpm sysprep"
    ),
)
ON_SOFTREBOOT: Final = Enumeration(
    "on_softreboot_behavior", words("soft_reboot destroy restart preserve")
)
ON_NORMAL_EXIT: Final = Enumeration("on_normal_exit", ("destroy", "restart"))
ON_CRASH: Final = Enumeration(
    "on_crash_behaviour",
    words("destroy coredump_and_destroy restart coredump_and_restart preserve rename_restart"),
)
DOMAIN_TYPE: Final = Enumeration("domain_type", words("hvm pv pv_in_pvh pvh unspecified"))
TRISTATE: Final = Enumeration("tristate_type", ("yes", "no", "unspecified"))
GUIDANCE: Final = Enumeration(
    "update_guidances",
    words(
        "reboot_host reboot_host_on_livepatch_failure reboot_host_on_kernel_livepatch_failure "
        "reboot_host_on_xen_livepatch_failure restart_toolstack restart_device_model restart_vm"
    ),
)
CERTIFICATES_STATE: Final = Enumeration(
    "vm_secureboot_readiness", words("ok setup_mode certs_incomplete")
)
CONSOLE_PROTOCOL: Final = Enumeration("console_protocol", ("vt100", "rfb", "rdp"))

_IDENTITY: Final = (
    UUID,
    writable("name_label", Basic.STRING, ""),
    writable("name_description", Basic.STRING, ""),
    *operations(VM_OPERATIONS),
    static("power_state", POWER_STATE, "Halted"),
    writable("user_version", Basic.INT, 0),
    writable("is_a_template", Basic.BOOL, False),
    server("is_default_template", Basic.BOOL),
    static("suspend_VDI", Ref("VDI"), NULL),
    server("resident_on", Ref("host")),
    writable("affinity", Ref("host"), NULL),
    server("scheduled_to_be_resident_on", Ref("host")),
    writable("tags", STRINGS, ()),
    static("blocked_operations", MapOf(VM_OPERATIONS, Basic.STRING), {}, generated_setter=True),
    server("groups", SetOf(Ref("VM_group"))),
)
#: Memory in bytes.
_RESOURCES: Final = (
    server("memory_overhead", Basic.INT),
    *each(
        "memory_target memory_static_max memory_dynamic_max memory_dynamic_min memory_static_min",
        lambda name: static(name, Basic.INT, 0),
    ),
    writable("VCPUs_params", STRING_MAP, {}),
    static("VCPUs_max", Basic.INT, 1),
    static("VCPUs_at_startup", Basic.INT, 1),
)
_LIFE: Final = (
    writable("actions_after_softreboot", ON_SOFTREBOOT, "soft_reboot"),
    writable("actions_after_shutdown", ON_NORMAL_EXIT, "destroy"),
    writable("actions_after_reboot", ON_NORMAL_EXIT, "restart"),
    static("actions_after_crash", ON_CRASH, "restart"),
    static("ha_always_run", Basic.BOOL, False),
    static("ha_restart_priority", Basic.STRING, ""),
    static("appliance", Ref("VM_appliance"), NULL),
    *each("start_delay shutdown_delay order", lambda name: static(name, Basic.INT, 0)),
    writable("suspend_SR", Ref("SR"), NULL),
    server("requires_reboot", Basic.BOOL),
    *each(
        "pending_guidances pending_guidances_recommended pending_guidances_full",
        lambda name: server(name, SetOf(GUIDANCE)),
    ),
)
_DEVICES: Final = (
    inverse("consoles", "console", "VM"),
    inverse("VIFs", "VIF", "VM"),
    inverse("VBDs", "VBD", "VM"),
    server("VUSBs", SetOf(Ref("VUSB"))),
    server("crash_dumps", SetOf(Ref("crashdump"))),
    server("VTPMs", SetOf(Ref("VTPM"))),
    server("VGPUs", SetOf(Ref("VGPU"))),
    server("attached_PCIs", SetOf(Ref("PCI"))),
)
_BOOT: Final = (
    *each(
        "PV_bootloader PV_kernel PV_ramdisk PV_args PV_bootloader_args PV_legacy_args",
        lambda name: writable(name, Basic.STRING, ""),
    ),
    static("HVM_boot_policy", Basic.STRING, "", generated_setter=True),
    writable("HVM_boot_params", STRING_MAP, {}),
    static("HVM_shadow_multiplier", Basic.FLOAT, 1.0),
    static("domain_type", DOMAIN_TYPE, "unspecified", generated_setter=True),
    static("platform", STRING_MAP, {}, generated_setter=True),
    static("NVRAM", STRING_MAP, {}, generated_setter=True),
    writable("PCI_bus", Basic.STRING, ""),
    static("has_vendor_device", Basic.BOOL, True, generated_setter=True),
    writable("hardware_platform_version", Basic.INT, 0),
    server("bios_strings", STRING_MAP),
    server("secureboot_certificates_state", CERTIFICATES_STATE),
)
_STATE: Final = (
    static("other_config", STRING_MAP, {}, generated_setter=True),
    server("domid", Basic.INT, -1),
    server("domarch", Basic.STRING),
    static("last_boot_CPU_flags", STRING_MAP, {}),
    server("last_booted_record", Basic.STRING),
    server("is_control_domain", Basic.BOOL),
    server("metrics", Ref("VM_metrics")),
    server("guest_metrics", Ref("VM_guest_metrics")),
    writable("recommendations", Basic.STRING, ""),
    writable("xenstore_data", STRING_MAP, {}),
    server("blobs", MapOf(Basic.STRING, Ref("blob"))),
    static("version", Basic.INT, 0),
    static("generation_id", Basic.STRING, "0:0"),
    static("reference_label", Basic.STRING, ""),
)
_SNAPSHOTS: Final = (
    server("is_a_snapshot", Basic.BOOL),
    server("snapshot_of", Ref("VM")),
    inverse("snapshots", "VM", "snapshot_of"),
    server("snapshot_time", Basic.DATETIME),
    server("transportable_snapshot_id", Basic.STRING),
    server("snapshot_info", STRING_MAP),
    server("snapshot_metadata", Basic.STRING),
    server("parent", Ref("VM")),
    inverse("children", "VM", "parent"),
    static("protection_policy", Ref("VMPP"), NULL),
    static("is_snapshot_from_vmpp", Basic.BOOL, False),
    static("snapshot_schedule", Ref("VMSS"), NULL),
    static("is_vmss_snapshot", Basic.BOOL, False),
)

VM: Final = Class("VM", (*_IDENTITY, *_RESOURCES, *_LIFE, *_DEVICES, *_BOOT, *_STATE, *_SNAPSHOTS))

VM_METRICS: Final = Class(
    "VM_metrics",
    (
        UUID,
        server("memory_actual", Basic.INT),
        server("VCPUs_number", Basic.INT),
        server("VCPUs_utilisation", MapOf(Basic.INT, Basic.FLOAT)),
        server("VCPUs_CPU", MapOf(Basic.INT, Basic.INT)),
        server("VCPUs_params", STRING_MAP),
        server("VCPUs_flags", MapOf(Basic.INT, STRINGS)),
        server("state", STRINGS),
        *each("start_time install_time last_updated", lambda name: server(name, Basic.DATETIME)),
        writable("other_config", STRING_MAP, {}),
        *each("hvm nested_virt nomigrate numa_optimised", lambda name: server(name, Basic.BOOL)),
        server("current_domain_type", DOMAIN_TYPE, "unspecified"),
        server("numa_nodes", Basic.INT),
        server("numa_node_memory", MapOf(Basic.INT, Basic.INT)),
    ),
)

VM_GUEST_METRICS: Final = Class(
    "VM_guest_metrics",
    (
        UUID,
        *each(
            "os_version netbios_name PV_drivers_version networks other services",
            lambda name: server(name, STRING_MAP),
        ),
        *each(
            "PV_drivers_up_to_date PV_drivers_detected live",
            lambda name: server(name, Basic.BOOL),
        ),
        *each(
            "can_use_hotplug_vbd can_use_hotplug_vif",
            lambda name: server(name, TRISTATE, "unspecified"),
        ),
        server("last_updated", Basic.DATETIME),
        writable("other_config", STRING_MAP, {}),
    ),
)

CONSOLE: Final = Class(
    "console",
    (
        UUID,
        server("protocol", CONSOLE_PROTOCOL),
        server("location", Basic.STRING),
        server("VM", Ref("VM")),
        writable("other_config", STRING_MAP, {}),
    ),
    constructed=True,
)
