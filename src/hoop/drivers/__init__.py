"""The port to the kernel: operations, and the two drivers that carry them out, epoll and io_uring."""
