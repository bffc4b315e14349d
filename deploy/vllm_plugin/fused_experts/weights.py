"""The experts' weights of one layer, and what their shapes must be."""

from __future__ import annotations

from dataclasses import dataclass

import torch

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class ExpertWeights:
    """Weights of E experts, in the order of a checkpoint.

    ``w13`` is [E, 2·I, H], the gate's rows first; ``w2`` is [E, H, I]. In fp8 (e4m3) each has a
    scale in fp32 that multiplies it: per output channel ([E, 2·I] and [E, H]), or per block of
    ``block`` = (rows, columns) weights, as DeepSeek stores them ([E, ⌈2I/rows⌉, ⌈H/columns⌉] and so
    on).

    Raises ValueError where shapes or types contradict each other.
    """

    w13: torch.Tensor
    w2: torch.Tensor
    w13_scale: torch.Tensor | None = None
    w2_scale: torch.Tensor | None = None
    block: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        experts, doubled, hidden = self.w13.shape
        if self.w2.shape != (experts, hidden, doubled // 2) or doubled % 2:
            raise ValueError(
                f"w13 {tuple(self.w13.shape)} asks for w2 {(experts, hidden, doubled // 2)}, "
                f"not {tuple(self.w2.shape)}"
            )
        if self.w13.stride(2) != 1 or self.w2.stride(2) != 1:
            raise ValueError("the last dimension of w13 and w2 must be contiguous")
        if (self.w13.dtype == FP8) != (
            self.w13_scale is not None
        ) or self.w13.dtype != self.w2.dtype:
            raise ValueError(
                f"w13 is {self.w13.dtype}, w2 {self.w2.dtype}: both float, or both fp8 with scales"
            )
        for weight, scale in ((self.w13, self.w13_scale), (self.w2, self.w2_scale)):
            if scale is not None and tuple(scale.shape) != self.scale_shape(weight):
                raise ValueError(f"scale {tuple(scale.shape)}, expected {self.scale_shape(weight)}")

    def scale_shape(self, weight: torch.Tensor) -> tuple[int, ...]:
        """The shape that the scale of ``weight`` must have."""
        experts, rows, columns = weight.shape
        if self.block is None:
            return (experts, rows)
        return (experts, -(-rows // self.block[0]), -(-columns // self.block[1]))

    @property
    def experts(self) -> int:
        return self.w13.shape[0]

    @property
    def hidden(self) -> int:
        return self.w13.shape[2]

    @property
    def intermediate(self) -> int:
        return self.w2.shape[2]

    def dequantised(self, expert: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """w13 [2·I, H] and w2 [H, I] of one expert, scales applied."""
        return (
            self._times_scale(self.w13[expert], self.w13_scale, expert, dtype),
            self._times_scale(self.w2[expert], self.w2_scale, expert, dtype),
        )

    def _times_scale(
        self, weight: torch.Tensor, scale: torch.Tensor | None, expert: int, dtype: torch.dtype
    ) -> torch.Tensor:
        if scale is None:
            return weight.to(dtype)
        factor = scale[expert].to(dtype)
        if self.block is None:
            return weight.to(dtype) * factor[:, None]
        rows, columns = self.block
        spread = factor.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
        return weight.to(dtype) * spread[: weight.shape[0], : weight.shape[1]]


def quantised(
    w13: torch.Tensor, w2: torch.Tensor, block: tuple[int, int] | None = None
) -> ExpertWeights:
    """fp8 weights whose largest value per channel, or per block, is the largest that e4m3 holds."""
    (w13_q, s13), (w2_q, s2) = (_quantise(w, block) for w in (w13, w2))
    return ExpertWeights(w13_q, w2_q, s13, s2, block)


def _quantise(
    weight: torch.Tensor, block: tuple[int, int] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    experts, height, width = weight.shape
    rows, columns = block or (1, width)
    padded = torch.nn.functional.pad(weight.float(), (0, -width % columns, 0, -height % rows))
    tiles = padded.view(experts, padded.shape[1] // rows, rows, padded.shape[2] // columns, columns)
    scale = (tiles.abs().amax((2, 4)) / torch.finfo(FP8).max).clamp_min(1e-12)
    stored = (tiles / scale[:, :, None, :, None]).view_as(padded)[:, :height, :width]
    return stored.contiguous().to(FP8), scale if block else scale[:, :, 0].contiguous()
