/* One transaction of STEPS steps in a row, driven by DRIVERS processes over one store, with
   participants behind a network that loses, doubles, delays and reorders.

   What stands for what is in README.md beside this file. A driver may die at any point; its lease
   may lapse at any point, so that two drivers believe that they have the transaction; an append may
   be lost, applied late, applied with its answer lost, and sent again.

   Why no copy of the journal for each driver: what a driver knows is a prefix of the journal. Where
   it is all of it, copy and journal are the same; where it is not, its append names a sequence that
   is not the last one, and is refused, whatever it says. So a decision is made on the journal as it
   is at that moment, and from there on travels as it was made. `fresh` says whether the sequence
   that it names is still the last one, `holder` whose token is in force.

   Each -D of the section "safeguards" takes one away. */

#ifndef STEPS
#define STEPS 2
#endif
#ifndef DRIVERS
#define DRIVERS 2
#endif
#ifndef CLAIMS
#define CLAIMS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#ifndef FAULTS
#define FAULTS 2
#endif

/* What is declared about the action of each step. */
#define PLAIN 0       /* neither idempotent nor with a probe: each attempt acts, at most once */
#define IDEMPOTENT 1  /* the participant knows the key: all attempts together act at most once */
#define PROBED 2      /* and can be asked; the action is not run again without having asked */
#ifndef FIRST
#define FIRST IDEMPOTENT
#endif
#ifndef OTHERS
#define OTHERS PLAIN
#endif
#define DECLARED(i) ((i) == 0 -> FIRST : OTHERS)

/* -------------------------------------------------------------------------- safeguards: to remove
   NO_FENCE            the store takes appends under a token that is not in force
   NO_EXPECTED         the store does not compare the expected sequence with the last one
   NO_ALREADY_OURS     the store does not know an append again that it has made
   NO_INTENT           no intent is recorded before an action is called
   GUESS_APPENDED      an append without an answer counts as made
   TIMEOUT_IS_FAILURE  a call without an answer counts as not done
   UNDELIVERED_CLEARS  that a later attempt was not delivered counts as the answer to all of them
   RERUN_BLIND         a step in doubt runs again whatever is declared
   UNDO_SURE_ONLY      a step in doubt is not undone
   UNDO_FORWARDS       the first step is undone first
   EARLY_END           the end is recorded before the last undo was answered
   NO_UNDO_WISH        a wish to go back is not looked at
   CRASH_IS_FAILURE    what a dead driver had begun counts as not done
   NO_TOMBSTONE        an undo of nothing leaves nothing at the participant
   PROBE_ONLY_LOOKS    a probe that finds nothing leaves nothing at the participant
   KEY_BY_ATTEMPT      each attempt has a key of its own
   NO_RESEND           an append without an answer is not sent again (liveness)
   NO_TAKEOVER         nobody goes on with what a dead driver had (liveness)
   ---------------------------------------------------------------------------------------------- */

/* States of the transaction, and of its steps. */
#define ACTIVE 0
#define COMPENSATING 1
#define COMMITTED 2
#define ROLLED_BACK 3
#define FINAL (phase >= COMMITTED)

#define S_PENDING 0
#define S_RUNNING 1
#define S_SUCCEEDED 2
#define S_FAILED 3       /* not done */
#define S_IN_DOUBT 4
#define S_UNDOING 5      /* the intent of its undo is recorded */
#define S_COMPENSATED 6
#define MAY_STAND(s) ((s) == S_RUNNING || (s) == S_SUCCEEDED || (s) == S_IN_DOUBT || (s) == S_UNDOING)

/* What was seen of the last call, and what is to be done next. */
#define NOTHING 0
#define RETURNED 1
#define REJECTED 2
#define TIMED_OUT 3
#define NOT_DELIVERED 4
#define SAID_DONE 5
#define SAID_NOT_DONE 6
#define SAID_UNKNOWN 7

#define START 1
#define PROBE 2
#define UNDO 3
#define COMMIT 4
#define END_UNDO 5

