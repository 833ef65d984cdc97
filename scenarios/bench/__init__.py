"""Benchmarks: `ci/bench vhd` prints what the VHD engine promises beside what it does here.

A number that is missed is shown and fails nothing: the machine may be busy.
"""
