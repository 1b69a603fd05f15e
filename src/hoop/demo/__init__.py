"""A chat room served by aiohttp on a hoop loop, driven by real clients: `python -m hoop.demo`."""
