"""Vast.ai, the vendor that rents out GPU machines: client, errors, offers, instances, rate limits."""
