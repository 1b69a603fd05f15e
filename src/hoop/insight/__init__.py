"""The native half of observing a program: the watcher, which sees that a loop is blocked, and the places that make tasks."""
