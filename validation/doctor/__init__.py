"""Checks that a machine has everything that its role in the fleet needs. Each check is one function.

A check returns its finding in one phrase, or None if the check does not apply to this machine. It raises a
``FleetError`` that describes the problem and its remedy.
"""
