from contract import ModelContract


class TestICDAE(ModelContract):
    model = "ICDAE"
