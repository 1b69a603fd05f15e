"""Child processes: making one without a copy of memory, and waiting for its end."""
