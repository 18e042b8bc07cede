"""The tests that every model must pass, also your own; they need pytest, which the extra ``test`` installs.

from recbole_dgrm.testing import ModelContract


class TestLinear(ModelContract):
    model = "mypackage.linear:Linear"
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.contract")  # before its import, so that a failed assertion shows its values

from recbole_dgrm.testing.contract import ModelContract, interaction  # noqa: E402

__all__ = ["ModelContract", "interaction"]
