"""The classes of the machines: pool, host and host_metrics."""

from __future__ import annotations

from typing import Final

from xapi.datatypes import NULL, STRING_MAP, STRINGS, Basic, Enumeration, MapOf, Ref, SetOf, words
from xapi.fields import UUID, Class, each, internal, inverse, operations, server, static, writable

POOL_OPERATIONS: Final = Enumeration(
    "pool_allowed_operations",
    words(
        "ha_enable ha_disable cluster_create designate_new_master configure_repositories "
        "sync_updates sync_bundle get_updates apply_updates tls_verification_enable "
        "cert_refresh exchange_certificates_on_join exchange_ca_certificates_on_join "
        "copy_primary_host_certs eject"
    ),
)
HOST_OPERATIONS: Final = Enumeration(
    "host_allowed_operations",
    words(
        "provision evacuate shutdown reboot power_on vm_start vm_resume vm_migrate "
        "apply_updates enable"
    ),
)
DISPLAY: Final = Enumeration(
    "host_display", ("enabled", "disable_on_reboot", "disabled", "enable_on_reboot")
)
TELEMETRY: Final = Enumeration("telemetry_frequency", ("weekly", "daily", "monthly"))
UPDATE_SYNC: Final = Enumeration("update_sync_frequency", ("weekly", "daily"))

_HIGH_AVAILABILITY: Final = (
    server("ha_enabled", Basic.BOOL),
    server("ha_configuration", STRING_MAP),
    server("ha_statefiles", STRINGS),
    server("ha_host_failures_to_tolerate", Basic.INT),
    server("ha_plan_exists_for", Basic.INT),
    writable("ha_allow_overcommit", Basic.BOOL, False),
    server("ha_overcommitted", Basic.BOOL),
    server("ha_cluster_stack", Basic.STRING, "xhad"),
)
_UPDATES: Final = (
    server("telemetry_uuid", Ref("secret")),
    server("telemetry_frequency", TELEMETRY),
    server("telemetry_next_collection", Basic.DATETIME),
    server("last_update_sync", Basic.DATETIME),
    server("update_sync_frequency", UPDATE_SYNC),
    server("update_sync_day", Basic.INT),
    server("update_sync_enabled", Basic.BOOL),
    server("repositories", SetOf(Ref("Repository"))),
)

POOL: Final = Class(
    "pool",
    (
        UUID,
        writable("name_label", Basic.STRING, ""),
        writable("name_description", Basic.STRING, ""),
        *operations(POOL_OPERATIONS),
        server("master", Ref("host")),
        *each(
            "default_SR suspend_image_SR crash_dump_SR",
            lambda name: writable(name, Ref("SR"), NULL),
        ),
        writable("other_config", STRING_MAP, {}),
        *_HIGH_AVAILABILITY,
        server("blobs", MapOf(Basic.STRING, Ref("blob"))),
        writable("tags", STRINGS, ()),
        writable("gui_config", STRING_MAP, {}),
        writable("health_check_config", STRING_MAP, {}),
        server("wlb_url", Basic.STRING),
        server("wlb_username", Basic.STRING),
        writable("wlb_enabled", Basic.BOOL, False),
        writable("wlb_verify_cert", Basic.BOOL, False),
        server("redo_log_enabled", Basic.BOOL),
        server("redo_log_vdi", Ref("VDI")),
        server("vswitch_controller", Basic.STRING),
        server("restrictions", STRING_MAP),
        server("metadata_VDIs", SetOf(Ref("VDI"))),
        server("guest_agent_config", STRING_MAP),
        server("cpu_info", STRING_MAP),
        writable("policy_no_vendor_device", Basic.BOOL, False),
        writable("live_patching_disabled", Basic.BOOL, False),
        server("igmp_snooping_enabled", Basic.BOOL),
        server("uefi_certificates", Basic.STRING),
        writable("is_psr_pending", Basic.BOOL, False),
        server("tls_verification_enabled", Basic.BOOL),
        server("client_certificate_auth_enabled", Basic.BOOL),
        server("client_certificate_auth_name", Basic.STRING),
        writable("migration_compression", Basic.BOOL, False),
        writable("coordinator_bias", Basic.BOOL, True),
        writable("license_server", STRING_MAP, {}),
        server("recommendations", STRING_MAP),
        *_UPDATES,
        # Salt and digest, once it is another than the one that the server was started with.
        internal("root_password", Basic.STRING),
    ),
)

