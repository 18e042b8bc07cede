from contract import ModelContract


class TestDiffRec(ModelContract):
    model = "DiffRec"
