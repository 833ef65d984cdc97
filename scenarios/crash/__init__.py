"""The crash explorer: what is left of an SR when the power goes, at every moment of an operation.

cases       the operations, and what each may leave
recording   an operation, run once: its writes, its flushes, and the database meanwhile
states      what a power cut can leave of them on a disk
recovery    an SR on such a disk: attached, mended, checked
explorer    all of that for one case; repeats a failure with fewer lost writes
evidence    failures in files, and back
cuts        real power cuts, at FIST points and at random
command     `testbed crash`
"""
