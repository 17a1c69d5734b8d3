"""The pure core: what must be recorded, what a record means, what to do next.

Owns: every rule of a transaction. No clock, no randomness, no logging, no await, no I/O;
times and ids come in as arguments.
"""
