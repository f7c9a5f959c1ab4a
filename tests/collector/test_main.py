"""Where the collector's packages are missing, its command says what to install."""

import subprocess
import sys

HIDE = "import sys; sys.modules['sqlalchemy'] = None; sys.argv = ['collector', '--help']; "


def test_a_gateway_without_the_collectors_packages_is_told_how_to_get_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDE + "from collector.__main__ import main; main()"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "sqlalchemy is not installed: the collector needs pip install 'warehouse-andon[collector]'"
    )
