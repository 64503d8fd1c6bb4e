"""Transports and servers: asyncio's networking on a Weft loop."""
