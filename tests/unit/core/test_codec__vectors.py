"""Vectors that must never change: journals written today are read for ever.

A test that fails here says that stored journals would no longer be read, or no longer verify.
Change the code, not the vectors. A new kind of entry gets a vector of its own.
"""

import hashlib
from typing import get_args

import pytest

from aumai_transactions.core.codec import decode, encode
from aumai_transactions.core.definition import (
    Definition,
    Operation,
    Policy,
    Reference,
    ResourceUse,
    Retry,
    ScopeDefinition,
    StepDefinition,
    idempotency_key,
)
from aumai_transactions.core.entries import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    CallReturnedLate,
    Claimed,
    CommitDecided,
    CommitRequested,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    ConfirmationFailed,
    ConfirmationStarted,
    ConfirmationSucceeded,
    ErrorRecord,
    Grant,
    LocksAwaited,
    LocksGranted,
    PartialRollbackStarted,
    PlanRecorded,
    ProbeAnswered,
    ProbeStarted,
    ReadVersion,
    RereadAnswered,
    ResolutionGiven,
    RestoredFromBackup,
    RetryRequested,
    RetryScheduled,
    RollbackRequested,
    RollbackRevoked,
    RollbackStarted,
    ScopeOpened,
    ScopeReleased,
    StepAdded,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepRefused,
    StepRequested,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
    TransactionExpired,
    TransactionImported,
    TransactionRolledBack,
    TrustGiven,
    UndoRequestRefused,
    UndoWindowClosing,
    VerificationAnswered,
    VerificationStarted,
    VersionsRead,
)
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.models import TransactionState

