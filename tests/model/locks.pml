/* Two transactions that each write two resources, in opposite orders unless PLANNED, and participants
   whose calls may be doubled, and arrive late: also after the transaction that made them is over.

   What stands for what is in README.md beside this file. What makes one transaction safe is in
   transaction.pml; here a transaction is its driver, and a driver that was taken over is what it
   leaves behind: calls that are still on their way.

   -DPLANNED: what is needed is claimed at once, in sorted order, instead of step by step. */

#ifndef FAULTS
#define FAULTS 2
#endif

/* -------------------------------------------------------------------------- safeguards: to remove
   NO_BLOCK            the store grants what another transaction holds
   RELEASE_AFTER_STEP  a resource is let go of when its step has succeeded
   RELEASE_AT_BACK     resources are let go of when the transaction begins to go back
   RELEASE_BY_TIMER    resources of a driver that gives no sign are let go of
   SAME_TOKEN          a grant does not raise the fencing token of its resource
   NO_FENCE            the participant does not look at fencing tokens
   NO_DEADLOCK_CHECK   circles of waiting transactions are not broken (liveness)
   NO_RELEASE          nothing is let go of at the end (liveness)
   ---------------------------------------------------------------------------------------------- */

#define TRANSACTIONS 2
#define NOBODY 2
#define OTHER(t) (1 - (t))
#define R(t, step) ((t) == 0 || PLANNED_ORDER -> (step) : 1 - (step))
#define AT(t, r) ((t) * 2 + (r))
#ifdef PLANNED
#define PLANNED_ORDER true
#else
#define PLANNED_ORDER false
#endif

#define ACTIVE 0
#define COMPENSATING 1
#define COMMITTED 2
#define ROLLED_BACK 3
#define IS_FINAL(t) (phase[t] >= COMMITTED)

#define NEEDS 0       /* the resource of its next step */
#define CALLING 1
#define WAITING 2

/* The journals and the store's locks. */
byte phase[TRANSACTIONS];
byte step[TRANSACTIONS];
byte at[TRANSACTIONS];
byte holder[2] = NOBODY;
byte token[2];                     /* Fence.token: the last one that was granted */
byte queued[TRANSACTIONS] = 2;     /* for which resource; 2: for none */
byte granted[4];                   /* the token that came with it; 0: none */
byte lapses;
byte faults;

/* The network, and the participants. */
bit sent[4];
bit undo_sent[4];
bit acted[4];                      /* the call was answered */
bit undone[4];
byte highest[2];                   /* the token of each resource that was seen last */
bit touched[4];
bit before[TRANSACTIONS];          /* came before the other one somewhere */

hidden byte i, x, y;
hidden byte I10_one_holder, I10_nobody_in_between, an_order_explains_it;

#define RULE(condition, name) assert((condition) || name)
#define SOMETIMES(what) c_code { static int told; if (!told) { told = 1; printf("reached: " #what "\n"); } }; i = 0

#ifdef LIVENESS
#define FAULT (faults < FAULTS)
#define COUNT_FAULT faults++
#else
#define FAULT true
#define COUNT_FAULT skip
#endif
#ifdef NO_BLOCK
#define IS_FREE(t, r) true
#else
#define IS_FREE(t, r) (holder[r] == NOBODY || holder[r] == t)
#endif
#define HOLDS(t, r) (granted[AT(t, r)] != 0)
#ifdef NO_DEADLOCK_CHECK
#define IN_A_CIRCLE(t) false
#else
#define IN_A_CIRCLE(t) (queued[t] < 2 && queued[OTHER(t)] < 2 && holder[queued[t]] == OTHER(t) && holder[queued[OTHER(t)]] == t)
#endif
#ifdef PLANNED
#define ALL_FREE(t) (IS_FREE(t, 0) && IS_FREE(t, 1))
#else
#define ALL_FREE(t) IS_FREE(t, R(t, step[t]))
#endif

/* Store.append: a holding is written only where nobody else has it (else: blocked). */
inline grant(t, r) {
  RULE(holder[r] == NOBODY || holder[r] == t, I10_one_holder);
  holder[r] = t;
#ifdef SAME_TOKEN
  token[r] = 1;
#else
  token[r]++;
#endif
  granted[AT(t, r)] = token[r]
}

inline claim(t) {
#ifdef PLANNED
  grant(t, 0); grant(t, 1);
#else
  x = R(t, step[t]);
  grant(t, x);
#endif
  queued[t] = 2;
  at[t] = CALLING
}

inline release_all(t) {
#ifndef NO_RELEASE
  i = 0;
  do
  :: i < 2 -> if :: holder[i] == t -> holder[i] = NOBODY :: else fi; i++
  :: else -> break
  od;
#endif
  i = 0
}

inline go_back(t) {
  phase[t] = COMPENSATING; queued[t] = 2; at[t] = CALLING;
  if
  :: step[t] < 2 && sent[AT(t, R(t, step[t]))] -> step[t] = step[t] + 1   /* in doubt: undone as well */
  :: else
  fi;
#ifdef RELEASE_AT_BACK
  release_all(t);
#endif
  i = 0
}

