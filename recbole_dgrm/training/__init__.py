"""Training loops inside RecBole's ``Trainer.fit``, with checkpoints from which training resumes exactly."""
