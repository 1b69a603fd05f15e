"""What files are made of below their public classes: calls for the kernel, threads, buffers."""
