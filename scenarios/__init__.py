"""What must hold of `VDI.revert`, on real block devices, through a real XenAPI session.

Each scenario is a pytest test that takes the fixture `sr` and so runs once per SR type.
"""
