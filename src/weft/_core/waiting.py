from asyncio import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, ensure_future, shield, sleep, wait, wait_for  # interim, replaced by the real one in minutes
