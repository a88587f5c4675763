"""An S3-compatible store that enforces credentials, and a fake Cloudflare that issues them.

moto checks every request against the policies of its signer, down to the key of the object. An issued credential is an
assumed role there, whose policy equals Cloudflare's scope.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx

from simulation.fake_cloudflare import CredentialRequest, FakeCloudflare
from validation.local.stack import EmbeddedObjectStore

READ, WRITE = ("s3:GetObject",), ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
ACTIONS = {"object-read-only": READ, "object-read-write": WRITE}
ANY_PRINCIPAL = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
MIN_DURATION_S = 900
"""moto's minimum for an assumed role."""


class GuardedStore(EmbeddedObjectStore):
    """The embedded store, which enforces policies from `guard` on."""

    def guard(self) -> None:
        """Create an administrator, then enforce authentication."""
        iam = self._client("iam", "any-key", "any-secret")
        iam.create_user(UserName="admin")
        iam.put_user_policy(UserName="admin", PolicyName="all", PolicyDocument=write_policy(["*"], "*"))
        made = iam.create_access_key(UserName="admin")["AccessKey"]
        httpx.post(f"{self.endpoint_url}/moto-api/reset-auth", content="0").raise_for_status()
        self._admin = made["AccessKeyId"], made["SecretAccessKey"]

    def admin_environment(self) -> dict[str, str]:
        key, secret = self._admin
        return {"R2_ENDPOINT_URL": self.endpoint_url, "R2_ACCESS_KEY_ID": key, "R2_SECRET_ACCESS_KEY": secret}

    def issue(self, request: CredentialRequest) -> Mapping[str, str]:
        """The credential that Cloudflare would issue for a request, as this store enforces it."""
        role = f"issued-{abs(hash(json.dumps(request, sort_keys=True)))}"
        keys = [f"arn:aws:s3:::{request['bucket']}/{prefix}*" for prefix in request.get("prefixes", [""])]
        iam, sts = self._client("iam", *self._admin), self._client("sts", *self._admin)
        trust = json.dumps({"Version": "2012-10-17", "Statement": [ANY_PRINCIPAL]})
        arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        policy = write_policy(list(ACTIONS[request["permission"]]), keys)
        iam.put_role_policy(RoleName=role, PolicyName="scope", PolicyDocument=policy)
        issued = sts.assume_role(RoleArn=arn, RoleSessionName="box", DurationSeconds=MIN_DURATION_S)["Credentials"]
        names = {"accessKeyId": "AccessKeyId", "secretAccessKey": "SecretAccessKey", "sessionToken": "SessionToken"}
        return {name: issued[key] for name, key in names.items()}

    def _client(self, service: str, key: str, secret: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.endpoint_url, region_name="us-east-1", aws_access_key_id=key,
            aws_secret_access_key=secret,
        )  # fmt: skip


def write_policy(actions: list[str], resource: object) -> str:
    allowed = {"Effect": "Allow", "Action": actions, "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


def start_guarded(folder: Path, *buckets: str) -> tuple[GuardedStore, FakeCloudflare]:
    """A started and guarded store with its fake Cloudflare. The caller stops the store."""
    store = GuardedStore(folder, buckets=buckets)
    store.start()
    store.guard()
    return store, FakeCloudflare(issue=store.issue)
