"""Issues short-lived object store credentials to boxes."""
