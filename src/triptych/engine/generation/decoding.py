"""Greedy decoding and beam search: for the same scores, the same tokens as transformers' `generate`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

NEVER = -1.0e9  # transformers' score for excluded candidates: sums with it are compared, so the number matters

StepFunction = Callable[[Tensor, Tensor], Tensor]  # (tokens [R], rows they follow [R]) -> logits [R, V] in fp32
KeepFunction = Callable[[Tensor], None]  # the indices of the documents that continue


@dataclass(frozen=True)
class DecodingPlan:
    """How summaries are decoded."""

    num_beams: int
    max_new_tokens: int
    no_repeat_ngram_size: int
    length_penalty: float
    batch_size: int
    min_new_tokens: int = 0

    def shortened(self, most: int) -> "DecodingPlan":
        """The same plan for summaries of at most `most` tokens."""
        most = min(most, self.max_new_tokens)
        return replace(self, max_new_tokens=most, min_new_tokens=min(most, self.min_new_tokens))


def ban_repeats(scores: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Set the scores of tokens that would repeat an n-gram in their row to minus infinity: [R, V], [R, t] -> [R, V]."""
    if size == 0 or tokens.shape[1] + 1 < size or tokens.shape[1] < size:
        return scores
    windows = tokens.unfold(1, size, 1)
    last = tokens[:, tokens.shape[1] - size + 1 :]
    row, at = (windows[:, :, :-1] == last[:, None]).all(-1).nonzero(as_tuple=True)
    return scores.index_put((row, windows[row, at, -1]), scores.new_tensor(float("-inf")))


def allowed_scores(scores: Tensor, tokens: Tensor, plan: DecodingPlan, eos: int) -> Tensor:
    """Set the score of each token that is not allowed next to minus infinity: [R, V], [R, t] -> [R, V].

    These are tokens that repeat an n-gram, and the EOS while a summary has fewer than `min_new_tokens`. Like
    transformers' `MinNewTokensLengthLogitsProcessor`, this leaves the other scores unchanged.
    """
    scores = ban_repeats(scores, tokens, plan.no_repeat_ngram_size)
    if tokens.shape[1] >= plan.min_new_tokens:
        return scores
    return scores.index_fill(1, torch.tensor([eos], device=scores.device), float("-inf"))


def greedy(logits: Tensor, plan: DecodingPlan, eos: int, step: StepFunction, keep: KeepFunction) -> list[list[int]]:
    """Choose the most likely token at every step: logits [B, V] of the first token -> B lists of tokens."""
    count = len(logits)
    tokens = torch.full((count, plan.max_new_tokens), eos, device=logits.device)
    going = torch.arange(count, device=logits.device)
    for t in range(plan.max_new_tokens):
        chosen = allowed_scores(logits, tokens[going, :t], plan, eos).argmax(-1)
        tokens[going, t] = chosen
        alive = chosen != eos
        if t + 1 == plan.max_new_tokens or not alive.any():
            break
        if not alive.all():
            rest = alive.nonzero().flatten()
            keep(rest)
            going, chosen = going[rest], chosen[rest]
        logits = step(chosen, torch.arange(len(going), device=going.device))
    return [row[: row.index(eos)] if eos in row else row for row in tokens.tolist()]


def beam_search(
    logits: Tensor, plan: DecodingPlan, eos: int, step: StepFunction, keep: KeepFunction
) -> list[list[int]]:
    """Beam search with K beams: logits [B, V] of the first token -> B lists of tokens.

    As in transformers, there are 2 K candidates per step; finished ones among the first K compete by sum / length **
    length_penalty, and a document is done when no running beam can still win by this score.
    """
    beams, most, penalty = plan.num_beams, plan.max_new_tokens, plan.length_penalty
    count, device = len(logits), logits.device
    results: list[list[int]] = [[] for _ in range(count)]
    going = torch.arange(count, device=device)
    running = torch.full((count, beams, most), eos, device=device)
    scores = torch.zeros(count, beams, device=device)
    scores[:, 1:] = NEVER
    ended = running.clone()
    ended_scores = torch.full((count, beams), NEVER, device=device)
    is_ended = torch.zeros(count, beams, dtype=torch.bool, device=device)
    logits = logits.repeat_interleave(beams, 0)
    for t in range(most):
        chances = allowed_scores(logits.log_softmax(-1), running[:, :, :t].flatten(0, 1), plan, eos)
        vocabulary = chances.shape[-1]
        sums = (chances.view(len(going), beams, vocabulary) + scores[:, :, None]).flatten(1)
        top, index = sums.topk(2 * beams)
        source, token = index // vocabulary, index % vocabulary
        candidates = running.gather(1, source[:, :, None].expand(-1, -1, most))
        candidates[:, :, t] = token
        ends = (token == eos) | (t + 1 == most)

        scores, chosen = (top + ends.float() * NEVER).topk(beams)
        running = candidates.gather(1, chosen[:, :, None].expand(-1, -1, most))
        followed = source.gather(1, chosen)

        finishing = ends.clone()
        finishing[:, beams:] = False
        final = top / (t + 1) ** penalty + (~finishing).float() * NEVER
        merged = torch.cat([ended_scores, final], 1)
        ended_scores, best = merged.topk(beams)
        ended = torch.cat([ended, candidates], 1).gather(1, best[:, :, None].expand(-1, -1, most))
        is_ended = torch.cat([is_ended, finishing], 1).gather(1, best)

        worst = torch.where(is_ended, ended_scores.min(1, keepdim=True)[0], NEVER)
        can_win = (scores[:, :1] / (t + 1) ** penalty > worst).any(1)
        last = t + 1 == most
        for at in range(len(going)) if last else (~can_win).nonzero().flatten().tolist():
            row = ended[at, 0].tolist()
            results[int(going[at])] = row[: row.index(eos)] if eos in row else row
        if last or not can_win.any():
            break
        rows = (followed + torch.arange(len(going), device=device)[:, None] * beams).flatten()
        if can_win.all():
            logits = step(running[:, :, t].flatten(), rows)
            continue
        rest = can_win.nonzero().flatten()
        keep(rest)
        going, running, scores = going[rest], running[rest], scores[rest]
        ended, ended_scores, is_ended = ended[rest], ended_scores[rest], is_ended[rest]
        rows = (followed[rest] + torch.arange(len(going), device=device)[:, None] * beams).flatten()
        logits = step(running[:, :, t].flatten(), rows)
    return results
