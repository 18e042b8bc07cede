from typing import ClassVar

from contract import ModelContract


class TestMF(ModelContract):
    model = "MF"
    settings: ClassVar = {}

    def phases(self, model):
        return []  # closed-form solves: no gradients
