import pytest

from aumai_transactions.plans import load_plan, risks


@pytest.fixture
def found(plan_file):
    return lambda text, known=(): [
        risk.message for risk in risks(load_plan(plan_file(text), known_actions=known))
    ]


def test_the_example_has_no_risk_of_its_own(found, trip):
    assert found(trip) == []


def plan(action, step='agent = "x"\naction = "do"\n', more=""):
    return f'[actions.do]\nidempotent = true\n{action}\n{more}\n[[steps]]\nname = "a"\n{step}'


HTTPS = 'kind = "http"\nurl = "https://h.example/"\n'


@pytest.mark.parametrize(
    "text,risk",
    [
        (
            plan(
                HTTPS + 'effect = "none"\nmethod = "GET"',
                'agent = "x"\naction = "do"\ndata = {n = 1}',
            ),
            "step 'a': GET of action 'do' has no body, so the step's data is not sent. Refer to",
        ),
        (
            plan(
                HTTPS + 'effect = "none"',
                more='[actions.do.probe]\nurl = "https://h.example/"\nmissing = "not_done"',
            ),
            "action 'do': missing = \"not_done\" of its probe promises that a call whose key",
        ),
        (
            plan(
                HTTPS + 'effect = "none"',
                more='[actions.do.probe]\nurl = "https://h.example/{output.id}"',
            ),
            "action 'do': probe.url refers to {output.id}, and a probe is asked while no output",
        ),
        (
            plan(
                HTTPS,
                'agent = "x"\naction = "do"\ncompensating_action = "undo"\n',
                '[actions.undo]\nidempotent = true\njson = { id = "{output.id}" }\n' + HTTPS,
            ),
            "action 'undo' refers to {output.id}: while nobody knows whether 'do' happened",
        ),
        (
            plan('kind = "command"\nargv = ["x", "--id={data.id}"]\neffect = "none"'),
            "action 'do': argv holds '{data.id}', which the program gets as it is written.",
        ),
        (
            plan(
                'kind = "command"\nargv = ["x"]\neffect = "none"',
                more='[actions.do.probe]\nargv = ["y", "{forward_key}"]',
            ),
            "action 'do': probe.argv holds '{forward_key}', which the program gets",
        ),
        (
            plan(
                HTTPS + 'effect = "none"',
                more='[actions.do.probe]\nurl = "http://h.example/"',
            ),
            "action 'do' sends data and headers to h.example unencrypted",
        ),
        (
            plan(
                HTTPS + 'effect = "none"',
                more='[actions.do.probe]\nurl = "https://h/"\nheaders = { X-Token = "x" }',
            ),
            "action 'do': the value of X-Token stands in the plan and in the journal",
        ),
        (
            plan(HTTPS.replace("https:", "http:") + 'effect = "none"'),
            "action 'do' sends data and headers to h.example unencrypted",
        ),
        (
            plan(HTTPS + 'effect = "none"\nheaders = { Authorization = "Bearer x" }'),
            "action 'do': the value of Authorization stands in the plan and in the journal",
        ),
        (
            plan('kind = "command"\nargv = ["x"]\neffect = "none"\nenv = { DB_PASSWORD = "x" }'),
            "action 'do': the value of DB_PASSWORD stands in the plan",
        ),
        (
            plan(HTTPS + 'effect = "none"', more="[actions.spare]\n" + HTTPS),
            "action 'spare' is defined, and no step uses it.",
        ),
    ],
)
def test_each_risk_is_named_and_nothing_else(text, risk, found):
    (only,) = found(text)
    assert only.startswith(risk)


@pytest.mark.parametrize(
    "text",
    [
        plan(HTTPS + 'effect = "none"'),
        plan(HTTPS + 'headers = { X-Token = { env = "T" } }\neffect = "none"'),
        plan(
            HTTPS.replace('/"', '/{data.n}"') + 'effect = "none"\nmethod = "GET"',
            'agent = "x"\naction = "do"\ndata = {n = 1}',
        ),
        plan(
            HTTPS,
            'agent = "x"\naction = "do"\ncompensating_action = "undo"\n',
            '[actions.do.probe]\nurl = "https://h.example/{forward_key}"\n'
            '[actions.do.verify]\nurl = "https://h.example/{output.id}"\n'
            '[actions.undo]\nidempotent = true\njson = { id = "{output.id}" }\n' + HTTPS,
        ),
        plan(
            HTTPS,
            'agent = "x"\naction = "do"\ncompensating_action = "undo"\ndata = { n = 1 }\n',
            '[actions.do.probe]\nurl = "https://h.example/{forward_key}"\n'
            '[actions.undo]\nidempotent = true\nmethod = "DELETE"\n'
            + HTTPS.replace('/"', '/{output.id}"'),
        ),
        plan('kind = "command"\nargv = ["awk", "{print $1}"]\neffect = "none"'),
        plan('kind = "http"\nurl = "http://localhost:8080/"\neffect = "none"'),
        plan('kind = "http"\nurl = "http://[::1]:8080/"\neffect = "none"'),
    ],
)
def test_a_plan_without_these_risks_has_none(text, found):
    assert found(text) == []


def test_actions_of_an_app_are_not_judged(found):
    assert found('[[steps]]\nagent = "x"\naction = "do"\n', ["do"]) == []


def test_an_action_that_only_confirms_is_used(found):
    text = plan(
        'kind = "command"\nargv = ["x"]\neffect = "none"\nconfirming_action = "finish"',
        more='[actions.finish]\nkind = "command"\nargv = ["y"]\nidempotent = true',
    )
    assert found(text) == []
