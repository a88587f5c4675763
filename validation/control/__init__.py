"""What the control plane decides and checks, without an orchestrator."""