inline finish(t, in_state) {
  phase[t] = in_state;
  release_all(t);
  RULE(!(phase[0] == COMMITTED && phase[1] == COMMITTED && before[0] && before[1]), an_order_explains_it)
}

/* fence(), then the effect. */
inline access(t, r) {
#ifndef NO_FENCE
  highest[r] = granted[AT(t, r)];
#endif
  RULE(!(touched[AT(OTHER(t), r)] && !IS_FINAL(OTHER(t))), I10_nobody_in_between);
  if
  :: touched[AT(OTHER(t), r)] -> before[OTHER(t)] = 1; SOMETIMES(one_after_the_other)
  :: else
  fi;
  touched[AT(t, r)] = 1
}

#ifdef NO_FENCE
#define PASSES(t, r) true
#else
#define PASSES(t, r) (granted[AT(t, r)] >= highest[r])
#endif

/* A call that was answered may arrive again as long as anything is still to come. */
#define DELIVERS(t, r) \
  :: d_step { sent[AT(t, r)] && PASSES(t, r) && !(acted[AT(t, r)] && ALL_OVER) -> \
       x = t; y = r; acted[AT(x, y)] = 1; access(x, y) } \
  :: d_step { undo_sent[AT(t, r)] && PASSES(t, r) && !(undone[AT(t, r)] && ALL_OVER) -> \
       x = t; y = r; undone[AT(x, y)] = 1; access(x, y) } \
  :: d_step { sent[AT(t, r)] && !PASSES(t, r) && !acted[AT(t, r)] -> sent[AT(t, r)] = 0; SOMETIMES(stale_holder_refused) }

#ifdef LIVENESS
#define ALL_OVER true   /* Why: for ever the same call is no progress. */
#else
#define ALL_OVER (IS_FINAL(0) && IS_FINAL(1))
#endif

active proctype Network() {
end:
  do
  DELIVERS(0, 0)
  DELIVERS(0, 1)
  DELIVERS(1, 0)
  DELIVERS(1, 1)
#ifdef LIVENESS
  :: d_step { FAULT -> faults = FAULTS }   /* Why: no more of them, and nothing waits for one. */
#endif
  od
}

#define HERE R(t, step[t])
#define BACK_HERE R(t, step[t] - 1)

proctype Transaction(byte t) {
end:
  do
  /* LocksAwaited, LocksGranted. */
  :: d_step { phase[t] == ACTIVE && at[t] == NEEDS && step[t] < 2 && HOLDS(t, HERE) -> at[t] = CALLING }
  :: d_step { phase[t] == ACTIVE && at[t] == NEEDS && step[t] < 2 && !HOLDS(t, HERE) && ALL_FREE(t) -> claim(t) }
  :: d_step { phase[t] == ACTIVE && at[t] == NEEDS && step[t] < 2 && !HOLDS(t, HERE) && !ALL_FREE(t) && queued[t] == 2 ->
       queued[t] = HERE; SOMETIMES(waited) }
  /* The victim is rolled back whole. */
  :: d_step { phase[t] == ACTIVE && IN_A_CIRCLE(t) -> go_back(t); SOMETIMES(circle_broken) }
  /* Step by step. */
  :: d_step { phase[t] == ACTIVE && at[t] == CALLING -> sent[AT(t, HERE)] = 1; at[t] = WAITING }
  :: d_step { phase[t] == ACTIVE && at[t] == WAITING && acted[AT(t, HERE)] ->
#ifdef RELEASE_AFTER_STEP
       holder[HERE] = NOBODY;
#endif
       step[t] = step[t] + 1; at[t] = NEEDS }
  :: d_step { phase[t] == ACTIVE && at[t] == NEEDS && step[t] == 2 -> finish(t, COMMITTED); SOMETIMES(committed) }
  /* A call has no answer; or somebody asks for it. */
  :: d_step { phase[t] == ACTIVE && FAULT -> COUNT_FAULT; go_back(t) }
  /* Back: nothing new is claimed. */
  :: d_step { phase[t] == COMPENSATING && step[t] > 0 && at[t] == CALLING ->
       undo_sent[AT(t, BACK_HERE)] = 1; at[t] = WAITING }
  :: d_step { phase[t] == COMPENSATING && step[t] > 0 && at[t] == WAITING && undone[AT(t, BACK_HERE)] ->
       step[t] = step[t] - 1; at[t] = CALLING }
  :: d_step { phase[t] == COMPENSATING && step[t] == 0 -> finish(t, ROLLED_BACK); SOMETIMES(rolled_back) }
#ifdef RELEASE_BY_TIMER
  :: d_step { phase[t] == ACTIVE && lapses < 1 -> lapses++; release_all(t) }
#endif
  od
}

init { atomic { run Transaction(0); run Transaction(1) } }

#ifdef LIVENESS
ltl ends { <> (IS_FINAL(0) && IS_FINAL(1)) }
#endif