/* Answers of the store, and rows of a participant. */
#define APPENDED 1       /* or already ours: the driver does the same */
#define MOVED 2
#define FENCED 3

#define R_NONE 0
#define R_DONE 1
#define R_REFUSED 2
#define R_UNDONE 3
#define R_TOMBSTONE 4

/* What a driver is at. */
#define IDLE 0
#define APPENDING 1
#define CALLING 2
#define WAITING 3

/* -------------------------------------------------------------------- the journal, folded (Saga) */
byte phase;
byte st[STEPS];
byte attempt[STEPS];     /* the last one that was begun; where it is recorded, its intent is */
bit crashed[STEPS];      /* in doubt because its driver died */
bit asked[STEPS];        /* its probe had no answer */
bit undo_intent[STEPS];
bit wish;                /* RollbackRequested */
byte holder = DRIVERS;   /* whose token is in force */
byte claims;

/* ------------------------------------------------------------------------------ the store's door */
bit under_way[DRIVERS];  /* an append travels to the store */
byte answer[DRIVERS];    /* of the store, to the last append */
bit fresh[DRIVERS];      /* the sequence that the driver names is the last one */
bit made[DRIVERS];       /* the journal holds the entry ids of its append */
bit m_claim[DRIVERS];
byte m_seen[DRIVERS];    /* the append: what was seen of which step, */
byte m_step[DRIVERS];
bit m_back[DRIVERS];     /* whether the transaction goes back, */
byte m_next[DRIVERS];    /* and what is done next with which step */
byte m_on[DRIVERS];
byte m_attempt[DRIVERS];

/* --------------------------------------------------------------------------- drivers and network */
byte at[DRIVERS];
byte crashes;
byte faults;
byte sent[STEPS];        /* calls of the action that may arrive: one bit for each attempt */
bit undo_sent[STEPS];
byte probe_sent[DRIVERS];  /* by each driver, about attempts up to this one; */
byte probe_on[DRIVERS];    /* of this step; */
byte said[DRIVERS];        /* and its answer, which nobody else hears */

/* ------------------------------------------------------------------------------ the participants */
#ifdef KEY_BY_ATTEMPT
#define KEYS ATTEMPTS
#define KEY(i, a) ((i) * ATTEMPTS + (a) - 1)
#else
#define KEYS 1
#define KEY(i, a) (i)
#endif
byte row[STEPS * KEYS];
byte until[STEPS];       /* a tombstone only for attempts up to this one; 0: for all */
bit undone[STEPS];       /* the row of the undo's own key */
byte effects[STEPS];     /* that stand */
byte acts[STEPS];        /* that there ever were */

/* -------------------------------------------------------- what is left where one is taken away */
#ifdef RERUN_BLIND
#define MAY_RUN_AGAIN(s) true
#else
#define MAY_RUN_AGAIN(s) (DECLARED(s) == IDEMPOTENT)
#endif
#ifdef UNDO_SURE_ONLY
#define TO_UNDO(s) ((s) == S_SUCCEEDED || (s) == S_UNDOING)
#else
#define TO_UNDO(s) ((s) == S_SUCCEEDED || (s) == S_IN_DOUBT || (s) == S_UNDOING)
#endif
#ifdef NO_FENCE
#define FENCES false
#else
#define FENCES true
#endif
#ifdef NO_EXPECTED
#define COMPARES m_claim[w]   /* What remains is the compare and set of a claim's token. */
#define KNOWS_AGAIN m_claim[w]
#else
#define COMPARES true
#ifdef NO_ALREADY_OURS
#define KNOWS_AGAIN false
#else
#define KNOWS_AGAIN true
#endif
#endif
/* For liveness all faults together are bounded: they stop. For safety they never do. */
#ifdef LIVENESS
#define FAULT (faults < FAULTS)
#define COUNT_FAULT faults++
#else
#define FAULT true
#define COUNT_FAULT skip
#endif
#define BIT(a) (1 << ((a) - 1))
#define ADMITS(i, a) (row[KEY(i, a)] == R_NONE || (row[KEY(i, a)] == R_TOMBSTONE && until[i] && (a) > until[i]))
#define PLAIN_ADMITS(i, a) (row[KEY(i, a)] != R_TOMBSTONE && row[KEY(i, a)] != R_UNDONE)
#ifdef NO_RESEND
#define RESENDS false
#else
#define RESENDS true
#endif
#define GO_ON(w) if :: m_next[w] == START || m_next[w] == UNDO || m_next[w] == PROBE -> at[w] = CALLING; forget(w) :: else -> let_go(w) fi; i = 0

