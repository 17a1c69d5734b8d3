import pytest

from aumai_transactions.plans import load_plan, risks


@pytest.fixture
def found(plan_file):
    return lambda text, known=(): risks(load_plan(plan_file(text), known_actions=known))


def test_the_example_has_the_risks_that_it_has(found, trip):
    assert [risk.partition(":")[0] for risk in found(trip)] == [
        "action 'charge' is not declared idempotent",
        "action 'refund' undoes a step and is not declared idempotent",
    ]


def plan(action, step='agent = "x"\naction = "do"\n', more=""):
    return f'[actions.do]\nidempotent = true\n{action}\n{more}\n[[steps]]\nname = "a"\n{step}'


HTTPS = 'kind = "http"\nurl = "https://h.example/"\n'


@pytest.mark.parametrize(
    "text,risk",
    [
        (plan(HTTPS), "step 'a': nothing undoes 'do', so its effect stays"),
        (
            plan(
                HTTPS + 'effect = "none"\nmethod = "GET"',
                'agent = "x"\naction = "do"\ndata = {n = 1}',
            ),
            "step 'a': GET of action 'do' has no body, so the step's data is not sent",
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
        plan('kind = "http"\nurl = "http://localhost:8080/"\neffect = "none"'),
        plan('kind = "http"\nurl = "http://[::1]:8080/"\neffect = "none"'),
    ],
)
def test_a_plan_without_these_risks_has_none(text, found):
    assert found(text) == []


def test_actions_of_an_app_are_not_judged(found):
    assert found('[[steps]]\nagent = "x"\naction = "do"\n', ["do"]) == []
