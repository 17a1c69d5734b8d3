import shutil
import subprocess

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_names_the_program(cli, shell):
    said = cli(f"completion {shell}").out
    assert "_AUMAI_TRANSACTIONS_COMPLETE" in said
    assert "aumai-transactions" in said


def test_bash_can_read_its_script(cli):
    bash = shutil.which("bash")
    assert bash
    subprocess.run([bash, "-n"], input=cli("completion bash").out, text=True, check=True)


def test_another_shell_is_refused(cli):
    assert "'bash', 'zsh', 'fish'" in cli("completion cmd", code=2).err