#ifdef TIMEOUT_IS_FAILURE
#define UNANSWERED S_FAILED
#else
#define UNANSWERED S_IN_DOUBT
#endif
#ifdef UNDELIVERED_CLEARS
#define CLEARS(a) true
#else
#define CLEARS(a) ((a) == 1)   /* The answer to a first attempt; no answer to an earlier one. */
#endif

/* What an entry about a call means, to the journal or to a draft of it. */
#define EVOLVE_SEEN(s, a, c, q, seen, on, in_phase) \
  if \
  :: seen == RETURNED -> s[on] = (s[on] == S_UNDOING -> S_COMPENSATED : S_SUCCEEDED) \
  :: seen == REJECTED -> s[on] = S_FAILED \
  :: seen == TIMED_OUT && s[on] == S_RUNNING -> s[on] = UNANSWERED; c[on] = 0 \
  :: seen == TIMED_OUT && s[on] != S_RUNNING   /* an undo: it is called again */ \
  :: seen == NOT_DELIVERED -> s[on] = (CLEARS(a[on]) -> S_FAILED : S_IN_DOUBT); c[on] = 0 \
  :: seen == SAID_DONE -> s[on] = S_SUCCEEDED \
  :: seen == SAID_NOT_DONE ->   /* what a crash cut off is run as if for the first time */ \
     s[on] = (c[on] && in_phase == ACTIVE -> S_PENDING : S_FAILED) \
  :: seen == SAID_UNKNOWN -> q[on] = 1 \
  :: seen == NOTHING \
  fi

/* Why names: they are what pan prints. None of them is ever set. */
hidden byte I1_no_call_before_its_intent, I2_committed_means_all_in_force,
    I2_rolled_back_means_nothing_stands, I3_order, I4_no_forward_after_back, I5_never_twice,
    I6_one_driver, I8_one_end, I13_unknown_stays_unknown, a_wish_is_heard, an_entry_follows;

#ifdef WORLD
#define RULE(condition, name) skip   /* Only what the world sees. */
#else
#define RULE(condition, name) assert((condition) || name)
#endif
#define WORLD_RULE(condition, name) assert((condition) || name)

#define SOMETIMES(what) c_code { static int told; if (!told) { told = 1; printf("reached: " #what "\n"); } }; i = 0

hidden byte i, d, n, v, x, y, t_phase, t_late;
hidden byte draft[STEPS];
hidden byte t_attempt[STEPS];
hidden byte t_crashed[STEPS];
hidden byte t_asked[STEPS];

/* What a participant has, against what the journal says. */
inline compare_world() {
  i = 0;
  do
  :: i < STEPS ->
     WORLD_RULE(phase != COMMITTED || (effects[i] == 1 && acts[i] == 1), I2_committed_means_all_in_force);
     WORLD_RULE(phase != ROLLED_BACK || effects[i] == 0, I2_rolled_back_means_nothing_stands);
     WORLD_RULE(acts[i] <= 1, I5_never_twice);
     i++
  :: else -> break
  od;
  i = 0
}

/* ---------------------------------------------------------------------- the core: decide and plan */

