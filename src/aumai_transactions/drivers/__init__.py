"""How transactions are driven in this process: with threads, or with asyncio.

Owns: nothing of its own; both drivers carry out the same procedures.
"""
