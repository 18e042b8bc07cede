"""The typed keys of DGRM and DGRMKL, and the checks of their combinations."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import CenterKind, Dropout, Share


@dataclass(frozen=True)
class DGRMOptions:
    """Keys of ``properties/model/DGRM.yaml``, where each is explained."""

    noise_steps: PositiveInt
    noise_scale: Share
    noise_min: Share
    noise_max: Share
    fixed_step: PositiveInt | None
    generator_hidden: Annotated[list[PositiveInt], Field(min_length=1)]
    critic_hidden: list[PositiveInt]
    step_embedding_size: Annotated[int, Field(ge=2)]
    latent_size: NonNegativeInt | None
    reconstruction_weight: NonNegativeFloat
    adversarial_weight: NonNegativeFloat
    lipschitz: Literal["gradient_penalty", "r1", "weight_clipping", "none"]
    lipschitz_weight: NonNegativeFloat
    weight_clip: PositiveFloat
    generator_iterations: PositiveInt
    critic_iterations: PositiveInt
    learning_rate: PositiveFloat
    critic_learning_rate: PositiveFloat
    decay_per_rating: NonNegativeFloat
    weight_average: Dropout
    prediction: Literal["x_0_hat", "posterior"]
    prediction_noise_steps: NonNegativeInt
    denoising_steps: NonNegativeInt
    prediction_draws: PositiveInt
    condition_dropout: Dropout
    reconstruct: Literal["rated", "hidden"]
    center: CenterKind
    condition_scale: Literal["none", "sqrt_count", "relative_count"]
    noise_support: Literal["all", "rated"]
    step_cost: Literal["auto", "items", "ratings"]

    def __post_init__(self) -> None:
        top = self.noise_steps
        if top > 1 and self.noise_min >= self.noise_max:
            raise OptionError(
                f"noise_min={self.noise_min} must be below noise_max={self.noise_max}; "
                f"allowed: 0 <= noise_min < noise_max <= 1"
            )
        if self.fixed_step is not None and self.fixed_step > top:
            raise OptionError(f"fixed_step={self.fixed_step} is out of range; allowed: 1..noise_steps={top}, or ~")
        if self.prediction_noise_steps > top:
            raise OptionError(
                f"prediction_noise_steps={self.prediction_noise_steps} is out of range; allowed: 0..noise_steps={top}"
            )
        level = max(1, self.prediction_noise_steps)
        if self.denoising_steps > level:
            raise OptionError(
                f"denoising_steps={self.denoising_steps} is out of range; allowed: 0..{level}, "
                f"the step at which prediction starts (max(1, prediction_noise_steps), at most noise_steps={top})"
            )
        if self.step_embedding_size % 2:
            raise OptionError(f"step_embedding_size={self.step_embedding_size} must be even")
        if self.reconstruct == "hidden" and self.condition_dropout == 0:
            raise OptionError("reconstruct=hidden needs condition_dropout above 0: otherwise nothing is hidden")
        if self.noise_support == "rated" and self.prediction == "posterior":
            raise OptionError("prediction=posterior needs noise_support=all: otherwise unrated entries have no state")
