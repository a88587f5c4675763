"""Prefect blocks: typed credentials and settings of the control plane."""
