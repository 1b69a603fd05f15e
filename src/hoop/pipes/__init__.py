"""Transports of pipes, terminals and the standard streams of children, as of loop.connect_read_pipe().

Nothing here is public. Users get transports from the loop, and from asyncio.create_subprocess_exec().
"""
