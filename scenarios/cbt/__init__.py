"""Changed block tracking: what backups ask for, and what a revert leaves of it."""