ERROR = ErrorRecord(type="CardDeclined", message="no «money»")
TRIP = Definition(
    created_at=1772193600000000,
    timeout_seconds=60.0,
    steps=(
        StepDefinition(
            step_id="s1",
            agent_id="flight_agent",
            action="reserve_flight",
            data={"flight": "F123"},
            compensating_action="cancel_flight",
        ),
        StepDefinition(
            step_id="s2",
            agent_id="billing",
            action="charge",
            data={"amount": 850.5, "flight": None},
            after=(),
            references=(Reference(into=("flight",), step_id="s1", at="/id"),),
            idempotent=True,
            on_unknown="ask",
            effect="none",
        ),
    ),
    timeout_scope="transaction",
    on_crash="roll_back",
    on_compensation_failure="halt",
    actions={"act": {"kind": "http"}},
    name="trip",
)
CAREFUL = Definition(
    created_at=1772193600000000,
    timeout_seconds=60,
    steps=(
        StepDefinition(
            step_id="s1",
            agent_id="billing",
            action="charge",
            data={},
            policy=Policy(
                retry=Retry(3, 1.0, 3.0, 30.0, 0.5, 120.0),
                timeout_seconds=5.0,
                abandon_after_seconds=7.5,
                has_probe=True,
                probe_retry=Retry(2),
                has_verify=True,
                verify_retry=Retry(4),
                undo_idempotent=True,
                undo_retry=Retry(),
                undo_timeout_seconds=2.0,
            ),
        ),
    ),
    key="order-7",
)
BLOCK = Definition(
    created_at=1772193600000000,
    timeout_seconds=3600,
    steps=(
        StepDefinition(
            step_id="s1",
            agent_id="billing",
            action="charge",
            data={"order": None},
            references=(Reference(into=("order",), step_id="s0", type="string"),),
            effect="irreversible",
            policy=Policy(has_reread=True, confirm_retry=Retry(2), confirm_timeout_seconds=3.0),
            scope_id="c1",
            pivot=True,
            confirming_action="capture",
            requires_approval=True,
            approval_timeout_seconds=30.0,
            undo_within_seconds=60.0,
            intent="0123",
        ),
        StepDefinition(step_id="s2", agent_id="a", action="mail", data={}, on_commit=True),
    ),
    on_crash="wait",
    shape="interactive",
    parallel_compensation=True,
    allow_irreversible_first=True,
    resume_within_seconds=90.0,
    on_undo_window="roll_back",
)
SCOPE = ScopeDefinition(
    scope_id="c1", kind="child", parent="s1", name="hotel", expires_at=1772193700000000
)
SHARING = Definition(
    created_at=1772193600000000,
    timeout_seconds=60,
    steps=(
        StepDefinition(
            step_id="s1",
            agent_id="a",
            action="debit",
            data={},
            resources=(ResourceUse("account:42"), ResourceUse("rate:usd", "shared")),
        ),
    ),
    isolation="validated",
    lock_timeout_seconds=5.0,
    release_outstanding_locks=True,
)
SMALL = Definition(created_at=1, timeout_seconds=60)
ENTRIES = [
    PlanRecorded(at=1, definition=TRIP),
    TransactionImported(at=2, definition=SMALL, state=TransactionState.committed, source="file"),
    CommitRequested(at=3, by="cli"),
    RollbackRequested(at=4, by="cli", note="why", reason="cancelled"),
    RetryRequested(at=5, step_id="s1", by="me", note="why"),
    ResolutionGiven(at=6, step_id="s1", answer="left_in_place", by="me", note="why"),
    Claimed(at=7, token=2, driver_id="d", takeover=True),
    TransactionActivated(at=8),
    TransactionExpired(at=9, error=ERROR),
    StepStarted(at=10, step_id="s1", attempt=1, data={"b": 1, "a": [None, True, 1.0, "é"]}),
    StepSucceeded(at=11, step_id="s1", attempt=1, output=[1, 2.5], simulated=True, warning="w"),
    StepFailed(at=12, step_id="s1", attempt=1, error=ERROR),
    StepInDoubt(at=13, step_id="s1", attempt=1, cause="crash", error=ERROR),
    RollbackStarted(at=14, reason="step_failed", step_id="s1", error=ERROR),
    CompensationStarted(at=15, step_id="s1", attempt=1, in_doubt=True),
    CompensationSucceeded(at=16, step_id="s1", attempt=1, simulated=True),
    CompensationFailed(at=17, step_id="s1", attempt=1, error=ERROR, will_retry=True),
    StepOutstanding(at=18, step_id="s1", reason="no_handler", error=ERROR),
    TransactionCommitted(at=19),
    TransactionRolledBack(at=20),
    # Since retries, probes, verifications and timeouts.
    PlanRecorded(at=21, definition=CAREFUL),
    StepFailed(at=22, step_id="s1", attempt=1, error=ERROR, will_retry=True),
    RetryScheduled(at=23, step_id="s1", operation="action", attempt=2, due_at=99, draw=0.25),
    StepInDoubt(at=24, step_id="s1", attempt=2, cause="timeout", error=ERROR, left_behind=True),
    ProbeStarted(at=25, step_id="s1", attempt=1),
    ProbeAnswered(at=26, step_id="s1", attempt=1, answer="done", output={"id": 7}, warning="w"),
    ProbeAnswered(at=27, step_id="s1", attempt=1, answer="not_done", error=ERROR, will_retry=True),
    CallReturnedLate(
        at=28, step_id="s1", operation="action", attempt=1, outcome="succeeded", output=[7]
    ),
    CallReturnedLate(
        at=29, step_id="s1", operation="compensation", attempt=2, outcome="not_done", error=ERROR
    ),
    RollbackRevoked(at=30, step_id="s1", attempt=1, output={"id": 8}, warning="w"),
    CompensationSucceeded(at=31, step_id="s1", attempt=1, note="there was nothing to undo"),
    VerificationStarted(at=32, step_id="s1", attempt=1),
    VerificationAnswered(at=33, step_id="s1", attempt=1, answer="residue", left=[1], error=ERROR),
    VerificationAnswered(at=34, step_id="s1", attempt=2, answer="unknown", will_retry=True),
    StepOutstanding(at=35, step_id="s1", reason="may_still_act"),
    CompensationFailed(at=36, step_id="s1", attempt=1, error=ERROR, left_behind=True),
    # Since interactive transactions, graphs in parallel, commit points and approvals.
    PlanRecorded(at=37, definition=BLOCK),
    RollbackRequested(at=38, by="cli", error=ERROR, scope_id="c1"),
    Claimed(at=39, token=3, driver_id="d", takeover=True, resumes=True),
    ScopeOpened(at=40, scope=SCOPE),
    ScopeReleased(at=41, scope_id="c1"),
    StepAdded(at=42, step=BLOCK.steps[0], fork="s7", request_id="r1", name="s0"),
    StepRequested(at=43, request_id="r1", step=BLOCK.steps[1], scopes=(SCOPE,), by="me"),
    StepRefused(at=44, request_id="r1", error=ERROR),
    ApprovalRequested(at=45, step_id="s1", digest="ab12", data={"order": "7"}, until=99),
    ApprovalGiven(at=46, step_id="s1", digest="ab12", by="ann", note="fine"),
    ApprovalDenied(at=47, step_id="s1", by="ann", note="too much"),
    PartialRollbackStarted(
        at=48, step_ids=("s1", "s2"), reason="in_doubt", scope_id="c1", step_id="s1", error=ERROR
    ),
    UndoRequestRefused(at=49, scope_id="c1", step_ids=("s3",)),
    UndoWindowClosing(at=50, step_id="s1", until=99),
    RereadAnswered(at=51, step_id="s1", holds=False, error=ERROR),
    CommitDecided(at=52),
    ConfirmationStarted(at=53, step_id="s1", attempt=1),
    ConfirmationSucceeded(at=54, step_id="s1", attempt=1, simulated=True),
    ConfirmationFailed(at=55, step_id="s1", attempt=1, error=ERROR, will_retry=True),
    RetryScheduled(at=56, step_id="s1", operation="confirmation", attempt=2, due_at=99),
    # Since resources are locked.
    PlanRecorded(at=57, definition=SHARING),
    LocksAwaited(at=58, resources=SHARING.steps[0].resources, behind=("tx-2",), step_id="s1"),
    LocksGranted(
        at=59, grants=(Grant("account:42", 7), Grant("file:/é", 1, "shared")), step_id="s1"
    ),
    VersionsRead(at=60, versions=(ReadVersion("rate:usd", 3),)),
    # Since backups.
    RestoredFromBackup(at=61, made_at=60, by="ann", note="the disk died"),
    TrustGiven(at=62, by="ann", note="nothing was booked"),
]
# The body of each entry, and its hash in one chain of transaction "tx".
VECTORS = [
    (
        (
            '{"at":1,"definition":{"actions":{"act":{"kind":"http"}},"created_at":1'
            '772193600000000,"name":"trip","on_compensation_failure":"halt","on_cra'
            'sh":"roll_back","steps":[{"action":"reserve_flight","agent_id":"flight'
            '_agent","compensating_action":"cancel_flight","data":{"flight":"F123"}'
            ',"step_id":"s1"},{"action":"charge","after":[],"agent_id":"billing","d'
            'ata":{"amount":850.5,"flight":null},"effect":"none","idempotent":true,'
            '"on_unknown":"ask","references":[{"at":"/id","into":["flight"],"step_i'
            'd":"s1"}],"step_id":"s2"}],"timeout_scope":"transaction","timeout_seco'
            'nds":60.0},"id":"append.1","kind":"plan_recorded","v":1}'
        ),
        "c429bb69a4442f666fe14b3811fdf26ad3b30a1ca47b2caf74c56db17c3f323a",
    ),
    (
        (
            '{"at":2,"definition":{"created_at":1,"timeout_seconds":60},"id":"appen'
            'd.2","kind":"transaction_imported","source":"file","state":"committed"'
            ',"v":1}'
        ),
        "7c0a7aea3983c3b72a2fe2463caacedfba75a723a093faf759b84be53851faf3",
    ),
    (
        '{"at":3,"by":"cli","id":"append.3","kind":"commit_requested","v":1}',
        "2c8b0f773061899193a55397b146d4608de4be9c8af6b20ecac5b9b1452b7ea1",
    ),
    (
        (
            '{"at":4,"by":"cli","id":"append.4","kind":"rollback_requested","note":'
            '"why","reason":"cancelled","v":1}'
        ),
        "e92e98d7147ec026c9eb745f2d538d8e6fa737e584e2faccbf590115a14443ae",
    ),
    (
        (
            '{"at":5,"by":"me","id":"append.5","kind":"retry_requested","note":"why'
            '","step_id":"s1","v":1}'
        ),
        "feb5f13db7072cb0773ca8c411a4672971db4aeccea146167e80bbb9406d265b",
    ),
    (
        (
            '{"answer":"left_in_place","at":6,"by":"me","id":"append.6","kind":"res'
            'olution_given","note":"why","step_id":"s1","v":1}'
        ),
        "ce858537ccc1dc569dbaaeb300feaf588d0f811e4c554789ee5d678d9f8461bc",
    ),
    (
        '{"at":7,"driver_id":"d","id":"append.7","kind":"claimed","takeover":true,"token":2,"v":1}',
        "13edee7c536c3eb5e074ee80ac0adefaf9a428d58f2c92befd5fce9a647c5239",
    ),
    (
        '{"at":8,"id":"append.8","kind":"transaction_activated","v":1}',
        "75025a525d8971c69e6340bec8b33f28d827c7b9b3d2189100dfdef11f0ce411",
    ),
    (
        (
            '{"at":9,"error":{"message":"no «money»","type":"CardDeclined"},"id":"a'
            'ppend.9","kind":"transaction_expired","v":1}'
        ),
        "da3f6afaa79e97b6bb7c6093b67bb36343a01ad8a5137d29226d39e98c214866",
    ),
    (
        (
            '{"at":10,"attempt":1,"data":{"a":[null,true,1.0,"é"],"b":1},"id":"appe'
            'nd.10","kind":"step_started","step_id":"s1","v":1}'
        ),
        "bec01dd10aeb0879036db428eaad00bc51a258c6fa5dc600e54171d9bb2f065b",
    ),
    (
        (
            '{"at":11,"attempt":1,"id":"append.11","kind":"step_succeeded","output"'
            ':[1,2.5],"simulated":true,"step_id":"s1","v":1,"warning":"w"}'
        ),
        "6fd174bdf2bac9ed79f3e171428114cd713159d94992d6c0d8a6b9a6953f1830",
    ),
    (
        (
            '{"at":12,"attempt":1,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.12","kind":"step_failed","step_id":"s1","v":1}'
        ),
        "94717491e84982ddac875d891c1988f1f7856de18f4886fd89626efddd229469",
    ),
    (
        (
            '{"at":13,"attempt":1,"cause":"crash","error":{"message":"no «money»","'
            'type":"CardDeclined"},"id":"append.13","kind":"step_in_doubt","step_id'
            '":"s1","v":1}'
        ),
        "d12f8a4011dbd1748e83ee14526dcb62a6e5863d184d5b6ebcbf107775a71262",
    ),
    (
        (
            '{"at":14,"error":{"message":"no «money»","type":"CardDeclined"},"id":"'
            'append.14","kind":"rollback_started","reason":"step_failed","step_id":'
            '"s1","v":1}'
        ),
        "2dca89a631112e99e42f69b7360c733fcc4e78c4b6d7f736fa1d65e31b438147",
    ),
    (
        (
            '{"at":15,"attempt":1,"id":"append.15","in_doubt":true,"kind":"compensa'
            'tion_started","step_id":"s1","v":1}'
        ),
        "2186c28309a6d7e5713eda623321fcced0df2cf213d4cc895410bbc9d14cccfc",
    ),
    (
        (
            '{"at":16,"attempt":1,"id":"append.16","kind":"compensation_succeeded",'
            '"simulated":true,"step_id":"s1","v":1}'
        ),
        "3fa609ef8a525f2730f7521780ace3d7fc9a3da29ef13a20612d800e69887cc1",
    ),
    (
        (
            '{"at":17,"attempt":1,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.17","kind":"compensation_failed","step_id":"s1","v"'
            ':1,"will_retry":true}'
        ),
        "746ff44b9ab2c0d2cd21aedd560c3e60405c141ba9eb704daace2dea1ea4d4cd",
    ),
    (
        (
            '{"at":18,"error":{"message":"no «money»","type":"CardDeclined"},"id":"'
            'append.18","kind":"step_outstanding","reason":"no_handler","step_id":"'
            's1","v":1}'
        ),
        "403b1a5da576bde9af00f4fe3129f4d702f1eede98767ff0a8c971634cf558a8",
    ),
    (
        '{"at":19,"id":"append.19","kind":"transaction_committed","v":1}',
        "e296344346c0a3b445a92462e543f71e57eee0623fc1554545b108a43aca820f",
    ),
    (
        '{"at":20,"id":"append.20","kind":"transaction_rolled_back","v":1}',
        "ee96d3d67eb8d659ff34616d3b515e04d43f1f20163ed59a890723cc4411682e",
    ),
    (
        (
            '{"at":21,"definition":{"created_at":1772193600000000,"key":"order-7","'
            'steps":[{"action":"charge","agent_id":"billing","data":{},"policy":{"a'
            'bandon_after_seconds":7.5,"has_probe":true,"has_verify":true,"probe_re'
            'try":{"attempts_max":2},"retry":{"attempts_max":3,"budget_seconds":120'
            '.0,"delay_factor":3.0,"delay_seconds_max":30.0,"first_delay_seconds":1'
            '.0,"jitter":0.5},"timeout_seconds":5.0,"undo_idempotent":true,"undo_re'
            'try":{},"undo_timeout_seconds":2.0,"verify_retry":{"attempts_max":4}},'
            '"step_id":"s1"}],"timeout_seconds":60},"id":"append.21","kind":"plan_r'
            'ecorded","v":1}'
        ),
        "cef3cc9f1e97d5dc698c330b3a7d6b129fe37676bdd000b5e2741b4484fdcddc",
    ),
    (
        (
            '{"at":22,"attempt":1,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.22","kind":"step_failed","step_id":"s1","v":1,"will'
            '_retry":true}'
        ),
        "3b516c3ad1234f7ac51404bce116fdbbcf75361518f11f4be31ad0132d1ce4db",
    ),
    (
        (
            '{"at":23,"attempt":2,"draw":0.25,"due_at":99,"id":"append.23","kind":"'
            'retry_scheduled","operation":"action","step_id":"s1","v":1}'
        ),
        "1ce3d367517a9599d32f6e91acf3213470d52e791f41c11150cc6fec23938e3d",
    ),
    (
        (
            '{"at":24,"attempt":2,"cause":"timeout","error":{"message":"no «money»"'
            ',"type":"CardDeclined"},"id":"append.24","kind":"step_in_doubt","left_'
            'behind":true,"step_id":"s1","v":1}'
        ),
        "244b8765b3dbf01ad9416bd256701cccc79b9da4db1574ca0fb9fa78afc9e63d",
    ),
    (
        '{"at":25,"attempt":1,"id":"append.25","kind":"probe_started","step_id":"s1","v":1}',
        "13d4dd6cf42ec2f4b3bd474a7c22824e18190ffb622ce8654a08c42dfc5ebb3b",
    ),
    (
        (
            '{"answer":"done","at":26,"attempt":1,"id":"append.26","kind":"probe_an'
            'swered","output":{"id":7},"step_id":"s1","v":1,"warning":"w"}'
        ),
        "b18feb7a9e08e30e4e30cf72b176f5fe9038266f04b794f095d2e8c81979beed",
    ),
    (
        (
            '{"answer":"not_done","at":27,"attempt":1,"error":{"message":"no «money'
            '»","type":"CardDeclined"},"id":"append.27","kind":"probe_answered","st'
            'ep_id":"s1","v":1,"will_retry":true}'
        ),
        "88f3f790dd69b5671ba1b7494a91f7b16cc4ccb33e33fa26977e461882204b9c",
    ),
    (
        (
            '{"at":28,"attempt":1,"id":"append.28","kind":"call_returned_late","ope'
            'ration":"action","outcome":"succeeded","output":[7],"step_id":"s1","v"'
            ":1}"
        ),
        "bbc3d0c49f09c78b07cf1b84228721855cb2cb18470e0a2a896ff386fe3b843d",
    ),
    (
        (
            '{"at":29,"attempt":2,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.29","kind":"call_returned_late","operation":"compen'
            'sation","outcome":"not_done","step_id":"s1","v":1}'
        ),
        "e58feb4cb6764117740706ba7e65498148b7c5407f0304fb4c8702cf5dbbe548",
    ),
    (
        (
            '{"at":30,"attempt":1,"id":"append.30","kind":"rollback_revoked","outpu'
            't":{"id":8},"step_id":"s1","v":1,"warning":"w"}'
        ),
        "8ecb1c47b8ff99e18cbe0627a076044c904fc3909fa1cf3441f2f2d5270119dd",
    ),
    (
        (
            '{"at":31,"attempt":1,"id":"append.31","kind":"compensation_succeeded",'
            '"note":"there was nothing to undo","step_id":"s1","v":1}'
        ),
        "44e37cfee25d62d13ad2fc326e73218f30c17690f9d0ee3c73f09dba21a3b252",
    ),
    (
        (
            '{"at":32,"attempt":1,"id":"append.32","kind":"verification_started","s'
            'tep_id":"s1","v":1}'
        ),
        "881f8d4b4e1d44cc7b31a4aa2eca6a04ec30a499bc6e1eeac581e12084903872",
    ),
    (
        (
            '{"answer":"residue","at":33,"attempt":1,"error":{"message":"no «money»'
            '","type":"CardDeclined"},"id":"append.33","kind":"verification_answere'
            'd","left":[1],"step_id":"s1","v":1}'
        ),
        "86d0701c5285ccce9bd75f9618bcd74aa92d0e98211c049809c19dead39c900f",
    ),
    (
        (
            '{"answer":"unknown","at":34,"attempt":2,"id":"append.34","kind":"verif'
            'ication_answered","step_id":"s1","v":1,"will_retry":true}'
        ),
        "69602210e6a5c6b77f411acdb9a5f9f4251eadf75a5665ef64157a26807916f1",
    ),
    (
        (
            '{"at":35,"id":"append.35","kind":"step_outstanding","reason":"may_stil'
            'l_act","step_id":"s1","v":1}'
        ),
        "d2beae5f8b43371c557d977676fda0a875bdc3280a822f7123f39eecb76abae9",
    ),
    (
        (
            '{"at":36,"attempt":1,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.36","kind":"compensation_failed","left_behind":true'
            ',"step_id":"s1","v":1}'
        ),
        "45cd4543b7bc4a1f364c90b85f22d727c83f6f64fc4844f9bc7605592326798d",
    ),
    (
        (
            '{"at":37,"definition":{"allow_irreversible_first":true,"created_at":17'
            '72193600000000,"on_crash":"wait","on_undo_window":"roll_back","paralle'
            'l_compensation":true,"resume_within_seconds":90.0,"shape":"interactive'
            '","steps":[{"action":"charge","agent_id":"billing","approval_timeout_s'
            'econds":30.0,"confirming_action":"capture","data":{"order":null},"effe'
            'ct":"irreversible","intent":"0123","pivot":true,"policy":{"confirm_ret'
            'ry":{"attempts_max":2},"confirm_timeout_seconds":3.0,"has_reread":true'
            '},"references":[{"into":["order"],"step_id":"s0","type":"string"}],"re'
            'quires_approval":true,"scope_id":"c1","step_id":"s1","undo_within_seco'
            'nds":60.0},{"action":"mail","agent_id":"a","data":{},"on_commit":true,'
            '"step_id":"s2"}],"timeout_seconds":3600},"id":"append.37","kind":"plan'
            '_recorded","v":1}'
        ),
        "18800b76b61ba6f1fb9fa9e89b813468b6fcca7c1661e6054df6a3d79cfea6c5",
    ),
    (
        (
            '{"at":38,"by":"cli","error":{"message":"no «money»","type":"CardDeclin'
            'ed"},"id":"append.38","kind":"rollback_requested","scope_id":"c1","v":'
            "1}"
        ),
        "2dfd594de6dc0435e8625d8886c566b51337e29fd582dc6a1392307482cb53a2",
    ),
    (
        (
            '{"at":39,"driver_id":"d","id":"append.39","kind":"claimed","resumes":t'
            'rue,"takeover":true,"token":3,"v":1}'
        ),
        "447c31a1b512195beb404615b4a96915460dbff9a6e0bcd8d520a08913904551",
    ),
    (
        (
            '{"at":40,"id":"append.40","kind":"scope_opened","scope":{"expires_at":'
            '1772193700000000,"kind":"child","name":"hotel","parent":"s1","scope_id'
            '":"c1"},"v":1}'
        ),
        "71cf7e8a2db3123a4e9ff7a2f9a76b99a835712f838542b157109cb07cf062bb",
    ),
    (
        '{"at":41,"id":"append.41","kind":"scope_released","scope_id":"c1","v":1}',
        "01fc3e8f68c5f3dfffbd0436552fd0546df2bdd1dbc0d5a4bf6ee4a8e2d07ed5",
    ),
    (
        (
            '{"at":42,"fork":"s7","id":"append.42","kind":"step_added","name":"s0",'
            '"request_id":"r1","step":{"action":"charge","agent_id":"billing","appr'
            'oval_timeout_seconds":30.0,"confirming_action":"capture","data":{"orde'
            'r":null},"effect":"irreversible","intent":"0123","pivot":true,"policy"'
            ':{"confirm_retry":{"attempts_max":2},"confirm_timeout_seconds":3.0,"ha'
            's_reread":true},"references":[{"into":["order"],"step_id":"s0","type":'
            '"string"}],"requires_approval":true,"scope_id":"c1","step_id":"s1","un'
            'do_within_seconds":60.0},"v":1}'
        ),
        "0c7f050af56c0e9a702fc0b7c4ba18290352ea1bc632008812eee1db6e306cbc",
    ),
    (
        (
            '{"at":43,"by":"me","id":"append.43","kind":"step_requested","request_i'
            'd":"r1","scopes":[{"expires_at":1772193700000000,"kind":"child","name"'
            ':"hotel","parent":"s1","scope_id":"c1"}],"step":{"action":"mail","agen'
            't_id":"a","data":{},"on_commit":true,"step_id":"s2"},"v":1}'
        ),
        "a4265b306bd49fbf5c718b55b9e965757483680a225824a81999f20b963456be",
    ),
    (
        (
            '{"at":44,"error":{"message":"no «money»","type":"CardDeclined"},"id":"'
            'append.44","kind":"step_refused","request_id":"r1","v":1}'
        ),
        "625fedece3b6cdbe8fa9870405d49b2fb7b23e728c36b21d23de03647ef16d41",
    ),
    (
        (
            '{"at":45,"data":{"order":"7"},"digest":"ab12","id":"append.45","kind":'
            '"approval_requested","step_id":"s1","until":99,"v":1}'
        ),
        "96383995865839f1f95fc3d8eb3ffc3eb1aa073b24907873f9c5593db5da3632",
    ),
    (
        (
            '{"at":46,"by":"ann","digest":"ab12","id":"append.46","kind":"approval_'
            'given","note":"fine","step_id":"s1","v":1}'
        ),
        "9c254835289e7a034f39f5a09f2faf444f8ff723faab5356696075e54a068fb0",
    ),
    (
        (
            '{"at":47,"by":"ann","id":"append.47","kind":"approval_denied","note":"'
            'too much","step_id":"s1","v":1}'
        ),
        "c8a12c143b869c29e7c4229342b5235a19d6e565712800a2dc02ebc09182e4e6",
    ),
    (
        (
            '{"at":48,"error":{"message":"no «money»","type":"CardDeclined"},"id":"'
            'append.48","kind":"partial_rollback_started","reason":"in_doubt","scop'
            'e_id":"c1","step_id":"s1","step_ids":["s1","s2"],"v":1}'
        ),
        "b3e422de61abdb9049c4f6f3db3cb1e2f687ae8c1edeab9aacaf1bbbacdeb377",
    ),
    (
        (
            '{"at":49,"id":"append.49","kind":"undo_request_refused","scope_id":"c1'
            '","step_ids":["s3"],"v":1}'
        ),
        "aba0999d16d0c1c279ce23557ced0517d757fb467c5b172380dccaeda4f7931c",
    ),
    (
        '{"at":50,"id":"append.50","kind":"undo_window_closing","step_id":"s1","until":99,"v":1}',
        "ba2f42cf61d518192826de340dce94a0543365cfb5a700fab71135b486df6a0c",
    ),
    (
        (
            '{"at":51,"error":{"message":"no «money»","type":"CardDeclined"},"holds'
            '":false,"id":"append.51","kind":"reread_answered","step_id":"s1","v":1'
            "}"
        ),
        "3794ba29e75ae4afe6853d0dd2730e9ed0f33f52ccaac5d9227a6c7a51eb46ef",
    ),
    (
        '{"at":52,"id":"append.52","kind":"commit_decided","v":1}',
        "c90ce0776b47257d5f36a3701d2563e9d8328b7a9bc4241f6a9553b02fb55da1",
    ),
    (
        (
            '{"at":53,"attempt":1,"id":"append.53","kind":"confirmation_started","s'
            'tep_id":"s1","v":1}'
        ),
        "a7c5ebe4dfbd61f9cbdc6ac864ddb6baccaec88a855242f42024a0722bd19256",
    ),
    (
        (
            '{"at":54,"attempt":1,"id":"append.54","kind":"confirmation_succeeded",'
            '"simulated":true,"step_id":"s1","v":1}'
        ),
        "c7aab8a71f0844ebe2d7970eb1605651b6f7f0cbe23e97f35807fedc7070ec04",
    ),
    (
        (
            '{"at":55,"attempt":1,"error":{"message":"no «money»","type":"CardDecli'
            'ned"},"id":"append.55","kind":"confirmation_failed","step_id":"s1","v"'
            ':1,"will_retry":true}'
        ),
        "a2d3c613a9646b88e1742119af05845342e5814585c782fb311689a6089ce424",
    ),
    (
        (
            '{"at":56,"attempt":2,"due_at":99,"id":"append.56","kind":"retry_schedu'
            'led","operation":"confirmation","step_id":"s1","v":1}'
        ),
        "c8ae26cde95bb04a94a69b3b6b9f8f44aa6229a6aea8a97393e4ce57494e18f4",
    ),
    (
        (
            '{"at":57,"definition":{"created_at":1772193600000000,"isolation":"vali'
            'dated","lock_timeout_seconds":5.0,"release_outstanding_locks":true,"st'
            'eps":[{"action":"debit","agent_id":"a","data":{},"resources":[{"name":'
            '"account:42"},{"mode":"shared","name":"rate:usd"}],"step_id":"s1"}],"t'
            'imeout_seconds":60},"id":"append.57","kind":"plan_recorded","v":1}'
        ),
        "80c262f59eccfdc555bf9685ea3a674cbfc24fd3233c1e9c70eed065f56e324e",
    ),
    (
        (
            '{"at":58,"behind":["tx-2"],"id":"append.58","kind":"locks_awaited","re'
            'sources":[{"name":"account:42"},{"mode":"shared","name":"rate:usd"}],"'
            'step_id":"s1","v":1}'
        ),
        "4ce44d3340423c2729867fdb0dcda2814088ac90bf75151f8011e84c99711d60",
    ),
    (
        (
            '{"at":59,"grants":[{"name":"account:42","token":7},{"mode":"shared","n'
            'ame":"file:/é","token":1}],"id":"append.59","kind":"locks_granted","st'
            'ep_id":"s1","v":1}'
        ),
        "c2d3e0ee77169f6119db89b7e06cd525223292174441e6809fd0439294a00e84",
    ),
    (
        (
            '{"at":60,"id":"append.60","kind":"versions_read","v":1,"versions":[{"n'
            'ame":"rate:usd","version":3}]}'
        ),
        "dbe1db6133a296922575a5d1a0527b4cd11c0aadcefceaf62f5c564ae42ee491",
    ),
    (
        (
            '{"at":61,"by":"ann","id":"append.61","kind":"restored_from_backup","ma'
            'de_at":60,"note":"the disk died","v":1}'
        ),
        "add1bab0bdbef60e13426aadf5c43e2f60def564930a5607938706ab80fb28c6",
    ),
    (
        (
            '{"at":62,"by":"ann","id":"append.62","kind":"trust_given","note":"noth'
            'ing was booked","v":1}'
        ),
        "2fe9546cd5aa69d89cb73de9617dc99d8cc738de9ad9fdc787cc01a5b7a00a45",
    ),
]
NUMBERED = list(enumerate(zip(ENTRIES, VECTORS, strict=True), 1))


