"""Several hosts and one SR."""