/* decide: what must be recorded about what was seen; in t what evolve makes of it. */
inline decide(w, claim, seen, on) {
  draft_of(w, claim, seen, on);
  plan(w);
  if
  :: m_next[w] == START -> m_attempt[w] = t_attempt[m_on[w]] + 1
  :: m_next[w] == PROBE -> m_attempt[w] = t_attempt[m_on[w]]
  :: else
  fi;
  at[w] = APPENDING
}

/* Record what was seen, plan nothing, let go: others go on from there. */
inline stop(w, seen) {
  draft_of(w, 0, seen, m_on[w]);
  at[w] = APPENDING;
  SOMETIMES(let_go_of)
}

inline draft_of(w, claim, seen, on) {
  t_phase = phase;
  i = 0;
  do
  :: i < STEPS ->
     draft[i] = st[i]; t_attempt[i] = attempt[i]; t_crashed[i] = crashed[i]; t_asked[i] = asked[i];
     if
     :: claim && draft[i] == S_RUNNING ->
#ifdef CRASH_IS_FAILURE
        draft[i] = S_FAILED
#else
        draft[i] = S_IN_DOUBT; t_crashed[i] = 1
#endif
     :: else
     fi;
     i++
  :: else -> break
  od;
  EVOLVE_SEEN(draft, t_attempt, t_crashed, t_asked, seen, on, t_phase);
  m_claim[w] = claim; m_seen[w] = seen; m_step[w] = on; m_back[w] = 0; m_next[w] = 0; m_on[w] = 0; m_attempt[w] = 0;
  fresh[w] = 1; made[w] = 0; answer[w] = 0; under_way[w] = 1
}

/* plan: what should be done next. */
inline plan(w) {
  n = STEPS;
  if
  :: t_phase == ACTIVE ->
     i = 0; d = STEPS;
     do
     :: i < STEPS ->
        if
        :: draft[i] == S_FAILED -> m_back[w] = 1
        :: draft[i] == S_IN_DOUBT -> d = i
        :: draft[i] == S_PENDING && n == STEPS -> n = i
        :: else
        fi;
        i++
     :: else -> break
     od;
#ifndef NO_UNDO_WISH
     if
     :: wish -> m_back[w] = 1
     :: else
     fi;
#endif
     if
     :: m_back[w]
     :: !m_back[w] && d < STEPS ->
        if
        :: DECLARED(d) == PROBED && !t_asked[d] -> m_next[w] = PROBE; m_on[w] = d
        :: MAY_RUN_AGAIN(d) && t_attempt[d] < ATTEMPTS -> m_next[w] = START; m_on[w] = d
        :: else -> m_back[w] = 1
        fi
     :: !m_back[w] && d == STEPS && n < STEPS && t_attempt[n] < ATTEMPTS -> m_next[w] = START; m_on[w] = n
     :: !m_back[w] && d == STEPS && n < STEPS && t_attempt[n] >= ATTEMPTS -> m_back[w] = 1
     :: !m_back[w] && d == STEPS && n == STEPS -> m_next[w] = COMMIT
     fi
  :: else
  fi;
  if
  :: t_phase == COMPENSATING || m_back[w] -> plan_undo(w)
  :: else
  fi
}

inline plan_undo(w) {
  i = 0; n = STEPS;
  do
  :: i < STEPS ->
#ifdef UNDO_FORWARDS
     if
     :: TO_UNDO(draft[i]) && n == STEPS -> n = i
     :: else
     fi;
#else
     if
     :: TO_UNDO(draft[i]) -> n = i
     :: else
     fi;
#endif
     i++
  :: else -> break
  od;
  if
  :: n == STEPS -> m_next[w] = END_UNDO
#ifdef EARLY_END
  :: n < STEPS && draft[n] == S_UNDOING -> m_next[w] = END_UNDO
#endif
  :: n < STEPS && draft[n] == S_IN_DOUBT && DECLARED(n) == PROBED && !t_asked[n] ->
     m_next[w] = PROBE; m_on[w] = n
  :: else -> m_next[w] = UNDO; m_on[w] = n
  fi
}

