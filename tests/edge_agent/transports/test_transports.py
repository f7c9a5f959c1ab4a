"""The name in the configuration is the name of the file: for all transports, also those not written yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import transports
from edge_agent.transports import BusSettings

FOLDER = Path(transports.__file__).parent


def test_every_file_of_the_folder_is_a_transport() -> None:
    assert transports.names() == tuple(sorted(file.stem for file in FOLDER.glob("[!_]*.py")))


@pytest.mark.parametrize("name", transports.names())
def test_a_transport_is_called_what_its_file_is_called(name: str) -> None:
    module = transports.load(name)
    assert module is not None
    assert issubclass(module.Settings, BusSettings)
    assert module.Settings.model_fields["transport"].default == name
    assert callable(module.Transport.run)


@pytest.mark.parametrize("name", ["", "bus", "link", "__init__", "serial.", "../serial", "os"])
def test_what_is_no_file_of_the_folder_is_no_transport(name: str) -> None:
    assert transports.load(name) is None
