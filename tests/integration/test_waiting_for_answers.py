"""Probes, verifications and the answers of undos, through the four managers."""
# mypy: disable-error-code="attr-defined, var-annotated"

import inspect

import pytest

from aumai_transactions import (
    Clean,
    Continue,
    DefinitionError,
    Done,
    NotDone,
    NothingToUndo,
    OutcomeUnknown,
    Residue,
    RetryLater,
    RetryPolicy,
    TransactionManager,
    Unknown,
)

ONCE = RetryPolicy(attempts_max=1)


class World:
    """Handlers that note what they are called with; each can be sync or async."""

    def __init__(self, manager, *, is_async):
        self.manager = manager
        self.is_async = is_async
        self.calls = []

    def asked(self, what, answer):
        """A probe or verification that gives this answer, or raises it."""

        def handler(data, context):
            self.calls.append((what, context.attempt, context.in_doubt))
            return self.given(answer, context)

        return self.maybe_async(handler)

    def handler(self, answer=None):
        def handler(action, data, context):
            self.calls.append((action, context.attempt, context.in_doubt))
            return self.given(answer, context)

        return self.maybe_async(handler)

    @staticmethod
    def given(answer, context):
        if isinstance(answer, list):
            answer = answer[min(context.attempt, len(answer)) - 1]
        if inspect.isfunction(answer):
            answer = answer(context)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def maybe_async(self, handler):
        if not self.is_async:
            return handler
        if "action" in inspect.signature(handler).parameters:

            async def act(action, data, context):
                return handler(action, data, context)

            return act

        async def ask(data, context):
            return handler(data, context)

        return ask

    def names(self):
        return [name for name, _attempt, _in_doubt in self.calls]

    def run(self, *actions):
        tx = self.manager.begin()
        for action in actions:
            self.manager.add_step(tx, "agent", action, {"n": 1})
        return self.manager.commit(tx)


@pytest.fixture(params=["sync", "async"])
def world(request, make_manager, clock):
    return World(make_manager(clock=clock), is_async=request.param == "async")


def doubtful(world, probe, **options):
    """Register `act`, of which nobody knows whether it happened, with this probe."""
    options.setdefault("probe_retry", ONCE)
    world.manager.action(
        "act", compensating_action="undo", probe=world.asked("probe", probe), **options
    )(world.handler(OutcomeUnknown("no answer")))
    world.manager.action("undo")(world.handler())


# -------------------------------------------------------------------------------------- probes


def test_a_probe_that_says_done_counts_with_its_output(world):
    doubtful(world, Done({"id": 7}))
    result = world.run("act")
    assert (result.state.value, result.outputs) == ("committed", {"s1": {"id": 7}})
    assert world.calls == [("act", 1, False), ("probe", 1, True)]


def test_a_probe_that_says_not_done_leaves_nothing_to_undo(world):
    doubtful(world, NotDone("never heard of it"))
    result = world.run("act")
    assert (result.state.value, result.clean) == ("rolled_back", True)
    assert world.names() == ["act", "probe"]
    assert "never heard of it" in result.error


def test_a_probe_that_knows_later_is_asked_again(world):
    doubtful(world, [Unknown(), OutcomeUnknown(), Done(5)], probe_retry=RetryPolicy(jitter=0))
    result = world.run("act")
    assert result.outputs == {"s1": 5}
    assert world.names() == ["act", "probe", "probe", "probe"]


def test_a_probe_that_asks_for_time_is_given_it(world, clock):
    doubtful(world, [RetryLater(7), Done(5)], probe_retry=RetryPolicy(jitter=0))
    before = clock.now()
    assert world.run("act").outputs == {"s1": 5}
    assert clock.now() - before >= 7_000_000


@pytest.mark.parametrize(
    "answer",
    [None, True, "done", {"done": True}, Done, Clean(), Continue(1), object(), 0, NotDone],
)
def test_nonsense_from_a_probe_is_no_answer(world, answer):
    doubtful(world, answer)
    result = world.run("act")
    assert (result.state.value, result.reason) == ("rolled_back", "in_doubt")
    assert world.calls == [("act", 1, False), ("probe", 1, True), ("undo", 1, True)]


@pytest.mark.parametrize("error", [ValueError("no"), ConnectionError("down"), KeyError("x")])
def test_a_probe_that_raises_does_not_know(world, error):
    doubtful(world, error)
    assert world.run("act").reason == "in_doubt"
    assert world.names() == ["act", "probe", "undo"]


