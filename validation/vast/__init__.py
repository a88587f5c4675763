"""The Vast.ai API: client, responses, errors, offers, instances and rate limits."""