/* ------------------------------------------------------------- the store: append, and evolve on it */
inline append(w) {
  under_way[w] = 0;
  if
  :: !m_claim[w] && holder != w && FENCES -> answer[w] = FENCED; SOMETIMES(fenced)
  :: m_claim[w] && made[w] && holder != w -> answer[w] = MOVED
  :: made[w] && KNOWS_AGAIN && !(!m_claim[w] && holder != w && FENCES) && !(m_claim[w] && holder != w) ->
     answer[w] = APPENDED; SOMETIMES(already_ours)
  :: !made[w] && !fresh[w] && COMPARES && !(!m_claim[w] && holder != w && FENCES) ->
     answer[w] = MOVED; SOMETIMES(moved)
  :: made[w] && !KNOWS_AGAIN && COMPARES && (m_claim[w] -> holder == w : (holder == w || !FENCES)) ->
     answer[w] = MOVED
  :: else -> answer[w] = APPENDED; evolve(w)
  fi
}

inline evolve(w) {
  made[w] = 1;
  i = 0;
  do
  :: i < DRIVERS -> if :: i != w -> fresh[i] = 0 :: else fi; i++
  :: else -> break
  od;
  RULE(!FINAL, I8_one_end);
  if
  :: m_claim[w] ->
     if
     :: holder < DRIVERS -> SOMETIMES(taken_over)
     :: else
     fi;
     holder = w; claims++;
     i = 0;
     do
     :: i < STEPS ->
        if
        :: st[i] == S_RUNNING ->
#ifdef CRASH_IS_FAILURE
           st[i] = S_FAILED
#else
           st[i] = S_IN_DOUBT; crashed[i] = 1
#endif
        :: else
        fi;
        i++
     :: else -> break
     od
  :: else -> RULE(holder == w, I6_one_driver)
  fi;
  evolve_call(w);
  evolve_next(w);
  compare_world()
}

inline evolve_call(w) {
  d = m_step[w];
#ifdef NO_INTENT
  if
  :: m_seen[w] && st[d] == S_PENDING -> st[d] = S_RUNNING; attempt[d]++
  :: else
  fi;
#endif
  if
  :: m_seen[w] == RETURNED || m_seen[w] == REJECTED || m_seen[w] == NOT_DELIVERED || m_seen[w] == TIMED_OUT ->
#ifndef NO_INTENT
     RULE(st[d] == S_RUNNING || (st[d] == S_UNDOING && m_seen[w] != REJECTED), an_entry_follows)
#endif
  :: m_seen[w] == SAID_DONE || m_seen[w] == SAID_NOT_DONE -> RULE(st[d] == S_IN_DOUBT, an_entry_follows)
  :: else
  fi;
  EVOLVE_SEEN(st, attempt, crashed, asked, m_seen[w], d, phase)
}

inline evolve_next(w) {
  if
  :: m_back[w] -> RULE(phase == ACTIVE, an_entry_follows); phase = COMPENSATING
  :: else
  fi;
  d = m_on[w];
  if
  :: m_next[w] == START ->
     RULE(phase == ACTIVE && !(wish && m_back[w]), I4_no_forward_after_back);
     RULE(st[d] == S_PENDING || st[d] == S_IN_DOUBT, an_entry_follows);
     RULE(st[d] == S_PENDING || DECLARED(d) != PLAIN, I5_never_twice);
     RULE(attempt[d] < ATTEMPTS, an_entry_follows);
     if
     :: attempt[d] > 0 -> SOMETIMES(run_again)
     :: else
     fi;
#ifndef NO_INTENT
     st[d] = S_RUNNING; attempt[d] = m_attempt[w]
#endif
  :: m_next[w] == UNDO ->
     RULE(phase == COMPENSATING, an_entry_follows);
     RULE(MAY_STAND(st[d]), an_entry_follows);
     i = d + 1;
     do
     :: i < STEPS -> RULE(!MAY_STAND(st[i]), I3_order); i++
     :: else -> break
     od;
     if
     :: st[d] == S_IN_DOUBT -> SOMETIMES(undone_in_doubt)
     :: else
     fi;
     st[d] = S_UNDOING; undo_intent[d] = 1
  :: m_next[w] == COMMIT ->
     RULE(!wish || m_back[w], a_wish_is_heard);
     WORLD_RULE(!wish, a_wish_is_heard);
     i = 0;
     do
     :: i < STEPS -> RULE(st[i] == S_SUCCEEDED, I2_committed_means_all_in_force); i++
     :: else -> break
     od;
     phase = COMMITTED;
     SOMETIMES(committed)
  :: m_next[w] == END_UNDO ->
     RULE(phase == COMPENSATING, an_entry_follows);
     i = 0;
     do
     :: i < STEPS -> RULE(!MAY_STAND(st[i]), I2_rolled_back_means_nothing_stands); i++
     :: else -> break
     od;
     phase = ROLLED_BACK;
     SOMETIMES(rolled_back)
  :: else
  fi
}

