"""The worker's decisions, without I/O: what a session is, what is held, how long a lease lasts.

Nothing here reads a clock, draws a random number or knows a message of the wire:
times are arguments (seconds of CLOCK_BOOTTIME), and the shell turns frames into
calls and answers into frames.
"""
