from contract import ModelContract

from recbole_dgrm.trainers import Phase


class TestNCF(ModelContract):
    model = "NCF"

    def phases(self, model):
        return [Phase("all", list(model.parameters()), model.calculate_loss, 1, 0.1)]
