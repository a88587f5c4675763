from validation.local.prefect_client import PrefectClient


def survey(client: PrefectClient) -> dict[str, list]:
    """Everything that deploying makes, by identity and content."""
    return {
        "pools": [(pool["id"], pool["name"], pool["type"]) for pool in client._call("POST", "/work_pools/filter")],
        "deployments": [
            (d["id"], d["name"], d["entrypoint"], d["work_pool_name"], len(d["schedules"]), d["concurrency_limit"])
            for d in client._call("POST", "/deployments/filter")
        ],
        "automations": [(a["name"], a["enabled"]) for a in client._call("POST", "/automations/filter")],
    }


def test_deploying_twice_changes_nothing(prefect_server, monkeypatch):
    """Pools, deployments, schedules and automations are what the files say, once."""
    environment = prefect_server.client_environment()
    client = PrefectClient(environment, home="/app")
    client.deploy_all()
    first = survey(client)
    client.deploy_all()
    assert survey(client) == first

    ours = {(name, pool) for _, name, _, pool, _, _ in first["deployments"] if pool}
    assert {("validate-chunk", "vast-gpu"), ("dispatch-chunks", "control"), ("sweep-stale-claims", "control")} <= ours
    assert ("vast-gpu", "vast-gpu") in {(name, kind) for _, name, kind in first["pools"]}
    assert first["automations"] == [("crash-silent-runs", True)]
    (chunk,) = client._call("POST", "/deployments/filter", deployments={"name": {"any_": ["validate-chunk"]}})[:1]
    assert chunk["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/app"}}]
