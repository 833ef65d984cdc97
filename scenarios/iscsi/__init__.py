"""SRs on LUNs of iSCSI targets."""
