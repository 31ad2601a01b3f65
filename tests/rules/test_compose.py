"""`docker-compose.yml` and the `Dockerfile` are held to the code: no Docker engine is needed, and none is started."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from engines import docker

from tunemill.cli.app import COMMANDS, load
from tunemill.cli.settings import ENVIRONMENT, engines_from

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LISTENING = {name: service for name, service in OURS.items() if "ports" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_file_fits_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_engines_and_the_four_services_are_there() -> None:
    assert set(SERVICES) == {"setup", "streams", "api", "trainer", "kafka", "elasticsearch", "postgres"}
    assert set(OURS) == {"setup", "streams", "api", "trainer"}
    assert set(LISTENING) == {"streams", "api", "trainer"}


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_one_that_the_command_line_takes(name: str) -> None:
    assert settings_of(name)  # parsed by the real command, which refuses an option that it does not know


@pytest.mark.parametrize("name", OURS)
def test_a_variable_is_one_that_the_code_reads(name: str) -> None:
    environment = OURS[name]["environment"]
    assert set(environment) <= set(ENVIRONMENT)
    assert engines_from(environment).bus_url == f"kafka://{host_in(SERVICES['kafka'], 'INSIDE')}"


@pytest.mark.parametrize("name", LISTENING)
def test_a_port_is_the_one_that_the_command_listens_on(name: str) -> None:
    port = settings_of(name)["port"]
    assert LISTENING[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://127.0.0.1:{port}/health/ready" in " ".join(LISTENING[name]["healthcheck"]["test"])
    assert LISTENING[name]["environment"]["TUNEMILL_HOST"] == "0.0.0.0"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_and_published_on_loopback_only(name: str) -> None:
    service = SERVICES[name]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["restart"] == ("no" if name == "setup" else "unless-stopped")
    assert ("healthcheck" in service) == (name != "setup")


@pytest.mark.parametrize("name", LISTENING)
def test_a_service_starts_after_the_setup_and_that_after_the_engines(name: str) -> None:
    assert LISTENING[name]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}
    healthy = {"condition": "service_healthy"}
    assert OURS["setup"]["depends_on"] == dict.fromkeys(("kafka", "elasticsearch", "postgres"), healthy)


def test_the_api_and_the_trainer_see_the_same_files() -> None:
    folder = OURS["api"]["environment"]["TUNEMILL_FILES_URL"]
    for name in ("api", "trainer"):
        assert OURS[name]["environment"]["TUNEMILL_FILES_URL"] == folder
        assert f"files:{folder}" in OURS[name]["volumes"]


def test_the_engines_are_those_that_the_live_tests_use() -> None:
    assert SERVICES["kafka"]["image"] == docker.KAFKA_IMAGE
    assert SERVICES["elasticsearch"]["image"] == docker.ELASTICSEARCH_IMAGE


@pytest.mark.parametrize("name", OURS)
def test_an_image_holds_what_its_command_needs_and_no_more(name: str) -> None:
    target = OURS[name]["build"]["target"]
    assert target == ("train" if name == "trainer" else "serve")
    assert extras_in(target) == ({"kafka", "train"} if target == "train" else {"kafka"})
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras_in(target) <= set(known)


def test_the_images_run_our_command_as_an_ordinary_user() -> None:
    runtime = stage("runtime")
    assert re.search(r"^USER tunemill$", runtime, re.MULTILINE)
    assert '\nENTRYPOINT ["tunemill"]\n' in runtime
    for target in ("serve", "train"):
        assert "USER" not in stage(target)
        assert all("--from=" in line for line in stage(target).splitlines() if line.startswith("COPY"))


def test_the_build_sees_every_package() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    packages = {link.name for link in (ROOT / "src" / "tunemill").iterdir() if link.is_symlink()}
    assert packages
    assert {f"!{name}" for name in {*packages, "src", "pyproject.toml", "constraints.txt"}} <= set(lines)


def settings_of(name: str) -> dict[str, Any]:
    """What the command of this service would run with, as its own parser sees it."""
    command, *arguments = OURS[name]["command"]
    assert command in COMMANDS
    context = load(command).make_context(command, arguments)
    return {"command": command, **context.params}


def host_in(kafka: dict[str, Any], listener: str) -> str:
    advertised = dict(part.split("://") for part in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    return str(advertised[listener])


def stage(name: str) -> str:
    """The Dockerfile's lines of one stage."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, f"no stage {name}"
    return found[1]


def extras_in(target: str) -> set[str]:
    """The extras of the environment that this stage copies."""
    packages = re.search(r"--from=(\S+) /opt/tunemill", stage(target))
    assert packages
    installed = re.search(r"\[([a-z,]+)\]\"$", stage(packages[1]), re.MULTILINE)
    assert installed
    return set(installed[1].split(","))
