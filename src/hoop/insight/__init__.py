"""The native half of observing a program: the watcher, and the places that make tasks."""
