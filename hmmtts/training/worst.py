"""The batches that take most memory, among all that an epoch can make. Numbers of utterances."""

from collections.abc import Callable, Sequence

from hmmtts.data.sampler import Bucket


def worst(
    buckets: Sequence[Bucket], seconds: Sequence[float], symbols: Sequence[int]
) -> dict[str, list[int]]:
    """By the longest speech, the longest text, and both, each padded, times the size of the batch.

    Utterances change places within their bucket, so the one with the longest speech may meet the one with the longest
    text: the batch holds both, and then the longest of the others.
    """

    def longest(bucket: Bucket, of: Sequence[float]) -> int:
        return max(bucket.members, key=lambda index: of[index])

    def together(bucket: Bucket) -> list[int]:
        if bucket.size == 1:
            return [max(bucket.members, key=lambda index: seconds[index] * symbols[index])]
        return list(dict.fromkeys([longest(bucket, seconds), longest(bucket, symbols)]))

    def product(bucket: Bucket) -> float:
        first = together(bucket)
        return max(seconds[i] for i in first) * max(symbols[i] for i in first)

    costs: dict[str, tuple[Callable[[Bucket], float], Callable[[Bucket], list[int]]]] = {
        "longest speech": (lambda bucket: seconds[longest(bucket, seconds)], lambda bucket: [longest(bucket, seconds)]),
        "longest text": (lambda bucket: symbols[longest(bucket, symbols)], lambda bucket: [longest(bucket, symbols)]),
        "longest speech and text": (product, together),
    }  # fmt: skip
    found = {}
    for what, (cost, first) in costs.items():
        bucket = max(buckets, key=lambda bucket: min(bucket.size, len(bucket.members)) * cost(bucket))
        others = sorted(bucket.members, key=lambda index: -seconds[index])
        found[what] = list(dict.fromkeys([*first(bucket), *others]))[: bucket.size]
    return found
