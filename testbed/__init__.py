"""sr-testbed: a whole XenServer storage host in one throwaway Linux kernel.

Nothing is imported here: the guest imports this package too, and pays for every module.
"""
