"""Looking at numbers while something is computed, where that costs nothing and is possible."""

import torch
from torch import Tensor


def are_known(tensor: Tensor) -> bool:
    """Tell whether a tensor has values that can be looked at without waiting.

    Elsewhere than on the processor they would be waited for; inside a transformation such as `vmap` there are none.
    """
    return tensor.device.type == "cpu" and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def may_hold(mask: Tensor) -> bool:
    """Tell whether a mask may be True somewhere: False is certain, True may be ignorance."""
    return not are_known(mask) or bool(mask.any())
