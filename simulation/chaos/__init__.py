"""The fleet under fire: real processes, faults on a seeded schedule, then an audit that must find nothing.

Nothing in the product knows of it. Faults come from outside, as they do in the field: signals, servers that die, an
object store that misbehaves, a clock that is wrong.
"""
