"""The keys of DGRM, DGRMPlus and DGRMKL, typed, and which of them go together."""

from dataclasses import dataclass
from typing import Annotated

from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Choice, Range


@dataclass(frozen=True)
class DGRMOptions:
    """Keys of ``properties/model/DGRM.yaml``, where each is explained."""

    noise_steps: Annotated[int, Range(1)]
    noise_scale: Annotated[float, Range(0, 1)]
    noise_min: Annotated[float, Range(0, 1)]
    noise_max: Annotated[float, Range(0, 1)]
    fixed_step: Annotated[int | None, Range(1)]
    generator_hidden: Annotated[list[int], Range(1)]
    critic_hidden: Annotated[list[int], Range(1)]
    step_embedding_size: Annotated[int, Range(2)]
    latent_size: Annotated[int | None, Range(0)]
    reconstruction_weight: Annotated[float, Range(0)]
    adversarial_weight: Annotated[float, Range(0)]
    lipschitz: Annotated[str, Choice("gradient_penalty", "r1", "weight_clipping", "none")]
    lipschitz_weight: Annotated[float, Range(0)]
    weight_clip: Annotated[float, Range(0, above=True)]
    generator_iterations: Annotated[int, Range(1)]
    critic_iterations: Annotated[int, Range(1)]
    learning_rate: Annotated[float, Range(0, above=True)]
    critic_learning_rate: Annotated[float, Range(0, above=True)]
    prediction: Annotated[str, Choice("x_0_hat", "posterior")]
    prediction_noise_steps: Annotated[int, Range(0)]
    denoising_steps: Annotated[int, Range(0)]
    prediction_draws: Annotated[int, Range(1)]
    condition_dropout: Annotated[float, Range(0, 0.99)]
    reconstruct: Annotated[str, Choice("rated", "hidden")]
    center: Annotated[str, Choice("none", "bias")]
    condition_scale: Annotated[str, Choice("none", "sqrt_count")]
    noise_support: Annotated[str, Choice("all", "rated")]
    states: Annotated[str, Choice("auto", "dense", "entries")]
    blend: Annotated[float, Range(0, 1)]
    blend_factors: Annotated[list[int], Range(1)]
    blend_regularization: Annotated[float, Range(0, above=True)]

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
                f"the level where prediction starts (max(1, prediction_noise_steps), at most noise_steps={top})"
            )
        if self.step_embedding_size % 2:
            raise OptionError(f"step_embedding_size={self.step_embedding_size} must be even")
        if self.reconstruct == "hidden" and self.condition_dropout == 0:
            raise OptionError("reconstruct=hidden needs condition_dropout above 0: nothing is hidden otherwise")
        if self.states == "entries" and self.noise_support != "rated":
            raise OptionError("states=entries needs noise_support=rated: else every entry carries noise")
        if self.noise_support == "rated" and self.prediction == "posterior":
            raise OptionError("prediction=posterior needs noise_support=all: unrated entries have no state otherwise")