def test_an_output_of_a_probe_that_is_no_json_counts_without_it(world):
    doubtful(world, Done(object()))
    result = world.run("act")
    assert (result.state.value, result.outputs) == ("committed", {})
    assert "could not be recorded" in result.warnings[0]


def test_an_idempotent_action_is_asked_before_it_is_run_again(world):
    world.manager.action("act", idempotent=True, probe=world.asked("probe", NotDone()))(
        world.handler([OutcomeUnknown("no answer"), "second"])
    )
    result = world.run("act")
    assert result.outputs == {"s1": "second"}
    assert world.names() == ["act", "probe", "act"]


def test_a_probe_is_asked_about_the_key_of_the_action(world):
    keys = []

    def probe(context):
        keys.append((context.idempotency_key, context.forward_key, context.operation))
        return Done()

    doubtful(world, probe)
    name = world.run("act").transaction_id
    assert keys == [(f"{name}/s1/probe", f"{name}/s1/action", "probe")]


# ------------------------------------------------------------------------------- verifications


def verified(world, answer, **options):
    options.setdefault("verify_retry", ONCE)
    world.manager.action(
        "act", compensating_action="undo", verify=world.asked("verify", answer), **options
    )(world.handler("did"))
    world.manager.action("undo")(world.handler())
    world.manager.action("fail")(world.handler(ValueError("no")))


def test_a_verification_that_finds_nothing_leaves_it_clean(world):
    verified(world, Clean())
    result = world.run("act", "fail")
    assert (result.clean, result.compensated_steps) == (True, ["s1"])
    assert world.names() == ["act", "fail", "undo", "verify"]


def test_what_a_verification_finds_needs_a_person(world):
    verified(world, Residue({"seats": 2}))
    result = world.run("act", "fail")
    assert [item.reason for item in result.outstanding] == ["residue"]
    assert '"seats":2' in result.outstanding[0].error


@pytest.mark.parametrize(
    "answer", [None, True, "clean", Clean, Done(), object(), Unknown(), ValueError("x")]
)
def test_nonsense_from_a_verification_leaves_the_step_unverified(world, answer):
    verified(world, answer)
    result = world.run("act", "fail")
    assert (result.unverified, result.outstanding, result.clean) == (["s1"], [], False)
    assert result.compensated_steps == ["s1"]


def test_a_verification_that_can_tell_later_is_asked_again(world):
    verified(world, [Unknown(), Clean()], verify_retry=RetryPolicy(jitter=0))
    assert world.run("act", "fail").clean
    assert world.names() == ["act", "fail", "undo", "verify", "verify"]


def test_what_is_left_and_is_no_json_is_told_all_the_same(world):
    verified(world, Residue(object()))
    assert [item.reason for item in world.run("act", "fail").outstanding] == ["residue"]


# ------------------------------------------------------------------------------ answers of undos


def undone(world, answer, **options):
    world.manager.action("act", compensating_action="undo")(world.handler("did"))
    world.manager.action("undo", **options)(world.handler(answer))
    world.manager.action("fail", compensating_action="undo")(
        world.handler([ValueError("no"), "second time"])
    )


def test_an_undo_that_found_nothing_says_so_in_the_journal(world):
    undone(world, NothingToUndo("it was gone"))
    result = world.run("act", "fail")
    assert result.clean
    (event,) = [
        event
        for event in world.manager.get_events(result.transaction_id)
        if event.kind == "compensation_succeeded"
    ]
    assert event.fields["note"] == "it was gone"


def test_an_undo_that_asks_for_time_is_given_it_without_a_policy(world, clock):
    undone(world, [RetryLater(9), None])
    before = clock.now()
    assert world.run("act", "fail").clean
    assert clock.now() - before >= 9_000_000
    assert world.names() == ["act", "fail", "undo", "undo"]


def test_an_undo_may_answer_with_an_output_and_the_transaction_goes_on(world):
    undone(world, Continue({"from": "cache"}))
    result = world.run("act", "fail")
    assert result.state.value == "committed"
    assert result.outputs == {"s1": {"from": "cache"}, "s2": "second time"}
    assert world.names() == ["act", "fail", "undo", "fail"]


def test_an_undo_that_continues_again_is_refused_and_needs_a_person(world):
    world.manager.action("act", compensating_action="undo")(world.handler("did"))
    world.manager.action("undo")(world.handler(Continue(1)))
    world.manager.action("fail")(world.handler(ValueError("no")))
    result = world.run("act", "fail")
    assert result.state.value == "rolled_back"
    assert [item.reason for item in result.outstanding] == ["failed"]
    assert "ContinueRefused" in result.outstanding[0].error
    assert world.names() == ["act", "fail", "undo", "fail", "undo"]