/* What nobody reads any more is no difference between two states. */
inline forget(w) {
  m_claim[w] = 0; m_seen[w] = 0; m_step[w] = 0; m_back[w] = 0; made[w] = 0; fresh[w] = 0; answer[w] = 0
}

inline forget_all(w) {
  forget(w); m_next[w] = 0; m_on[w] = 0; m_attempt[w] = 0
}

inline forget_the_dead(w) {
  if
  :: at[w] == IDLE -> forget_all(w)
  :: else
  fi;
  i = 0
}

inline let_go(w) {
  at[w] = IDLE;
  if
  :: !under_way[w] -> forget_all(w)
  :: else
  fi;
  i = 0
}

/* It arrives, and is answered; or the answer is lost; or the append is. */
#define TAKES_APPENDS_OF(driver) \
  :: d_step { under_way[driver] -> v = driver; append(v); forget_the_dead(v) } \
  :: d_step { under_way[driver] && FAULT -> COUNT_FAULT; v = driver; append(v); answer[v] = 0; forget_the_dead(v) } \
  :: d_step { under_way[driver] && FAULT -> COUNT_FAULT; v = driver; under_way[v] = 0; forget_the_dead(v) }

active proctype Store() {
end:
  do
  TAKES_APPENDS_OF(0)
  TAKES_APPENDS_OF(1)
#if DRIVERS > 2
  TAKES_APPENDS_OF(2)
#endif
  :: d_step { !wish && phase == ACTIVE && FAULT -> COUNT_FAULT; wish = 1;   /* anybody's request, without a token */
       fresh[0] = 0; fresh[1] = 0;
#if DRIVERS > 2
       fresh[2] = 0;
#endif
       SOMETIMES(asked_to_go_back) }
  od
}

/* ----------------------------------------------------------------- the network, and what arrives */
inline action_arrives(s, a) {
  if
  :: DECLARED(s) == PLAIN -> sent[s] = sent[s] & ~BIT(a)   /* It looks at no key: once is all. */
  :: else
  fi;
  row[KEY(s, a)] = R_DONE; effects[s]++; acts[s]++;
  i = 0;
  do
  :: i < STEPS -> WORLD_RULE(!undone[i], I4_no_forward_after_back); i++
  :: else -> break
  od;
  compare_world()
}

inline undo_arrives(s) {
  undone[s] = 1;
  i = s + 1;
  do
  :: i < STEPS -> WORLD_RULE(effects[i] == 0, I3_order); i++
  :: else -> break
  od;
  d = KEY(s, (attempt[s] == 0 -> 1 : attempt[s]));
  if
  :: row[d] == R_DONE -> row[d] = R_UNDONE; effects[s]--
  :: row[d] == R_NONE || row[d] == R_TOMBSTONE ->
#ifndef NO_TOMBSTONE
     row[d] = R_TOMBSTONE; until[s] = 0;
#endif
     SOMETIMES(undid_nothing)
  :: else
  fi;
  compare_world()
}