@pytest.mark.parametrize("number,entry_and_vector", NUMBERED)
def test_an_entry_is_written_and_read_as_it_was_when_its_kind_was_new(number, entry_and_vector):
    entry, (body, _hash) = entry_and_vector
    assert encode(entry, f"append.{number}").decode() == body
    found = decode(body.encode(), "tx", number)
    assert found == (f"append.{number}", entry)
    assert type(found[1]) is type(entry)


def test_the_hashes_of_all_releases_still_fit():
    before = NO_HASH
    for number, (body, wanted) in enumerate(VECTORS, 1):
        before = chain_hash("tx", number, before, body.encode())
        assert before.hex() == wanted


def test_every_kind_of_entry_has_a_vector():
    assert {type(entry) for entry in ENTRIES} == set(KINDS.values())


def test_the_names_of_the_kinds_never_change():
    names = hashlib.sha256("\n".join(sorted(KINDS)).encode()).hexdigest()
    assert len(KINDS) == 48, "add the new kind here; an old one is never removed or renamed"
    assert names == "e8456b26742d8b093d11d53a67cb25451b53e31e7dd9e4fae7265abcfd645c20"


@pytest.mark.parametrize("operation", get_args(Operation))
def test_the_idempotency_key_never_changes(operation):
    assert idempotency_key("6f1c-tx", "s1", operation) == f"6f1c-tx/s1/{operation}"