def test_an_undo_of_a_rollback_that_was_asked_for_cannot_continue(world):
    world.manager.action("wait")(world.handler(RetryLater(1_000)))
    undone(world, lambda context: Continue(1) if context.can_continue else None)
    tx = world.manager.begin()
    for action in ("act", "wait"):
        world.manager.add_step(tx, "agent", action, {})
    assert not world.manager.commit(tx).is_final
    result = world.manager.rollback(tx)
    assert (result.state.value, result.clean) == ("rolled_back", True)


# ---------------------------------------------------------------------------- registered actions


def test_a_registered_action_can_be_called_as_it_is_and_knows_its_name(world):
    @world.manager.wrapped.action("act")
    def act(action, data):
        """Act."""
        return (action, data)

    assert act("x", {"n": 1}) == ("x", {"n": 1})
    assert (act.name, act.__name__, act.__doc__) == ("act", "act", "Act.")


def test_a_probe_and_a_verification_are_added_by_decorators(world):
    act = world.manager.wrapped.action(
        "act", compensating_action="undo", probe_retry=ONCE, verify_retry=ONCE
    )(world.handler(OutcomeUnknown("lost")))
    probe = world.asked("probe", Unknown())
    verify = world.asked("verify", Clean())
    assert act.probe(probe) is probe
    assert act.verify(verify) is verify
    world.manager.action("undo")(world.handler())
    assert world.run("act").clean
    assert world.names() == ["act", "probe", "undo", "verify"]


def test_a_registered_action_may_be_what_undoes_another(world):
    undo = world.manager.wrapped.action("take_back")(world.handler())
    world.manager.wrapped.action("act", compensating_action=undo)(world.handler())
    world.manager.action("fail")(world.handler(ValueError("no")))
    tx = world.manager.begin()
    world.manager.add_step(tx, "agent", "act", {})
    world.manager.add_step(tx, "agent", "act", {}, undo)
    world.manager.add_step(tx, "agent", "fail", {})
    assert world.manager.commit(tx).compensated_steps == ["s2", "s1"]
    assert world.names() == ["act", "act", "fail", "take_back", "take_back"]


def test_what_another_manager_has_registered_may_undo_here_as_well(world):
    elsewhere = TransactionManager()
    undo = elsewhere.action("take_back")(world.handler())
    world.manager.action("act")(world.handler())
    world.manager.action("fail")(world.handler(ValueError("no")))
    tx = world.manager.begin()
    world.manager.add_step(tx, "agent", "act", {}, undo)
    world.manager.add_step(tx, "agent", "fail", {})
    assert world.manager.commit(tx).clean
    assert world.names() == ["act", "fail", "take_back"]


def test_one_function_under_two_names_is_two_actions_of_their_own(world):
    two = world.manager.wrapped.action("two")(world.handler())
    one = world.manager.wrapped.action("one", probe_retry=ONCE)(two)
    assert (one.name, two.name) == ("one", "two")
    one.probe(world.asked("probe", Unknown()))
    tx = world.manager.begin()
    for action in ("one", "two"):
        world.manager.add_step(tx, "agent", action, {})
    assert world.manager.commit(tx).completed_steps == ["s1", "s2"]
    probes = {action.name: action.probe is not None for action in world.manager.wrapped.actions}
    assert probes == {"one": True, "two": False}


def test_one_function_with_two_managers_is_an_action_of_each(world):
    elsewhere = TransactionManager()
    theirs = elsewhere.action("act", probe_retry=ONCE)(world.handler())
    ours = world.manager.wrapped.action("act")(theirs)
    theirs.probe(world.asked("probe", Unknown()))
    assert [action.probe for action in world.manager.wrapped.actions] == [None]
    assert ours.name == theirs.name
    assert world.run("act").state.value == "committed"


@pytest.mark.parametrize("probe", [7, "probe", object(), lambda: None, lambda a, b, c: None])
@pytest.mark.parametrize("how", ["probe", "verify"])
def test_what_cannot_be_asked_is_refused_when_it_is_registered(world, probe, how):
    with pytest.raises(DefinitionError, match="'act'"):
        world.manager.wrapped.action("act", **{how: probe})(world.handler())
    act = world.manager.wrapped.action("act")(world.handler())
    with pytest.raises(DefinitionError, match="'act'"):
        getattr(act, how)(probe)
    assert world.run("act").state.value == "committed"
