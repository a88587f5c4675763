"""The code of the validation fleet. All of it except ``validation.worker.prefect`` runs without an orchestrator."""
