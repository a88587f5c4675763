"""The core of the validation fleet: everything that works, and is tested, without an orchestrator."""
