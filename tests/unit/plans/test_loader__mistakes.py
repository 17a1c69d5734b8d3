import pytest

from aumai_transactions.errors import PlanFileError
from aumai_transactions.plans import load_plan


def step(**lines):
    return "\n".join(["[[steps]]", *(f"{key} = {text}" for key, text in lines.items())]) + "\n"


OK = step(name='"a"', agent='"x"', action='"do"')
HTTP = '[actions.do]\nkind = "http"\nurl = "http://h/"\n'

MISTAKES = [
    # shape: unknown keys, missing keys, wrong kinds of value
    (
        "timeout_secnds = 3\n" + OK,
        'timeout_secnds: is not a key of a plan. Did you mean "timeout_s',
    ),
    ("zzz = 3\n" + OK, "zzz: is not a key of a plan. Known are: $schema, name, timeout_seconds"),
    (
        step(agnt='"x"', action='"do"'),
        'steps[1].agnt: is not a key of a step. Did you mean "agent"',
    ),
    (OK + step(name='"hotel"', action='"do"'), 'steps[2].agent: is missing. (step "hotel")'),
    (OK + step(agent="3", action='"do"'), "steps[2].agent: must be text in quotes, not a number."),
    (step(agent='" "', action='"do"'), "steps[1].agent: must not be blank."),
    (step(agent='"x"', action='"do"', data="3"), "steps[1].data: must be a table, not a number."),
    (step(agent='"x"', action='"do"', after='"a"'), "steps[1].after: must be a list, not text."),
    (step(agent='"x"', action='"do"', after="[1]"), "steps[1].after[1]: must be text in quotes"),
    ('[steps]\nagent = "x"\n', "steps: must be a list of at least one step; in TOML, each begins"),
    ("steps = []\n", "steps: must be a list of at least one step"),
    ('name = "x"\n', "steps: is missing."),
    ("name = 3\n" + OK, "name: must be text in quotes, not a number."),
    ("timeout_seconds = 0\n" + OK, "timeout_seconds: must be greater than 0."),
    ("timeout_seconds = -1\n" + OK, "timeout_seconds: must be greater than 0."),
    ("timeout_seconds = inf\n" + OK, "timeout_seconds: must be a finite number."),
    ("timeout_seconds = nan\n" + OK, "timeout_seconds: must be"),
    ("timeout_seconds = true\n" + OK, "timeout_seconds: must be a number, not true or false."),
    ('timeout_seconds = "60"\n' + OK, "timeout_seconds: must be a number, not text."),
    ('timeout_scope = "all"\n' + OK, 'timeout_scope: must be "start" or "transaction".'),
    ('on_crash = "forward"\n' + OK, 'on_crash: must be "resume" or "roll_back".'),
    ('on_compensation_failure = "stop"\n' + OK, 'on_compensation_failure: must be "continue" or'),
    ("actions = 3\n" + OK, "actions: must be a table, not a number."),
    # actions
    ('[actions.do]\nurl = "http://h/"\n' + OK, "actions.do: has no kind. Add kind = one of"),
    ('[actions.do]\nkind = "htp"\n' + OK, 'actions.do: has the unknown kind "htp"; known are'),
    ('[actions.do]\nkind = "htp"\n' + OK, 'Did you mean "http"?'),
    ('[actions.do]\nkind = "http"\n' + OK, "actions.do.url: is missing."),
    (
        HTTP + "retrys = 3\nidempotnt = true\n" + OK,
        "actions.do.retrys: is not a key of an action of",
    ),
    (
        HTTP + "idempotnt = true\n" + OK,
        'actions.do.idempotnt: is not a key of an action of kind "h',
    ),
    (HTTP + "idempotnt = true\n" + OK, 'Did you mean "idempotent"?'),
    (HTTP + "argv = []\n" + OK, "actions.do.argv: is not a key of an action of kind"),
    (HTTP + "http = 3\n" + OK, "actions.do.http: is not a key of an action of kind"),
    (HTTP + "idempotent = 1\n" + OK, "actions.do.idempotent: must be true or false, not a number."),
    (
        HTTP + 'method = "post"\n' + OK,
        'actions.do.method: must be "GET", "POST", "PUT", "PATCH" or',
    ),
    (HTTP + "timeout_seconds = 0\n" + OK, "actions.do.timeout_seconds: must be greater than 0."),
    (HTTP + "timeout_seconds = 86401\n" + OK, "actions.do.timeout_seconds: must be less than or"),
    (HTTP + "response_bytes_max = 1.5\n" + OK, "actions.do.response_bytes_max: must be a whole"),
    (HTTP + "headers = { Host = 'x' }\n" + OK, "actions.do.headers: header Host is set by every"),
    (
        HTTP + "headers = { X = 3 }\n" + OK,
        'actions.do.headers.X: must be text, or { env = "NAME" }',
    ),
    (
        HTTP + "headers = { X = { env = 'A-B' } }\n" + OK,
        "actions.do.headers.X.env: must be the name of an env",
    ),
    (
        HTTP + "headers = { X = { evn = 'A' } }\n" + OK,
        "actions.do.headers.X.evn: is not a key of a v",
    ),
    (HTTP + "headers = { env = { evn = 'A' } }\n" + OK, "actions.do.headers.env.evn: is not a key"),
    (HTTP + 'effect = "none"\ncompensating_action = "do"\n' + OK, "actions.do: effect ="),
    (
        '[actions.do]\nkind = "http"\nurl = "file:///etc/passwd"\n' + OK,
        "actions.do.url: must begin",
    ),
    (
        '[actions.do]\nkind = "http"\nurl = "http://u:p@h/"\n' + OK,
        "actions.do.url: must not hold a u",
    ),
    (
        '[actions.do]\nkind = "command"\nargv = "rm -rf"\n' + OK,
        "actions.do.argv: must be a list, not",
    ),
    ('[actions.do]\nkind = "command"\nargv = []\n' + OK, "actions.do.argv: must not be empty."),
    (
        '[actions.do]\nkind = "command"\nargv = ["a", 3]\n' + OK,
        "actions.do.argv[2]: must be text in",
    ),
    (
        '[actions.do]\nkind = "python"\ncall = "os.system"\n' + OK,
        'actions.do.call: must be "module:function"',
    ),
    ('[actions."a b"]\nkind = "http"\n' + OK, 'actions."a b".url: is missing.'),
    # retries, questions, references to values, hosts
    (HTTP + "retry = 3\n" + OK, "actions.do.retry: must be a table, not a number."),
    (
        HTTP + "retry = { attempts = 3 }\n" + OK,
        'actions.do.retry.attempts: is not a key of a retry policy. Did you mean "attempts_max"?',
    ),
    (
        HTTP + "retry = { attempts_max = 0 }\n" + OK,
        "actions.do.retry.attempts_max: must be greater than or equal to 1.",
    ),
    (
        HTTP + 'retry = { attempts_max = "3" }\n' + OK,
        "actions.do.retry.attempts_max: must be a whole number, not text.",
    ),
    (
        step(agent='"x"', action='"do"', retry="{ atempts_max = 3 }"),
        "steps[1].retry.atempts_max: is not a key of a retry policy. Did you mean",
    ),
    (
        step(agent='"x"', action='"do"', retry="{ jitter = 2 }"),
        "steps[1].retry.jitter: must be less than or equal to 1.",
    ),
    (
        step(agent='"x"', action='"do"', timeout_seconds="0"),
        "steps[1].timeout_seconds: must be greater than 0.",
    ),
    (
        HTTP + '[actions.do.probe]\nulr = "http://h/"\n' + OK,
        'actions.do.probe.ulr: is not a key of a probe of kind "http". Did you mean "url"?',
    ),
    (HTTP + "[actions.do.probe]\n" + OK, "actions.do.probe.url: is missing."),
    (
        HTTP + '[actions.do.probe]\nurl = "http://h/"\nmissing = "ok"\n' + OK,
        'actions.do.probe.missing: must be "unknown" or "not_done".',
    ),
    (
        HTTP + '[actions.do.probe]\nurl = "http://h/"\nmethod = "PUT"\n' + OK,
        'actions.do.probe.method: must be "GET" or "POST".',
    ),
    (
        HTTP + '[actions.do.probe]\nurl = "http://h/"\nretry = { attempts = 3 }\n' + OK,
        "actions.do.probe.retry.attempts: is not a key of a retry policy.",
    ),
    (
        HTTP + '[actions.do.probe]\nurl = "http://h/"\nheaders = { X = { evn = "A" } }\n' + OK,
        "actions.do.probe.headers.X.evn: is not a key of a value from the environment.",
    ),
    (
        HTTP + '[actions.do.probe]\nurl = "http://h/"\nheaders = { X = 3 }\n' + OK,
        'actions.do.probe.headers.X: must be text, or { env = "NAME" }, not a number.',
    ),
    (
        HTTP + '[actions.do.verify]\nurl = "http://h/"\nmissing = "not_done"\n' + OK,
        'actions.do.verify.missing: is not a key of a verification of kind "http". Known are: ',
    ),
    (
        '[actions.do]\nkind = "command"\nargv = ["a"]\nprobe = { argv = "a" }\n' + OK,
        "actions.do.probe.argv: must be a list, not text.",
    ),
    (
        '[actions.do]\nkind = "command"\nargv = ["a"]\nenv = { A = { evn = "B" } }\n' + OK,
        "actions.do.env.A.evn: is not a key of a value from the environment.",
    ),
    (
        '[actions.do]\nkind = "command"\nargv = ["a"]\ninput = "all"\n' + OK,
        'actions.do.input: must be "data" or "full".',
    ),
    (
        '[actions.do]\nkind = "python"\ncall = "a:b"\nprobe = { call = "c" }\n' + OK,
        'actions.do.probe.call: must be "module:function"',
    ),
    (
        '[actions.do]\nkind = "python"\ncall = "a:b"\ntimeout_seconds = 0\n' + OK,
        "actions.do.timeout_seconds: must be greater than 0.",
    ),
    (
        '[actions.do]\nkind = "http"\nurl = "http://h/{id}"\n' + OK,
        "actions.do.url: holds {id}; did you mean {data.id}?",
    ),
    (
        '[actions.do]\nkind = "http"\nurl = "http://{data.h}/"\n' + OK,
        "actions.do.url: has a brace before its path",
    ),
    (
        HTTP + 'headers = { X = "{id}" }\n' + OK,
        "actions.do.headers: header X holds {id}; did you mean {data.id}?",
    ),
    (
        HTTP + 'json = { rooms = [{ id = "{room}" }] }\n' + OK,
        "actions.do.json: rooms[1].id: holds {room}; did you mean {data.room}?",
    ),
    (HTTP + "json = { n = nan }\n" + OK, "actions.do.json: n: nan is not a JSON number."),
    (HTTP + 'method = "GET"\njson = {}\n' + OK, "actions.do: has json, and GET sends no body."),
    (
        '[actions.do]\nkind = "http"\nurl = "http://h/{output.id}"\n' + OK,
        'actions.do.url: refers to {output.id}, and step "a" calls it as its action',
    ),
    (
        HTTP + 'json = ["{output}"]\n' + OK,
        "actions.do.json: refers to {output}, and step",
    ),
    (
        HTTP + 'headers = { "X.Y" = "{output.id}" }\n' + OK,
        'actions.do.headers."X.Y": refers to {output.id}',
    ),
    ('http_hosts = "h"\n' + OK, "http_hosts: must be a list, not text."),
    (
        'http_hosts = ["h", "http://i/"]\n' + OK,
        'http_hosts[2]: "http://i/" is not a host; write "api.example.com"',
    ),
    (
        'http_hosts = ["other.example"]\n' + HTTP + OK,
        "actions.do.url: calls h, which http_hosts does not name. Add it there if it may be",
    ),
    (
        'http_hosts = ["h:80"]\n' + HTTP + '[actions.do.verify]\nurl = "http://h:81/"\n' + OK,
        "actions.do.verify.url: calls h:81, which http_hosts does not name.",
    ),
    (
        HTTP + 'hosts = ["i"]\n' + OK,
        "actions.do: url calls h, which hosts does not name. Add it there if it may be called.",
    ),
    # names that must exist
    (step(agent='"x"', action='"dp"'), 'steps[1].action: names the action "dp", which is not defi'),
    (step(agent='"x"', action='"doo"'), 'Did you mean "do"?'),
    (
        step(agent='"x"', action='"do"', compensating_action='"undo"'),
        "steps[1].compensating_action",
    ),
    (
        HTTP + 'compensating_action = "zzz"\n' + OK,
        "actions.do.compensating_action: names the action",
    ),
    (
        OK + step(name='"b"', agent='"x"', action='"do"', after='["a", "c"]'),
        "steps[2].after[2]: nam",
    ),
    (OK + step(name='"b"', agent='"x"', action='"do"', after='["aa"]'), 'Did you mean "a"?'),
    (OK + OK, 'steps[2].name: is "a", and so is the name of steps[1].'),
    (
        step(name='"s2"', agent='"x"', action='"do"') + step(agent='"x"', action='"do"'),
        "steps[2].na",
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', after='["a"]'),
        'steps[1]: waits for itself: "a" →',
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', after='["b"]')
        + step(name='"b"', agent='"x"', action='"do"'),
        "waits for itself:",
    ),
    # graphs and the commit point
    (
        'on_crash = "wait"\n' + OK,
        'on_crash: must be "resume" or "roll_back".',
    ),
    ('on_undo_window = "panic"\n' + OK, 'on_undo_window: must be "warn" or "roll_back".'),
    (
        step(agent='"x"', action='"do"', pivot='"yes"'),
        "steps[1].pivot: must be true or false, not text.",
    ),
    (
        step(agent='"x"', action='"do"', undo_within_seconds="0"),
        "steps[1].undo_within_seconds: must be greater than 0.",
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', pivot="true")
        + step(agent='"x"', action='"do"'),
        "steps[2]: stands behind its pivot 'a', and nothing can be undone any more there.",
    ),
    (
        step(agent='"x"', action='"do"', pivot="true")
        + step(agent='"x"', action='"do"', pivot="true"),
        "steps[2].pivot: the plan has the pivots 's1', 's2'; there can be only one",
    ),
    (
        step(agent='"x"', action='"do"', pivot="true", on_commit="true"),
        "steps[1].on_commit: is the pivot and held until the commit; it can be only one",
    ),
    (
        step(agent='"x"', action='"do"', on_commit="true", requires_approval="true"),
        "steps[1].requires_approval: is held until the commit, when nobody can deny it any more.",
    ),
    (
        step(agent='"x"', action='"do"', approval_timeout_seconds="5"),
        "steps[1].approval_timeout_seconds: has an approval_timeout_seconds, and requires no app",
    ),
    (
        HTTP + step(agent='"x"', action='"do"', on_commit="true"),
        "steps[1].on_commit: is held until the commit, and then tried until it is done, but 'do'",
    ),
    (
        HTTP + step(agent='"x"', action='"do"', on_commit="true"),
        "Declare it idempotent = true, if it is, by its key; or give it a probe.",
    ),
    (
        HTTP + step(agent='"x"', action='"do"', confirming_action='"do"'),
        "steps[1].confirming_action: is confirmed by 'do', which is tried until it is done, and",
    ),
    (
        HTTP + 'confirming_action = "do"\n' + OK,
        "actions.do.confirming_action: is confirmed by 'do', which is tried until it is done,",
    ),
    (
        HTTP + 'confirming_action = "zzz"\n' + OK,
        "actions.do.confirming_action: names the action",
    ),
    (
        step(agent='"x"', action='"do"', confirming_action='"doo"'),
        'steps[1].confirming_action: names the action "doo", which is not defined. Did you mean',
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', on_commit="true")
        + step(name='"b"', agent='"x"', action='"do"', after='["a"]'),
        "steps[2]: waits for 'a', which is held until everything else has succeeded (on_commit).",
    ),
    (
        HTTP
        + 'effect = "irreversible"\n'
        + OK
        + step(name='"b"', agent='"x"', action='"undoable"', compensating_action='"undoable"'),
        'steps[1]: nothing can undo "do", and "b" comes after it or beside it: if that fails,',
    ),
    (
        HTTP + 'effect = "irreversible"\ncompensating_action = "do"\n' + OK,
        'actions.do: effect = "irreversible" says that nothing can undo it, and compensating_act',
    ),
    (
        HTTP
        + 'effect = "irreversible"\n'
        + step(agent='"x"', action='"do"', compensating_action='"undoable"'),
        "steps[1].compensating_action: is declared irreversible and names a compensating action.",
    ),
    # data and references
    (
        step(agent='"x"', action='"do"', data="{ n = nan }"),
        "steps[1].data.n: nan is not a JSON numb",
    ),
    (
        OK + step(agent='"x"', action='"do"', data="{ l = [1, inf] }"),
        "steps[2].data.l[2]: inf is not",
    ),
    (
        step(agent='"x"', action='"do"', data="{ n = 99999999999999999999 }"),
        "steps[1].data.n: does",
    ),
    (step(agent='"x"', action='"do"', data="{ d = 1979-05-27 }"), "steps[1].data.d: is a date or"),
    (step(agent='"x"', action='"do"', data='{ t = "\\u0000" }'), "steps[1].data.t: holds a NUL"),
    (
        step(agent='"x"', action='"do"', data='{ "$output" = "a" }'),
        "steps[1].data: cannot be a refer",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "q" } }'),
        "steps[2].data.r.$o",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = 3 } }'),
        "steps[2].data.r.$outpu",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = [{ "$output" = "a", att = "/x" }] }'),
        "steps[2].data.r[1].att: is not a key of a reference",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", type = "text" } }'),
        'steps[2].data.r.type: "text" is not a JSON type, which are "string", "integer", "number"',
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", type = 3 } }'),
        "steps[2].data.r.type: must be text, not a number.",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", at = "id" } }'),
        'steps[2].data.r.at: "id" is not a JSON pointer',
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", at = "/~2" } }'),
        'steps[2].data.r.at: "/~2" is not a JSON pointer',
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', data='{ r = { "$output" = "b" } }')
        + step(name='"b"', agent='"x"', action='"do"'),
        "waits for itself:",
    ),
]


@pytest.mark.parametrize("text,message", MISTAKES)
def test_a_mistake_is_named_by_file_table_and_key(text, message, plan_file):
    path = plan_file(text)
    with pytest.raises(PlanFileError) as caught:
        load_plan(path, known_actions=["do", "undoable"])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert "pydantic" not in str(caught.value)


def test_a_mistake_does_not_quote_what_may_be_a_secret(plan_file):
    text = HTTP + 'headers = { Authorization = ["Bearer s3cret"] }\n' + OK
    with pytest.raises(PlanFileError) as caught:
        load_plan(plan_file(text), known_actions=["do"])
    assert "s3cret" not in str(caught.value)


def test_the_most_telling_mistake_comes_first_and_the_others_are_counted(plan_file):
    text = step(agnt='"x"', action="3")
    with pytest.raises(PlanFileError, match=r"agnt: is not a key .* \(2 more problems in this"):
        load_plan(plan_file(text))
