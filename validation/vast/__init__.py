"""Interface to Vast.ai, the vendor of GPU machines: client, errors, offers, instances and rate limits."""
