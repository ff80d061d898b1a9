"""A linear-chain conditional random field over the labels of a row (Lafferty et al. 2001; Lample et al. 2016, 2.2).

A sequence of labels y scores start[y_1] + sum of emissions[t, y_t] + sum of transitions[y_(t-1), y_t] + end[y_n], and
has the softmax of its score over all sequences for probability.

A mask picks the positions that carry a label (1), wherever they stand; the others (0) are passed over, so that the
sequence is that of the picked positions one after another. All is computed in float32. One loop over T, no unrolling;
memory is O(B T C), and O(B T C^2) for the gradient of the transitions. Batch and length may be 0.
"""

from __future__ import annotations

import keras
from keras import ops

_FORBIDDEN = -1e9


def allowed_only(scores, allowed):
    """The scores where `allowed` (bool, of the same shape) is true, elsewhere a finite number far below any score.

    For `transitions`, `start` and `end` of the functions here; `scores` may be 0.
    """
    return ops.where(ops.cast(allowed, "bool"), ops.cast(scores, "float32"), _FORBIDDEN)


class CRF(keras.layers.Layer):
    """The weights of a linear-chain CRF, zero at the start: `transitions` [C, C] (from, to), `start` and `end` [C].

    Args:
        num_labels: C.
    """

    def __init__(self, num_labels: int, **kwargs):
        super().__init__(**kwargs)
        self.num_labels = num_labels

    def build(self, input_shape=None):
        C = self.num_labels
        # Neither the policy's dtype nor its autocast: mixed precision ends below the CRF.
        options = {"initializer": "zeros", "dtype": "float32", "autocast": False}
        self.transitions = self.add_weight(shape=(C, C), name="transitions", **options)
        self.start = self.add_weight(shape=(C,), name="start", **options)
        self.end = self.add_weight(shape=(C,), name="end", **options)

    def log_likelihood(self, emissions, labels, mask):
        """The log-probability of each row's labels: float32 [B]; 0 for a row without positions.

        Args:
            emissions: float [B, T, C].
            labels: int32 [B, T], anything where `mask` is 0.
            mask: [B, T], 1 for a position of the sequence.
        """
        weights = [_tensor(weight) for weight in (self.transitions, self.start, self.end)]
        emissions = ops.cast(emissions, "float32")
        return _score(emissions, labels, mask, *weights) - log_partition(emissions, mask, *weights)

    def marginals(self, emissions, mask):
        """The probability of each label at each position: float32 [B, T, C], 0 where `mask` is 0."""
        return marginals(emissions, mask, self.transitions, self.start, self.end)


def viterbi(emissions, mask, transitions=None, start=None, end=None):
    """The best sequence of labels of each row (Viterbi 1967); of equal ones, the lowest label counting from the end.

    Args:
        emissions: float [B, T, C].
        mask: [B, T], 1 for a position of the sequence.
        transitions: [C, C] (from, to); None: zeros. What is forbidden is a very negative finite number.
        start: [C]; None: zeros.
        end: [C]; None: zeros.

    Returns:
        labels int32 [B, T], 0 where `mask` is 0, and their score float32 [B], 0 for a row without positions.
    """
    emissions, mask = ops.cast(emissions, "float32"), ops.cast(mask, "bool")
    C = emissions.shape[-1]
    start, end = (ops.zeros(C) if x is None else _tensor(x) for x in (start, end))
    transitions = ops.zeros((C, C)) if transitions is None else _tensor(transitions)
    history, total = _scan(emissions[None], mask[None], transitions[None], start[None], _best)
    history = history[:, 0]  # [T + 1, B, C]
    final = history[-1] + end
    score = ops.where(ops.any(mask, axis=1), total[0] + ops.max(final, axis=-1), 0.0)
    steps_in = ops.transpose(transitions)  # [to, from]

    def step(label, x):
        before, in_sequence = x[:, :-1], x[:, -1] > 0
        previous = ops.argmax(before + ops.take(steps_in, label, axis=0), axis=-1)
        return ops.where(in_sequence, ops.cast(previous, "int32"), label), label

    # Position 0 of the history stands before the row, and is walked along: a scan needs one step at least.
    in_sequence = ops.pad(ops.transpose(ops.cast(mask, "float32")), ((1, 0), (0, 0)))[:, :, None]
    before = ops.concatenate([history[:1], history[:-1]], axis=0)
    last = ops.cast(ops.argmax(final, axis=-1), "int32")
    _, labels = ops.scan(step, last, ops.concatenate([before, in_sequence], axis=-1), reverse=True)
    return ops.where(mask, ops.transpose(labels[1:]), 0), score


def marginals(emissions, mask, transitions, start, end):
    """As `CRF.marginals`, with the weights as arguments."""
    emissions = ops.cast(emissions, "float32")
    forward, backward, _ = _forward_backward(emissions, mask, *(_tensor(x) for x in (transitions, start, end)))
    return _posteriors(emissions, mask, forward, backward)


