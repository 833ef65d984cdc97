"""The garbage collector: what no disk needs any more goes, and chains become short again.

    tree         which images stand on which, and what there is to do
    medium       what is done to images; files.py and volumes.py do it
    merge        coalesce: a base copy's data go down into its parent, its children follow
    leaf         leaf-coalesce: a disk's data go down into its parent, which becomes the disk
    collector    one thing after the other until there is nothing left to do
    control      one collector per SR: its process, who starts it, who ends it

A collector works as a row of driver calls would: what changes names or links happens under the
SR's lock, after a fresh look at the medium. Only data are copied without it.
"""
