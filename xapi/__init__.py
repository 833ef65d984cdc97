"""The toolstack: a XenAPI server that stands between real clients and SMAPIv1 storage drivers.

It knows nothing of kernels, devices or drivers: all it asks of the machine is the
:class:`~xapi.backend.HostBackend` protocol.
"""
