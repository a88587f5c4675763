"""Checks of a machine: does it have everything that its part of the fleet needs? One check per function.

A check returns what it found in one phrase, or None where it does not apply to this machine. It raises a
``FleetError`` that says what is wrong and what to do.
"""