inline probe_arrives(w) {
  d = KEY(probe_on[w], probe_sent[w]);
  x = probe_on[w];
  if
  :: row[d] == R_DONE -> said[w] = SAID_DONE
  :: else -> said[w] = SAID_NOT_DONE
  fi;
#ifndef PROBE_ONLY_LOOKS
  if
  :: row[d] == R_NONE -> row[d] = R_TOMBSTONE; until[x] = probe_sent[w]; SOMETIMES(probe_left_tombstone)
  :: row[d] == R_TOMBSTONE && until[x] && until[x] < probe_sent[w] -> until[x] = probe_sent[w]
  :: else
  fi;
#endif
  probe_sent[w] = 0
}

#define ARRIVES(s, a) (sent[s] & BIT(a)) && (DECLARED(s) == PLAIN -> PLAIN_ADMITS(s, a) : ADMITS(s, a))

/* The last step may be refused, too. A call that would change nothing need not arrive again. */
#define DELIVERS_ACTION(step, number) \
  :: d_step { ARRIVES(step, number) -> x = step; y = number; action_arrives(x, y) } \
  :: d_step { ARRIVES(step, number) && (step) == STEPS - 1 && row[KEY(step, number)] != R_DONE -> \
       sent[step] = sent[step] & ~BIT(number); row[KEY(step, number)] = R_REFUSED }

active proctype Network() {
end:
  do
  DELIVERS_ACTION(0, 1)
#if ATTEMPTS > 1
  DELIVERS_ACTION(0, 2)
#endif
#if ATTEMPTS > 2
  DELIVERS_ACTION(0, 3)
#endif
  DELIVERS_ACTION(STEPS - 1, 1)
#if ATTEMPTS > 1
  DELIVERS_ACTION(STEPS - 1, 2)
#endif
#if ATTEMPTS > 2
  DELIVERS_ACTION(STEPS - 1, 3)
#endif
#if STEPS > 2
  DELIVERS_ACTION(1, 1)
#if ATTEMPTS > 1
  DELIVERS_ACTION(1, 2)
#endif
#if ATTEMPTS > 2
  DELIVERS_ACTION(1, 3)
#endif
  :: d_step { undo_sent[1] && !undone[1] -> x = 1; undo_arrives(x) }
#endif
  :: d_step { undo_sent[0] && !undone[0] -> x = 0; undo_arrives(x) }
  :: d_step { undo_sent[STEPS - 1] && !undone[STEPS - 1] -> x = STEPS - 1; undo_arrives(x) }
  :: d_step { probe_sent[0] -> v = 0; probe_arrives(v) }
  :: d_step { probe_sent[1] -> v = 1; probe_arrives(v) }
#if DRIVERS > 2
  :: d_step { probe_sent[2] -> v = 2; probe_arrives(v) }
#endif
#ifdef LIVENESS
  :: d_step { FAULT -> faults = FAULTS }   /* Why: no more of them, and nothing waits for one. */
#endif
  od
}

/* ---------------------------------------------------------------------------------------- drivers */
#define ANSWERED_DONE(s, a) (row[KEY(s, a)] == R_DONE)
#define ANSWERED_NO(s, a) (row[KEY(s, a)] == R_REFUSED || row[KEY(s, a)] == R_UNDONE \
    || (row[KEY(s, a)] == R_TOMBSTONE && (!until[s] || (a) <= until[s])))

/* A living driver's lease lapses, or its driver is dead. */
#ifdef LIVENESS
#define DEAD (holder == DRIVERS || at[holder] == IDLE)
#ifdef NO_TAKEOVER
#define MAY_CLAIM(w) (holder == DRIVERS && !under_way[w])
#else
#define MAY_CLAIM(w) (!FINAL && !under_way[w] && (DEAD || (holder != w && FAULT)))
#endif
#define COUNT_CLAIM if :: !DEAD -> COUNT_FAULT :: else fi
#else
#define MAY_CLAIM(w) (!FINAL && !under_way[w] && claims < CLAIMS)
#define COUNT_CLAIM skip
#endif

