"""Published test suites of asyncio's users, run on asyncio and on Weft; docs/guide/ecosystem.md tells how."""
