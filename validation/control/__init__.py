"""The steps of the control plane as functions without Prefect: dispatch, sweep, witness, compact, audit, repair."""
