from typing import ClassVar

from recbole_dgrm.testing import ModelContract


class TestBMF(ModelContract):
    model = "BMF"
    settings: ClassVar = {}
    implicit = None

    def phases(self, model):
        return []  # drawn, not learnt by gradients
