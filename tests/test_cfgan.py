from contract import ModelContract


class TestCFGAN(ModelContract):
    model = "CFGAN"
