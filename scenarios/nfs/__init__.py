"""NFS: what its users write into device_config, and servers that come and go."""
