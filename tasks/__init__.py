"""The core's steps as Prefect sees them: one core call each, plus policy."""
