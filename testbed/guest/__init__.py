"""What runs inside the kernel under test, and the wire that both sides share.

Standard library only: inside a User-Mode Linux guest every import costs page faults of
100-250 us each, so this package is also careful about which parts of the library it touches.
"""
