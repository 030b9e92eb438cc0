import pytest
import torch

from corpusmith.model.linear import Linear
from corpusmith.model.quantised import QuantisedLinear, is_available

pytestmark = pytest.mark.skipif(
    not is_available(torch.device("cpu")), reason="this processor or this torch has no fast products of int8"
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.fixture
def linear(generator: torch.Generator) -> Linear:
    made = Linear(48, 80)
    torch.nn.init.normal_(made.weight, generator=generator)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quantised_map_is_near_the_exact_one_token_by_token(
    linear: Linear, generator: torch.Generator, dtype: torch.dtype
) -> None:
    input = torch.randn(200, 48, generator=generator) * torch.logspace(-4, 4, 200)[:, None]
    with torch.inference_mode():
        exact, coarse = linear(input), QuantisedLinear(linear)(input.to(dtype))
    assert coarse.dtype == dtype
    assert torch.cosine_similarity(coarse.float(), exact).min() > 0.9995


def test_a_token_does_not_depend_on_its_neighbours(linear: Linear, generator: torch.Generator) -> None:
    quantised = QuantisedLinear(linear)
    input = torch.randn(70, 48, generator=generator)
    loud = torch.cat([input, 1e6 * input])
    torch.testing.assert_close(quantised(loud)[:70], quantised(input), rtol=0, atol=1e-5)
    torch.testing.assert_close(quantised(input[3:4]), quantised(input)[3:4], rtol=0, atol=1e-5)


def test_whole_numbers_that_fit_are_multiplied_exactly(generator: torch.Generator) -> None:
    linear = Linear(16, 8, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.randint(-127, 128, (8, 16), generator=generator))
        linear.weight[:, 0] = 127
    input = torch.randint(-127, 128, (5, 16), generator=generator).float()
    input[:, 0] = -127
    with torch.inference_mode():
        torch.testing.assert_close(QuantisedLinear(linear)(input), linear(input), rtol=1e-6, atol=1e-2)


def test_zeros_give_the_bias(linear: Linear) -> None:
    assert torch.equal(QuantisedLinear(linear)(torch.zeros(3, 48)), linear.bias.detach().expand(3, 80))
