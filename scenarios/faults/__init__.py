"""Bad input, wrong moments, full disks."""
