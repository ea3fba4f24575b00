from adapters.rocketchat.budget import Budget

ROUTE = "POST chat.sendMessage"


def headers(limit: int, left: int, reset: float) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset": str(int(reset * 1000)),
    }


def test_unlimited_until_told_otherwise() -> None:
    budget = Budget()
    for _ in range(1000):
        assert budget.take(ROUTE, 0) == 0
        budget.done(ROUTE, 0, {}, 1000)


def test_learns_from_headers_and_opens_again() -> None:
    budget = Budget()
    budget.take(ROUTE, 100)
    budget.done(ROUTE, 100, headers(3, 2, 1030), 1000)
    assert [budget.take(ROUTE, 100) for _ in range(3)] == [0, 0, 30]
    assert budget.take("GET rooms.info", 100) == 0
    budget.done(ROUTE, 101, headers(3, 0, 1030), 1001)
    budget.done(ROUTE, 101, headers(3, 1, 1030), 1001)  # answers overtake each other
    budget.take(ROUTE, 102)
    budget.done(ROUTE, 102, headers(3, 0, 1030), 1002)
    assert budget.take(ROUTE, 110) == 20
    assert budget.take(ROUTE, 131) == 0


def test_a_refusal_without_headers() -> None:
    budget = Budget(calls=2, seconds=60)
    budget.take(ROUTE, 0)
    budget.done(ROUTE, 0, {}, 1000)
    assert budget.refused(ROUTE, 0, 17.0) == 17
    assert budget.take(ROUTE, 5) == 12
    # Afterwards the assumed limit holds, and never for longer than its window.
    assert budget.take(ROUTE, 18) == 0
    assert budget.take(ROUTE, 18) == 0
    assert budget.take(ROUTE, 18) == 60
    for _ in range(2):
        budget.done(ROUTE, 20, {}, 1020)
    assert budget.take(ROUTE, 79) == 0
    assert Budget().refused(ROUTE, 0, None) == 60


def test_a_clock_that_is_wrong_blocks_one_window_at_most() -> None:
    budget = Budget(seconds=60)
    budget.take(ROUTE, 0)
    budget.done(ROUTE, 0, headers(10, 0, 999_999), 1000)
    assert budget.take(ROUTE, 0) == 60
    budget.take("GET me", 0)
    budget.done("GET me", 0, headers(10, 0, 1), 1000)
    assert budget.take("GET me", 0) == 0
