"""Training loops inside RecBole's ``Trainer.fit``, with checkpoints that resume exactly."""
