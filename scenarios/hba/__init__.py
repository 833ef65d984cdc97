"""SRs on LUNs that host bus adapters see."""
