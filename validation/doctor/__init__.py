"""What keeps this machine from working, said before anything is claimed: one check a function.

A check returns what it found in a phrase, None where there is nothing to look at here, and raises a ``FleetError``
whose sentence says what is wrong and what to do.
"""
