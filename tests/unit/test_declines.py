"""The decline table, signal by signal, and what follows from each meaning."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.declines import RULES, Action, Afterwards, Decline, Meaning, Source, Step, classify, next_step, signals_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAST, PAUSE = Afterwards.LAST_DELAY, Afterwards.PAUSE

# Written out a second time on purpose, row by row from the specification.
NEVER_CODES = (
    "lost_card stolen_card pickup_card restricted_card fraudulent merchant_blacklist highest_risk_level "
    "invalid_account revocation_of_authorization revocation_of_all_authorizations stop_payment_order "
    "transaction_not_allowed service_not_allowed not_permitted card_not_supported security_violation pin_try_exceeded"
)
DETAIL_CODES = (
    "expired_card incorrect_number invalid_number incorrect_cvc invalid_cvc incorrect_expiry invalid_expiry "
    "invalid_expiry_month invalid_expiry_year incorrect_zip invalid_zip new_account_information_available"
)
TABLE: list[tuple[Source, str, Action, tuple[int, ...], Afterwards]] = [
    (Source.MASTERCARD_ADVICE, "03 21", Action.NEVER, (), PAUSE),
    (Source.VISA_RESPONSE, "04 07 12 14 15 41 43 46 57 R0 R1 R3", Action.NEVER, (), PAUSE),
    (Source.ADVICE, "do_not_try_again", Action.NEVER, (), PAUSE),
    (Source.DECLINE, NEVER_CODES, Action.NEVER, (), PAUSE),
    (Source.DECLINE, "authentication_required", Action.NEEDS_CUSTOMER, (), PAUSE),
    (Source.VISA_RESPONSE, "1A", Action.NEEDS_CUSTOMER, (), PAUSE),
    (Source.STATUS, "requires_action", Action.NEEDS_CUSTOMER, (), PAUSE),
    (Source.MASTERCARD_ADVICE, "01 40 41", Action.NEW_DETAILS, (), PAUSE),
    (Source.ADVICE, "confirm_card_data", Action.NEW_DETAILS, (), PAUSE),
    (Source.DECLINE, DETAIL_CODES, Action.NEW_DETAILS, (), PAUSE),
    (Source.MASTERCARD_ADVICE, "24", Action.RETRY, (1,), LAST),
    (Source.MASTERCARD_ADVICE, "25", Action.RETRY, (24,), LAST),
    (Source.MASTERCARD_ADVICE, "26", Action.RETRY, (48,), LAST),
    (Source.MASTERCARD_ADVICE, "27", Action.RETRY, (96,), LAST),
    (Source.MASTERCARD_ADVICE, "28", Action.RETRY, (144,), LAST),
    (Source.MASTERCARD_ADVICE, "29", Action.RETRY, (192,), LAST),
    (Source.MASTERCARD_ADVICE, "30", Action.RETRY, (240,), LAST),
    (Source.MASTERCARD_ADVICE, "02", Action.RETRY, (72,), LAST),
    (
        Source.DECLINE,
        "insufficient_funds card_velocity_exceeded withdrawal_count_limit_exceeded",
        Action.RETRY,
        (24, 72, 168),
        LAST,
    ),
    (
        Source.DECLINE,
        "do_not_honor generic_decline no_action_taken try_again_later call_issuer",
        Action.RETRY,
        (24, 72),
        PAUSE,
    ),
    (Source.ADVICE, "try_again_later", Action.RETRY, (24, 72), PAUSE),
    (
        Source.DECLINE,
        "processing_error issuer_not_available reenter_transaction approve_with_id",
        Action.RETRY,
        (1, 6, 24),
        LAST,
    ),
    (Source.VISA_RESPONSE, "91 96", Action.RETRY, (1, 6, 24), LAST),
    (Source.DECLINE, "duplicate_transaction", Action.RECONCILE, (), PAUSE),
    (Source.DECLINE, "currency_not_supported invalid_amount", Action.OPERATOR, (), PAUSE),
    (Source.MASTERCARD_ADVICE, "04 05 22 42", Action.OPERATOR, (), PAUSE),
]
CASES = [
    pytest.param(source, code, action, hours, afterwards, id=f"{source.name.lower()}-{code}")
    for source, codes, action, hours, afterwards in TABLE
    for code in codes.split()
]
SIGNALS = [(source, code) for source, codes, *_ in TABLE for code in codes.split()]


def decline_with(*signals: tuple[Source, str]) -> Decline:
    said = dict(signals)
    return Decline(
        code="card_declined",
        decline_code=said.get(Source.DECLINE),
        advice_code=said.get(Source.ADVICE),
        network_decline_code=said.get(Source.VISA_RESPONSE),
        network_advice_code=said.get(Source.MASTERCARD_ADVICE),
        status=said.get(Source.STATUS, "requires_payment_method"),
    )


def delays(*hours: int) -> tuple[timedelta, ...]:
    return tuple(timedelta(hours=hour) for hour in hours)


@pytest.mark.parametrize(("source", "code", "action", "hours", "afterwards"), CASES)
def test_every_signal_alone_means_what_its_row_says(
    source: Source, code: str, action: Action, hours: tuple[int, ...], afterwards: Afterwards
) -> None:
    meaning = classify(decline_with((source, code)))
    assert (meaning.action, meaning.delays, meaning.afterwards) == (action, delays(*hours), afterwards)
    assert meaning.reason.startswith(f"{source} {code}: ")


def test_the_table_holds_these_signals_and_no_others() -> None:
    held = [(signal.source, signal.code) for rule in RULES for signal in signals_of(rule)]
    assert sorted(held) == sorted(SIGNALS)


def test_no_signal_stands_in_two_rows() -> None:
    held = Counter((signal.source, signal.code) for rule in RULES for signal in signals_of(rule))
    assert [signal for signal, count in held.items() if count > 1] == []


@pytest.mark.parametrize(
    "decline",
    [
        Decline(),
        Decline(code="card_declined"),
        Decline(code="card_declined", decline_code="made_up", brand="visa", network_decline_code="05"),
        Decline(decline_code="made_up", brand="mastercard", network_advice_code="99"),
    ],
)
def test_an_unknown_decline_is_tried_once_more_after_a_day_and_then_paused(decline: Decline) -> None:
    meaning = classify(decline)
    assert meaning.reason.startswith("no signal of the decline is known")
    assert next_step(meaning, 1, NOW) == Step(not_before=NOW + timedelta(hours=24), tell_holder=True)
    assert next_step(meaning, 2, NOW) == Step(pause=True, tell_holder=True)


def test_the_reason_of_an_unknown_decline_names_what_was_said() -> None:
    assert "decline_code made_up" in classify(Decline(decline_code="made_up")).reason


@pytest.mark.parametrize(
    ("stricter", "milder"),
    [
        ((Source.MASTERCARD_ADVICE, "03"), (Source.DECLINE, "insufficient_funds")),
        ((Source.VISA_RESPONSE, "R1"), (Source.DECLINE, "do_not_honor")),
        ((Source.ADVICE, "do_not_try_again"), (Source.DECLINE, "processing_error")),
        ((Source.DECLINE, "lost_card"), (Source.ADVICE, "try_again_later")),
        ((Source.DECLINE, "stolen_card"), (Source.MASTERCARD_ADVICE, "24")),
        ((Source.DECLINE, "authentication_required"), (Source.ADVICE, "confirm_card_data")),
        ((Source.ADVICE, "confirm_card_data"), (Source.DECLINE, "currency_not_supported")),
        ((Source.MASTERCARD_ADVICE, "42"), (Source.DECLINE, "generic_decline")),
    ],
)
def test_the_strictest_signal_wins(stricter: tuple[Source, str], milder: tuple[Source, str]) -> None:
    both = classify(decline_with(stricter, milder))
    assert both == classify(decline_with(stricter))


def test_two_signals_are_never_milder_than_either() -> None:
    telling = [signal for signal in SIGNALS if signal != (Source.ADVICE, "try_again_later")]
    pairs = [(first, second) for first, second in combinations(telling, 2) if first[0] != second[0]]
    assert len(pairs) > 1000
    for pair in pairs:
        both = classify(decline_with(*pair))
        alone = [classify(decline_with(signal)) for signal in pair]
        assert both.action == max(meaning.action for meaning in alone)
        if both.action is Action.RETRY:
            assert all(_wait(both, n) >= _wait(meaning, n) for n, meaning in product(range(1, 6), alone)), pair


def _wait(meaning: Meaning, consecutive: int) -> timedelta:
    step = next_step(meaning, consecutive, NOW)
    return timedelta.max if step.not_before is None else step.not_before - NOW


def test_delays_of_several_signals_are_all_kept() -> None:
    meaning = classify(decline_with((Source.MASTERCARD_ADVICE, "30"), (Source.DECLINE, "generic_decline")))
    assert (meaning.delays, meaning.afterwards) == (delays(240, 240), PAUSE)
    meaning = classify(decline_with((Source.MASTERCARD_ADVICE, "25"), (Source.DECLINE, "processing_error")))
    assert (meaning.delays, meaning.afterwards) == (delays(24, 24, 24), LAST)
    assert meaning.reason.count(";") == 1


def test_the_advice_to_try_again_later_shortens_no_other_schedule() -> None:
    meaning = classify(decline_with((Source.DECLINE, "insufficient_funds"), (Source.ADVICE, "try_again_later")))
    assert (meaning.delays, meaning.afterwards) == (delays(24, 72, 168), LAST)


def test_network_codes_count_only_on_cards_of_their_network() -> None:
    pickup = Decline(decline_code="generic_decline", network_decline_code="04", network_advice_code="03", brand="amex")
    assert classify(pickup).action is Action.RETRY
    assert classify(Decline(network_decline_code="04", brand="visa")).action is Action.NEVER
    assert classify(Decline(network_decline_code="04", brand="mastercard")).action is Action.RETRY
    assert classify(Decline(network_advice_code="03", brand="MasterCard")).action is Action.NEVER
    assert classify(Decline(network_advice_code="03", brand="visa")).action is Action.RETRY


def test_network_codes_of_a_card_of_unknown_network_count() -> None:
    assert classify(Decline(network_decline_code="r1")).action is Action.NEVER
    assert classify(Decline(network_advice_code="3")).action is Action.NEVER


def test_an_error_code_without_a_decline_code_is_read() -> None:
    assert classify(Decline(code="expired_card")).action is Action.NEW_DETAILS
    assert classify(Decline(code="expired_card", decline_code="expired_card")).reason.count("expired_card") == 1


def test_a_duplicate_is_reconciled_whatever_else_is_said() -> None:
    plain = classify(Decline(decline_code="duplicate_transaction", advice_code="try_again_later"))
    assert next_step(plain, 1, NOW) == Step(reconcile=True)
    barred = classify(Decline(decline_code="duplicate_transaction", advice_code="do_not_try_again"))
    assert next_step(barred, 1, NOW) == Step(pause=True, block=True, reconcile=True, tell_holder=True)


@pytest.mark.parametrize(
    ("action", "step"),
    [
        (Action.NEVER, Step(pause=True, block=True, tell_holder=True)),
        (Action.NEEDS_CUSTOMER, Step(pause=True, tell_holder=True)),
        (Action.NEW_DETAILS, Step(pause=True, tell_holder=True)),
        (Action.OPERATOR, Step(pause=True, tell_holder=True, tell_operator=True)),
    ],
)
@pytest.mark.parametrize("consecutive", [1, 2, 7])
def test_what_needs_somebody_is_paused_at_once(action: Action, step: Step, consecutive: int) -> None:
    assert next_step(Meaning(action, "code: because", "because"), consecutive, NOW) == step


def test_delays_go_by_the_number_of_the_decline_and_the_holder_is_told_first_and_at_a_pause() -> None:
    silent = classify(Decline(decline_code="do_not_honor"))
    assert [next_step(silent, number, NOW) for number in (1, 2, 3)] == [
        Step(not_before=NOW + timedelta(hours=24), tell_holder=True),
        Step(not_before=NOW + timedelta(hours=72)),
        Step(pause=True, tell_holder=True),
    ]
    funds = classify(Decline(decline_code="insufficient_funds"))
    assert [_wait(funds, number) for number in (1, 2, 3, 4)] == list(delays(24, 72, 168, 168))


def test_there_is_no_decline_number_zero() -> None:
    with pytest.raises(ValueError, match="number 1"):
        next_step(classify(Decline()), 0, NOW)


codes = st.one_of(st.none(), st.text(max_size=12), st.sampled_from([code for _, code in SIGNALS]))


@given(st.builds(Decline, codes, codes, codes, codes, codes, codes, codes), st.integers(1, 100))
def test_every_decline_leads_somewhere_and_never_to_an_attempt_at_once(decline: Decline, consecutive: int) -> None:
    step = next_step(classify(decline), consecutive, NOW)
    waits = step.not_before is not None and step.not_before >= NOW + timedelta(hours=1)
    assert waits or step.pause or step.reconcile
    assert step.pause or not step.block