def log_partition(emissions, mask, transitions, start, end):
    """The log of the sum over all sequences of exp(score): float32 [B]; 0 for a row without positions.

    Its gradient is the expected number of each label and transition, which forward-backward gives. Computed so, and
    not step by step back through the loop, it takes half the time for ten labels, and as long for forty.
    """

    @ops.custom_gradient
    def function(emissions, transitions, start, end):
        forward, backward, value = _forward_backward(emissions, mask, transitions, start, end)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            labels = _posteriors(emissions, mask, forward, backward) * upstream[:, None, None]
            first, last = _ends(mask)
            # [T, B, C, C]: from the label before to the one at each position but the first.
            pairs = forward[:-1, :, :, None] + transitions + backward[:, :, None, :]
            pairs = ops.exp(pairs - ops.logsumexp(pairs, axis=(2, 3), keepdims=True))
            follows = ops.cast(ops.logical_and(ops.cast(mask, "bool"), ops.logical_not(first)), "float32")
            weight = ops.transpose(follows * upstream[:, None])[:, :, None, None]
            return (
                labels,
                ops.sum(pairs * weight, axis=(0, 1)),
                ops.sum(labels * ops.cast(first, "float32")[:, :, None], axis=(0, 1)),
                ops.sum(labels * ops.cast(last, "float32")[:, :, None], axis=(0, 1)),
            )

        return value, gradient

    return function(*(_tensor(x) for x in (emissions, transitions, start, end)))


def _tensor(x):
    """A float32 tensor; a Keras variable, too, which `stack` and custom gradients do not take."""
    return ops.copy(ops.cast(x, "float32"))


def _score(emissions, labels, mask, transitions, start, end):
    """The score of the given labels, [B]."""
    C = emissions.shape[-1]
    mask = ops.cast(mask, "bool")
    labels = ops.where(mask, ops.cast(labels, "int32"), 0)
    chosen = ops.one_hot(labels, C) * ops.cast(mask, "float32")[:, :, None]
    first, last = (ops.cast(end_, "float32")[:, :, None] for end_ in _ends(mask))
    alone = ops.sum(chosen * (emissions + first * start + last * end), axis=(1, 2))
    # The picked positions moved to the front, so that neighbours are next to each other.
    T = ops.shape(mask)[1]
    order = ops.argsort(ops.where(mask, 0, T) + ops.arange(T), axis=1)
    labels = ops.take_along_axis(labels, order, axis=1)
    follows = ops.arange(T)[1:] < ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)  # [B, T - 1]
    steps = ops.take(ops.reshape(transitions, (-1,)), labels[:, :-1] * C + labels[:, 1:])
    return alone + ops.sum(steps * ops.cast(follows, "float32"), axis=1)


def _ends(mask):
    """The first and the last position of each row, bool [B, T]."""
    ones = ops.cast(mask, "int32")
    count = ops.cumsum(ones, axis=1)
    in_sequence = ones > 0
    last = ops.logical_and(in_sequence, count == ops.sum(ones, axis=1, keepdims=True))
    return ops.logical_and(in_sequence, count == 1), last


def _forward_backward(emissions, mask, transitions, start, end):
    """Log scores of what stands up to, and of what stands from, each position on, for each label there.

    Returns:
        forward [T + 1, B, C], with the state before the row first; backward [T, B, C]; both up to a constant for each
        position. log_partition [B].
    """
    history, total = _scan(
        ops.stack([emissions, ops.flip(emissions, axis=1)]),
        ops.stack([mask, ops.flip(mask, axis=1)]),
        ops.stack([transitions, ops.transpose(transitions)]),
        ops.stack([start, end]),
        _sum,
    )
    forward, backward = history[:, 0], ops.flip(history[1:, 1], axis=0)
    value = total[0] + ops.logsumexp(forward[-1] + end, axis=-1)
    return forward, backward, ops.where(ops.any(ops.cast(mask, "bool"), axis=1), value, 0.0)


def _posteriors(emissions, mask, forward, backward):
    # Both directions count the position's own emission.
    scores = ops.transpose(forward[1:] + backward, (1, 0, 2)) - emissions
    return ops.softmax(scores, axis=-1) * ops.cast(mask, "float32")[:, :, None]


def _scan(emissions, mask, transitions, start, combine):
    """Run along G chains of B rows side by side: emissions [G, B, T, C], mask [G, B, T], transitions [G, C, C].

    Returns:
        history [T + 1, G, B, C], log scores of what stands up to each position by the label there (the last picked
        one's, where the position is not picked), the state before the row first, each row less its highest; and
        those highest summed up, [G, B]. Scores so kept small lose no precision in long rows.
    """
    mask = ops.cast(mask, "bool")
    first = ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=2) == 1)
    # In one tensor, since Keras cannot scan several of unknown length on TensorFlow.
    flags = ops.cast(ops.stack([mask, first], axis=-1), "float32")
    xs = ops.transpose(ops.concatenate([emissions, flags], axis=-1), (2, 0, 1, 3))
    xs = ops.pad(xs, ((1, 0), (0, 0), (0, 0), (0, 0)))  # the state before the row: nothing is picked

    def step(carry, x):
        before, total = carry
        arriving = ops.where(x[..., -1:] > 0, start[:, None], combine(before[..., None] + transitions[:, None]))
        now = arriving + x[..., :-2]
        highest = ops.max(now, axis=-1, keepdims=True)
        picked = x[..., -2:-1] > 0
        carry = ops.where(picked, now - highest, before), ops.where(picked, total + highest, total)
        return carry, carry

    G, B, _, C = ops.shape(emissions)
    (_, total), (history, _) = ops.scan(step, (ops.zeros((G, B, C)), ops.zeros((G, B, 1))), xs)
    return history, total[..., 0]


def _sum(scores):
    return ops.logsumexp(scores, axis=-2)


def _best(scores):
    return ops.max(scores, axis=-2)
