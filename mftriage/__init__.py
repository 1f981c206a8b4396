"""mftriage: crash-dump triage for hardware memory failures on Linux."""

__version__ = "0.1.0"
