"""Questions asked of a dump."""
