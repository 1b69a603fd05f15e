"""Files below their public classes: system calls, threads, buffers."""
