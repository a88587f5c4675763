"""The packages of the validation fleet. Only ``validation.worker.prefect`` imports the orchestrator, Prefect."""
