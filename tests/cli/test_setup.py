"""`vfleet init` asks, checks at once, and writes files that shell, systemd and Docker read alike."""

import subprocess

import pytest
from typer.testing import CliRunner

from validation.cli.main import app
from validation.cli.setup import STEPS, read_env_file, render_box, render_control
from validation.errors import BadInput

ADDRESS = "postgresql://control:p$w@h:6543/postgres?sslmode=verify-full&sslrootcert=/app/ca.crt"


def test_control_file_means_the_same_to_a_shell_and_to_its_reader(tmp_path):
    """Addresses with `&` and `$` come back as they were given."""
    path = tmp_path / "control.env"
    path.write_text(render_control({"DATABASE_URL": ADDRESS, "VFLEET_SUITE": "indic"}))
    assert read_env_file(path) == {"DATABASE_URL": ADDRESS, "VFLEET_SUITE": "indic"}
    said = subprocess.run(
        ["sh", "-euc", f'set -a; . {path}; printf %s "$DATABASE_URL"'], capture_output=True, text=True, check=True
    )
    assert said.stdout == ADDRESS


def test_box_file_has_the_box_variables_unquoted():
    """Docker takes each line literally, and no secret of the control machine is among them."""
    answers = {"DATABASE_URL": ADDRESS, "BOX_DATABASE_URL": ADDRESS, "VAST_API_KEY": "k"}
    assert render_box(answers) == f"DATABASE_URL={ADDRESS}\n"


def test_value_that_no_quotes_fit_is_refused():
    with pytest.raises(BadInput, match="single quote"):
        render_control({"VAST_API_KEY": "it's"})


def test_answers_are_checked_and_asked_again(ledger, tmp_path, monkeypatch):
    """A wrong address is named at once and asked for again; the second run offers what the first one wrote."""
    url = ledger.url.render_as_string(hide_password=False)
    for step in STEPS:
        for question in step.questions:
            monkeypatch.setenv(question.variable, "")  # so that it is absent again after the test
            monkeypatch.delenv(question.variable)
    monkeypatch.setattr("validation.cli.setup.STEPS", STEPS[:1])
    asked = CliRunner().invoke(
        app, ["init", "--folder", str(tmp_path)], input=f"postgresql://x@127.0.0.1:9/x\nn\n{url}\n"
    )
    assert asked.exit_code == 0, asked.output
    assert "failed: database: " in asked.output
    assert "ok: database: Postgres" in asked.output
    written = tmp_path / "control.env"
    assert read_env_file(written) == {"DATABASE_URL": url}
    assert written.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(app, ["init", "--folder", str(tmp_path)], input="\n")
    assert again.exit_code == 0, again.output
    assert read_env_file(written) == {"DATABASE_URL": url}
    assert url not in again.output
