#!/usr/bin/env python3
"""Prints how much further from the weights SDNQ's own encoder of small floats lands than the nearest codes do.

    SDNQ_USE_TORCH_COMPILE=0 python tests/interop/measure_floats.py      (sdnq 0.2.8, torch on a CPU)

A normal matrix of 256x1024, seed 0, quantized by row. Both take the library's scales and zero points; the mean squared
error is between the weights and what decodes, in float64. The nearest codes are looked up among the library's values of
all codes, ties to the even code, which is what mixdown's encoder does and what its tests hold it to.
"""
import statistics

import torch
from make_sdnq_golden import custom_floats, pack_codes
from sdnq.packed_float import pack_float, unpack_float
from sdnq.quant_utils import quantize_weight


def nearest(t, name, bits):
    """The value nearest to each of t."""
    unsigned = name.endswith("fnu")
    codes = torch.arange(max(2 ** (bits if unsigned else bits - 1), 16), dtype=torch.int32)
    values = unpack_float(pack_codes(codes, bits), name, codes.shape).double()[: 2 ** (bits if unsigned else bits - 1)]
    middles = (values[1:] + values[:-1]) / 2
    magnitude = t.double().abs()
    code = torch.searchsorted(middles, magnitude)
    tie = (code < len(middles)) & (middles[code.clamp(max=len(middles) - 1)] == magnitude)
    return values[code + (tie & (code % 2 == 1))] * t.double().sign()


def main():
    torch.manual_seed(0)
    w = torch.randn(256, 1024)
    ratios = {}
    for name, bits in custom_floats():
        q, scale, zero_point = quantize_weight(w.clone(), -1, name)
        theirs = unpack_float(pack_float(q, name), name, q.shape).double()
        zero = 0.0 if zero_point is None else zero_point.double()
        theirs, ours = ((zero + v * scale.double() - w.double()).square().mean().item()
                        for v in (theirs, nearest(q, name, bits)))
        ratios[name] = theirs / ours
        print(f"{name:20} {ours:12.4e} {theirs:12.4e} {ratios[name]:9.4f}")
    one = [r for name, r in ratios.items() if "_e1m" in name]
    more = [r for name, r in ratios.items() if "_e1m" not in name]
    print(f"two exponent bits or more: median {statistics.median(more):.4f}, {min(more):.4f} to {max(more):.4f}")
    print(f"one exponent bit: {min(one):.4f} to {max(one):.4f}")


if __name__ == "__main__":
    main()
