"""Regression trees, very many at once: residuals are summed up by bin, and the few bins that matter are looked into."""

import math

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

__all__ = ["TreeGrower"]


class TreeGrower:
    r"""Creates what grows regression trees on given codes, one on each row of residuals, all at once.

    For a node of n points with residuals r that sum to S, a split with :math:`n_l` points and the sum :math:`S_l` on its
    left reduces the squared error by (Friedman's criterion is the same)

    .. math:: \frac{S_l^2}{n_l} + \frac{(S - S_l)^2}{n - n_l} - \frac{S^2}{n}
        = \frac{n}{n_l (n - n_l)} ( S_l - \frac{n_l}{n} S )^2

    Codes are cut into some :math:`\sqrt N` bins of as many points. One pass over the points sums them up by bin, for all
    nodes of all trees, and gives the reduction at the edges of bins. Within a bin, :math:`S_l` moves by no more than the
    absolute residuals there, and the reduction is convex: its largest value on that range is a bound. Only bins whose bound
    exceeds the best edge are searched point by point, at most ``candidates`` for a node, most promising first.

    Arguments:
        x: The codes, with shape (D, N).
        depth: The depth of the trees.
        candidates: The largest number of bins of a node that are searched. Some 30 exceed the best edge as a rule.
    """

    def __init__(self, x: Tensor, depth: int = 3, candidates: int = 64):
        self.depth, self.candidates = depth, candidates
        self.values, self.order = x.sort(dim=1)
        codes, points = x.shape
        width = math.isqrt(points)
        last = self.values[:, torch.arange(width, points, width, device=x.device) - 1].contiguous()
        # Equal values share a bin, and a long run of them has one to itself.
        begins, ends = torch.searchsorted(self.values, last), torch.searchsorted(self.values, last, right=True)
        runs = ends - begins > width
        if runs.any():
            ends = torch.cat([ends, begins.where(runs, ends)], dim=1).sort(dim=1).values
        self.starts, self.ends = pad(ends, (1, 0)), pad(ends, (0, 1), value=points)  # (D, B)
        final = (self.ends - 1).clamp(min=0)
        self.divisible = self.values.gather(1, self.starts.clamp(max=points - 1)) < self.values.gather(1, final)
        self.longest = int(((self.ends - self.starts) * self.divisible).max())
        self.first = points * torch.arange(codes, device=x.device)
        self.bags = self.order.flatten(), (self.starts + self.first[:, None]).flatten()
        self.rises = self.values < pad(self.values[:, 1:], (0, 1), value=torch.inf)
        ranks = torch.searchsorted(self.values, x.contiguous(), right=True) - 1  # of equal values the last one's
        self.ranks = ranks.to(torch.int16 if points < 2**15 else torch.int32)
        self.memory: dict[str, Tensor] = {}

    def grow(self, residuals: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        r"""Grows a tree on each row of residuals, in single precision with shape (T, N).

        Returns:
            The splits of each level's P nodes, as codes and thresholds with shape (T, P): points up to the
            threshold go from node p to node 2p, the others to 2p + 1. It is infinite where a node stays whole.
            Then the leaf of every point, with shape (T, N), and the reduction of squared error by each code, with
            shape (D, T), shared evenly between codes that split a node equally well.
        """
        r = residuals.T.contiguous()
        rows = self._room("rows", len(r), 4, 1, r.shape[1])
        torch.stack([torch.ones_like(r), r, r.abs(), r.square()], dim=1, out=rows[:, :, 0])
        nodes = torch.zeros_like(residuals, dtype=torch.uint8)
        splits, reduction, sums = [], residuals.new_zeros(len(self.values), len(residuals)), None
        for _ in range(self.depth):
            sums = self._sum_up(rows, nodes, sums)  # (D, B, 4, P, T)
            gain, place, following = self._best_places(sums, residuals, nodes)  # (D, P, T)
            best, code = gain.max(dim=0, keepdim=True)
            winners = (gain >= 0.9999 * best) & (best > 0)
            reduction += (winners * (best / winners.sum(dim=0).clamp(min=1))).sum(dim=1)
            low, high = (self.values.flatten()[self.first[code[0]] + r.gather(0, code)[0]] for r in (place, following))
            threshold = ((low + high) / 2).masked_fill(best[0] == 0, torch.inf)
            nodes = self._descend(nodes, code[0], place.gather(0, code)[0].masked_fill(best[0] == 0, residuals.shape[1]))
            splits.append((code[0].T.contiguous(), threshold.T.contiguous()))
        return splits, nodes.long(), reduction

    def _room(self, name: str, *shape: int) -> Tensor:
        """Memory that is kept: to touch it for the first time takes longer than the arithmetic done in it."""
        size = math.prod(shape)
        if name not in self.memory or len(self.memory[name]) < size:
            self.memory[name] = torch.empty(size, device=self.values.device)
        return self.memory[name][:size].view(shape)

    def _sum_up(self, rows: Tensor, nodes: Tensor, parents: Tensor | None) -> Tensor:
        """Count, sum, absolute sum and squares of residuals up to each bin's end, of every node: (D, B, 4, P, T)."""
        if parents is not None:
            # The right children's sums are the parents' less the left children's.
            lefts = torch.arange(0, 2 * parents.shape[3], 2, dtype=torch.uint8, device=nodes.device)[:, None]
            members = (nodes.T.contiguous()[:, None] == lefts).float()[:, None]  # (N, 1, P / 2, T)
            room = self._room("children", *rows.shape[:2], *members.shape[2:])
            rows = torch.mul(rows, members, out=room)
        sums = embedding_bag(self.bags[0], rows.flatten(1), self.bags[1], mode="sum")
        sums = sums.view(*self.starts.shape, *rows.shape[1:]).cumsum_(dim=1)
        return sums if parents is None else torch.stack([sums, parents - sums], dim=4).flatten(3, 4)

    def _best_places(self, sums: Tensor, residuals: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best reduction of every node by every code, the rank of the last point to its left, and of the next."""
        count, total, _, squares = sums[0, -1]  # (P, T)
        mean = total / count.clamp(min=1)
        # Residuals that are equal up to rounding: no split of such a node means anything.
        pure = squares - total * mean <= 1e-5 * squares
        gain, edge = _gain(sums[:, :, 1], sums[:, :, 0], mean, count).max(dim=1)  # (D, P, T)
        place = self.ends.gather(1, edge.flatten(1)).view_as(edge) - 1
        following = (place + 1).clamp(max=residuals.shape[1] - 1)
        if self.longest:
            gain, place, following = self._look_inside(sums, residuals, nodes, pure, gain, place, following)
        return (count * gain).masked_fill(pure | (gain <= 1e-5 * mean**2), 0), place.clamp(min=0), following

    def _look_inside(
        self,
        sums: Tensor,
        residuals: Tensor,
        nodes: Tensor,
        pure: Tensor,
        gain: Tensor,
        place: Tensor,
        following: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Raises the gains per point, and moves the places, to the best between the edges of bins."""
        count, total = sums[0, -1, :2]
        mean = total / count.clamp(min=1)
        n, s, spread, _ = sums.unbind(dim=2)  # (D, B, P, T)
        inner, inner_sum, inner_spread = (torch.cat([x[:, :1], x.diff(dim=1)], dim=1) for x in (n, s, spread))
        center, bound = s - inner_sum / 2, torch.zeros_like(s)
        for left in (n - inner + 1, n - 1):
            bound = torch.maximum(bound, _gain(center, left, mean, count, slack=inner_spread / 2))
        bound.masked_fill_((inner < 2) | pure | ~self.divisible[..., None, None], 0)
        bins = bound.shape[1]
        bound, cell = bound.flatten(0, 1).topk(min(self.candidates, self.starts.numel()), dim=0)  # (M, P, T)
        i, p, t = (bound > gain.amax(dim=0)).nonzero(as_tuple=True)  # C cells in all
        d, b = cell[i, p, t] // bins, cell[i, p, t] % bins

        start, end, points = self.starts[d, b], self.ends[d, b], residuals.shape[1]
        ranks = start[:, None] + torch.arange(self.longest, device=d.device)  # (C, L)
        inside = ranks < end[:, None]
        ranks = ranks.clamp_(max=points - 1).add_(self.first[d][:, None])
        point = self.order.flatten()[ranks].add_(points * t[:, None])
        member = ((nodes.flatten()[point] == p[:, None].to(nodes.dtype)) & inside).float()
        left = (n - inner)[d, b, p, t][:, None] + member.cumsum(dim=1)
        left_sum = (s - inner_sum)[d, b, p, t][:, None] + member.mul_(residuals.flatten()[point]).cumsum_(dim=1)
        found = _gain(left_sum, left, mean[p, t][:, None], count[p, t][:, None])
        found, where = found.masked_fill_(~(inside & self.rises.flatten()[ranks]), 0).max(dim=1)  # (C,)
        # The next point of the node, not the next of all: a threshold lies half-way between the two.
        passed = (inside & (left <= left.gather(1, where[:, None]))).sum(dim=1)

        slot = (d * gain.shape[1] + p) * gain.shape[2] + t
        best = gain.flatten().scatter_reduce(0, slot, found, "amax")
        wins = (found >= best[slot]) & (found > 0)
        place = place.flatten().index_put((slot[wins],), (start + where)[wins])
        following = following.flatten().index_put((slot[wins],), (start + passed).clamp(max=points - 1)[wins])
        return best.view_as(gain), place.view_as(gain), following.view_as(gain)

    def _descend(self, nodes: Tensor, code: Tensor, place: Tensor) -> Tensor:
        """The child of every point: nodes (T, N) by the splits (P, T) of a level."""
        right = torch.zeros_like(nodes, dtype=torch.bool)
        for node, (d, rank) in enumerate(zip(code, place.to(self.ranks.dtype), strict=True)):
            right |= (self.ranks[d] > rank[:, None]) & (nodes == node)
        return 2 * nodes + right


def _gain(left_sum: Tensor, left: Tensor, mean: Tensor, count: Tensor, slack: Tensor | None = None) -> Tensor:
    """The reduction of squared error per point of the node, or with slack the most that sums so far off may reach."""
    excess = torch.addcmul(left_sum, left, mean, value=-1)
    if slack is not None:
        excess.abs_().add_(slack)
    spread = (count - left).mul_(left)
    return excess.square_().div_(spread.masked_fill_(spread <= 0, torch.inf))