_API_VERSION: Final = (
    server("API_version_major", Basic.INT),
    server("API_version_minor", Basic.INT),
    server("API_version_vendor", Basic.STRING),
    server("API_version_vendor_implementation", STRING_MAP),
    server("software_version", STRING_MAP),
)
_HARDWARE: Final = (
    server("memory_overhead", Basic.INT),
    server("capabilities", STRINGS),
    *each(
        "cpu_configuration cpu_info bios_strings chipset_info",
        lambda name: server(name, STRING_MAP),
    ),
    server("host_CPUs", SetOf(Ref("host_cpu"))),
    server("sched_policy", Basic.STRING),
    server("supported_bootloaders", STRINGS),
    server("PCIs", SetOf(Ref("PCI"))),
    server("PGPUs", SetOf(Ref("PGPU"))),
    server("PUSBs", SetOf(Ref("PUSB"))),
    writable("guest_VCPUs_params", STRING_MAP, {}),
    server("display", DISPLAY),
    server("virtual_hardware_platform_versions", SetOf(Basic.INT), (0,)),
)
_CARE: Final = (
    writable("logging", STRING_MAP, {}),
    server("crashdumps", SetOf(Ref("host_crashdump"))),
    server("patches", SetOf(Ref("host_patch"))),
    server("updates", SetOf(Ref("pool_update"))),
    server("updates_requiring_reboot", SetOf(Ref("pool_update"))),
    server("features", SetOf(Ref("Feature"))),
    server("certificates", SetOf(Ref("Certificate"))),
    server("license_params", STRING_MAP),
    server("edition", Basic.STRING),
    writable("license_server", STRING_MAP, {}),
    server("power_on_mode", Basic.STRING),
    server("power_on_config", STRING_MAP),
    server("ssl_legacy", Basic.BOOL),
    server("tls_verification_enabled", Basic.BOOL),
    server("https_only", Basic.BOOL),
    *each("ssh_enabled ssh_auto_mode", lambda name: server(name, Basic.BOOL)),
    *each("ssh_enabled_timeout console_idle_timeout", lambda name: server(name, Basic.INT)),
    server("ssh_expiry", Basic.DATETIME),
)

HOST: Final = Class(
    "host",
    (
        UUID,
        writable("name_label", Basic.STRING, ""),
        writable("name_description", Basic.STRING, ""),
        *operations(HOST_OPERATIONS),
        *_API_VERSION,
        server("enabled", Basic.BOOL),
        writable("other_config", STRING_MAP, {}),
        inverse("resident_VMs", "VM", "resident_on"),
        inverse("PIFs", "PIF", "host"),
        inverse("PBDs", "PBD", "host"),
        writable("suspend_image_sr", Ref("SR"), NULL),
        writable("crash_dump_sr", Ref("SR"), NULL),
        writable("hostname", Basic.STRING, ""),
        writable("address", Basic.STRING, ""),
        server("metrics", Ref("host_metrics")),
        server("ha_statefiles", STRINGS),
        server("ha_network_peers", STRINGS),
        server("blobs", MapOf(Basic.STRING, Ref("blob"))),
        writable("tags", STRINGS, ()),
        static("local_cache_sr", Ref("SR"), NULL),
        server("control_domain", Ref("VM")),
        static("iscsi_iqn", Basic.STRING, "", generated_setter=True),
        static("multipathing", Basic.BOOL, False, generated_setter=True),
        *_HARDWARE,
        *_CARE,
    ),
)

HOST_METRICS: Final = Class(
    "host_metrics",
    (
        UUID,
        server("memory_total", Basic.INT),
        server("memory_free", Basic.INT),
        server("live", Basic.BOOL),
        server("last_updated", Basic.DATETIME),
        writable("other_config", STRING_MAP, {}),
    ),
)
