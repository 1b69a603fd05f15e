"""How the loop talks to the kernel: operations, and the two drivers that carry them out, epoll and
io_uring.

Nothing here is public. Users import from `hoop`, and choose a driver with `driver=` or HOOP_DRIVER.
"""