inline next_turn(w, seen) {
  decide(w, 0, seen, m_on[w])
}

inline make_call(w) {
  d = m_on[w];
  if
  :: m_next[w] == START ->
     RULE(attempt[d] >= m_attempt[w], I1_no_call_before_its_intent);
     sent[d] = sent[d] | BIT(m_attempt[w])
  :: m_next[w] == UNDO -> RULE(undo_intent[d], I1_no_call_before_its_intent); undo_sent[d] = 1
  :: m_next[w] == PROBE -> probe_sent[w] = m_attempt[w]; probe_on[w] = d; said[w] = 0
  fi;
  at[w] = WAITING
}

proctype Driver(byte w) {
end:
  do
  :: d_step { at[w] == IDLE && MAY_CLAIM(w) -> COUNT_CLAIM; decide(w, 1, NOTHING, 0) }
  /* The store has answered. */
  :: d_step { at[w] == APPENDING && answer[w] == APPENDED -> GO_ON(w) }
  :: d_step { at[w] == APPENDING && (answer[w] == FENCED || (answer[w] == MOVED && m_claim[w])) -> let_go(w) }
  :: d_step { at[w] == APPENDING && answer[w] == MOVED && !m_claim[w] && holder != w && FENCES -> let_go(w) }
  :: d_step { at[w] == APPENDING && answer[w] == MOVED && !m_claim[w] && (holder == w || !FENCES) ->
       decide(w, 0, m_seen[w], m_step[w]) }   /* read again, decided again */
  /* It has not: the very same append again. */
  :: d_step { at[w] == APPENDING && answer[w] == 0 && !under_way[w] && RESENDS ->
#ifdef GUESS_APPENDED
       GO_ON(w)
#else
       under_way[w] = 1
#endif
     }
  :: d_step { at[w] == CALLING -> make_call(w) }
  :: d_step { at[w] == CALLING && m_next[w] == START && FAULT -> COUNT_FAULT; next_turn(w, NOT_DELIVERED) }
  /* It stops, or what comes next is far away: it lets go with its last append (parked). */
  :: d_step { at[w] == WAITING && m_next[w] == START && ANSWERED_DONE(m_on[w], m_attempt[w]) -> stop(w, RETURNED) }
  :: d_step { at[w] == WAITING && m_next[w] != PROBE && FAULT -> COUNT_FAULT; stop(w, TIMED_OUT) }
  /* The participant has answered. */
  :: d_step { at[w] == WAITING && m_next[w] == START && ANSWERED_DONE(m_on[w], m_attempt[w]) -> next_turn(w, RETURNED) }
  :: d_step { at[w] == WAITING && m_next[w] == START && ANSWERED_NO(m_on[w], m_attempt[w]) -> next_turn(w, REJECTED) }
  :: d_step { at[w] == WAITING && m_next[w] == UNDO && undone[m_on[w]] -> next_turn(w, RETURNED) }
  :: d_step { at[w] == WAITING && m_next[w] == PROBE && said[w] -> t_late = said[w]; said[w] = 0; next_turn(w, t_late) }
  /* It has not. */
  :: d_step { at[w] == WAITING && m_next[w] != PROBE && FAULT -> COUNT_FAULT; next_turn(w, TIMED_OUT) }
  :: d_step { at[w] == WAITING && m_next[w] == PROBE && FAULT -> COUNT_FAULT; next_turn(w, SAID_UNKNOWN) }
  /* It dies; what it has sent may arrive yet. */
  :: d_step { at[w] != IDLE && crashes < CRASHES && FAULT -> COUNT_FAULT; crashes++; let_go(w); SOMETIMES(died) }
  od
}

init { atomic { d = 0; do :: d < DRIVERS -> run Driver(d); d++ :: else -> break od } }

#ifdef LIVENESS
ltl ends { <> FINAL }
#endif
