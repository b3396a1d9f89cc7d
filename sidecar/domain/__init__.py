"""What is true and what is decided: values and pure functions.

No I/O, no clock, no chance, no logging, no asyncio: instants and random numbers are arguments.
"""
