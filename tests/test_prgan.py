from contract import ModelContract


class TestPRGAN(ModelContract):
    model = "PRGAN"
