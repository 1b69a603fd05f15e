"""Files below their public classes: system calls, threads, buffers."""

import io

# io's own methods. blockbuster replaces them later, to forbid files that block the loop. hoop's files do not,
# so `import hoop` takes the methods before a tool can replace them.
read_text = io.TextIOWrapper.read
readline_text = io.TextIOWrapper.readline
write_text = io.TextIOWrapper.write
