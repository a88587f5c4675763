"""Chaos, the market simulation and fake vendors. Development tooling: in no wheel and no image."""
