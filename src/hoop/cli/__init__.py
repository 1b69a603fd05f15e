"""Commands that look into other processes: the client of their sockets, and tables for the terminal."""
