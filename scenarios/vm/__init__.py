"""Virtual machines: their disks are attached while they run, and go back together or not at all."""
