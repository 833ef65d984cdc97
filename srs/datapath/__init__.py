"""From an image to a block device: an NBD server per active disk, and who may have one when."""
