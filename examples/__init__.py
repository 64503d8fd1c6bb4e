"""Real programs, unmodified: each runs on asyncio by `python FILE` and on Weft by `weft run FILE`.

`aiohttp_service.py` and `fastapi_service.py` are the programs, and know nothing of Weft. `python -m examples` (`make run`) runs
both on both, puts them under HTTP load, checks every answer, and ends in a table.
"""
