"""What the experts of the pico mixtures receive, from the formulas alone, a token at a time.

A router is a matrix: the K largest of softmax(router · x) say which experts a token goes to. An
expert is down · (silu(gate · x) ∘ (up · x)), with gate and up one matrix on top of the other.
"""

import numpy as np
import torch

GATE_UP, DOWN = "mlp.experts.{}.gate_up_proj", "mlp.experts.{}.down_proj"


def routed(model, ids_T):
    """Rows and the positions they are of, by (block, name of the expert's linear).

    Every linear of every expert is there, though no row may have come.
    """
    inputs = {}
    handles = [
        layer.mlp.register_forward_pre_hook(
            lambda _, args, index=index: inputs.update({index: args[0][0].double().numpy()})
        )
        for index, layer in enumerate(model.model.layers)
    ]
    with torch.no_grad():
        model(ids_T[None])
    for handle in handles:
        handle.remove()
    found = {}
    for index, layer in enumerate(model.model.layers):
        found |= {
            (index, name): rows
            for name, rows in _of_block(layer.mlp, inputs[index], model.config).items()
        }
    return found


def _of_block(mlp, x_TI, config):
    router_EI = mlp.gate.weight.detach().double().numpy()
    gate_up_EOI = mlp.experts.gate_up_proj.detach().double().numpy()
    numbers = range(len(router_EI))
    found = {name.format(expert): ([], []) for expert in numbers for name in (GATE_UP, DOWN)}
    for token, x_I in enumerate(x_TI):
        chosen = np.argsort(-(router_EI @ x_I), kind="stable")[: config.num_experts_per_tok]
        for expert in chosen:
            gate, up = np.split(gate_up_EOI[expert] @ x_I, 2)
            inner = gate / (1 + np.exp(-gate)) * up
            for name, row in ((GATE_UP, x_I), (DOWN, inner)):
                found[name.format(expert)][0].append(row)
                found[name.format(expert)][1].append(token)
    return found
