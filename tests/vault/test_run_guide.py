"""docs/run.md, followed by the letter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.vault.harness.programs import ROOT, vault_program
from tests.vault.harness.server import VaultServer

GUIDE: Final = ROOT / "docs/run.md"


def test_who_follows_the_guide_sees_what_it_says(own_vault: VaultServer, tmp_path: Path) -> None:
    program = vault_program()
    assert program is not None
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.defpath]),
        "VAULT_ADDR": own_vault.url,
        "VAULT_CACERT": str(own_vault.ca_file),
        "VAULT_TOKEN": own_vault.root_token,
    }

    def run(block: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done

    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    _, first, check, refused, rotated = (run(block) for block in blocks)
    assert re.fullmatch(r"/proc/\d+/fd/\d+ has first\n", first.stdout)
    table, _, listing = check.stdout.partition("[")
    assert table.count("version 1") == 2
    assert all(one["found"] for one in json.loads("[" + listing))
    said = re.search(r"^    (kernelsecret-ctl: .*)$", GUIDE.read_text(), re.MULTILINE)
    assert said is not None
    assert refused.stderr == said[1] + "\n"
    assert rotated.stdout.endswith("second")
