/* The refresh protocol of a fleet: one grant, N sidecars, a store with a lagging replica, Akoya.
 *
 * Every interleaving is tried. What the world may do is a free choice of the checker: delay, pause,
 * the end of a lease or a hold, a lost reply of the store, a store that is away, a crash and a
 * restart, a failover that forgets writes, an answer of Akoya that is lost, a new consent, a
 * revocation. There is no clock: "later" means "after any other steps".
 * README.md beside this file says what is abstracted and how to read a trail; runs.md lists the runs.
 *
 * Names are those of the code: a claim spends the refresh token of a position (consent, generation);
 * whoever reads the answer has the pair of the next generation. Consents are numbered by their epoch.
 * Generations count from 1 here: 0 is the tombstone of a consent whose first pair the store never
 * had, and what an exchange of a code "claims".
 *
 * Sizes of the world (how often something may happen at most):
 *   N              sidecars, 2 or 3
 *   MAXREFRESH     refreshes begun        MAXCRASH     crashes of a sidecar
 *   MAXFAILOVER    failovers              MAXLOST      answers of Akoya that are lost on the way
 *   MAXCONSENT     new consents           MAXREVOKE    revocations that are asked for
 *   MAXAWAY        pairs that find no store and stay parked
 * Faults that are allowed beyond these (0: not allowed):
 *   HOLD_ANY       a hold may end while its owner is still in flight (a pause longer than the hold)
 *   QUARANTINE_ANY a quarantine may end while peers are in flight or have not replayed
 *   REUSE_KILLS    Akoya ends the family of tokens when a used one is presented
 * Parts of the protocol that only some runs need (0: left out, to save states):
 *   KNOWN          what a caller wants replaced is read some time before the lease is asked for
 *   CLEAN          marks, probes and proofs are kept, and a clean denial is told from a doubtful one
 * Holes, put back one at a time (0: the protocol as it is; h4 and so on are the holes' names):
 *   FENCED_COMMIT  h1: a commit counts only while the store still shows the owner's claim
 *   NO_SPOOL       h2: no copy on disk before the commit
 *   DROP_ON_ACK    h2: the copy is dropped as soon as the store said OK
 *   NO_QUARANTINE  h3: claims go on at once after a failover
 *   FIRST_TWICE    h3: a first pair that is committed a second time still ends the quarantine
 *   NO_DRAIN       h4: a sidecar may claim although its own disk holds a newer pair
 *   FINAL_REAUTH   h5: reauth_required is final
 *   ONE_PHASE      h6: no mark: whoever has the lease sends
 *   ORDER_UNKEPT   h7: a revocation order is not kept on disk
 *   ORDER_STRUCK   h7: it is struck from the disk once it is carried out
 *   FORGET_BORN    h8: a pair born under a revocation is thrown away
 *   SERVE_BORN     h8: it makes the grant active again
 *   FINISH_ANY     h8: a revocation is finished although a newer pair came meanwhile
 *   DENY_ANY       h8: a denial overwrites a revocation
 *   NO_EPOCH       h9: generations are compared without their consents
 *   ORDER_BARE     h9: a revocation order does not say which consent it means
 *   KNOWN_BARE     h9: a caller says which generation it wants replaced, but not of which consent
 *   CLEAN_ANY      h31: the denial of a probe counts as clean
 * What is asked (any number of them; see README.md):
 *   CHECK_I4 CHECK_I6 CHECK_I7 CHECK_I8 CHECK_I9 CHECK_I10 CHECK_I11 CHECK_I12
 */
#ifndef N
#define N 2
#endif
#ifndef MAXREFRESH
#define MAXREFRESH 2
#endif
#ifndef MAXCRASH
#define MAXCRASH 0
#endif
#ifndef MAXFAILOVER
#define MAXFAILOVER 0
#endif
#ifndef MAXLOST
#define MAXLOST 0
#endif
#ifndef MAXCONSENT
#define MAXCONSENT 0
#endif
#ifndef MAXREVOKE
#define MAXREVOKE 0
#endif
#ifndef MAXAWAY
#define MAXAWAY 0
#endif
#ifndef HOLD_ANY
#define HOLD_ANY 0
#endif
#ifndef QUARANTINE_ANY
#define QUARANTINE_ANY 0
#endif
#ifndef REUSE_KILLS
#define REUSE_KILLS 0
#endif
#ifndef KNOWN
#define KNOWN 0
#endif
#ifndef CLEAN
#define CLEAN 0
#endif
#ifndef FENCED_COMMIT
#define FENCED_COMMIT 0
#endif
#ifndef NO_SPOOL
#define NO_SPOOL 0
#endif
#ifndef DROP_ON_ACK
#define DROP_ON_ACK 0
#endif
#ifndef NO_QUARANTINE
#define NO_QUARANTINE 0
#endif
#ifndef FIRST_TWICE
#define FIRST_TWICE 0
#endif
#ifndef NO_DRAIN
#define NO_DRAIN 0
#endif
#ifndef FINAL_REAUTH
#define FINAL_REAUTH 0
#endif
#ifndef ONE_PHASE
#define ONE_PHASE 0
#endif
#ifndef ORDER_UNKEPT
#define ORDER_UNKEPT 0
#endif
#ifndef ORDER_STRUCK
#define ORDER_STRUCK 0
#endif
#ifndef FORGET_BORN
#define FORGET_BORN 0
#endif
#ifndef SERVE_BORN
#define SERVE_BORN 0
#endif
#ifndef FINISH_ANY
#define FINISH_ANY 0
#endif
#ifndef DENY_ANY
#define DENY_ANY 0
#endif
#ifndef NO_EPOCH
#define NO_EPOCH 0
#endif
#ifndef ORDER_BARE
#define ORDER_BARE 0
#endif
#ifndef KNOWN_BARE
#define KNOWN_BARE 0
#endif
#ifndef CLEAN_ANY
#define CLEAN_ANY 0
#endif

/* The states of a record; from REAUTH on a grant is dead. */
#define ACTIVE   0
#define LEASED   1
#define SENDING  2
#define IN_DOUBT 3
#define REAUTH   4
#define REVOKING 5
#define REVOKED  6

/* Where a sidecar is. */
#define IDLE    0
#define TAKEN   1   /* the lease is acknowledged */
#define MARKED  2   /* the mark is acknowledged, no byte has left */
#define SENT    3
#define GOT     4   /* the answer is read and not yet on disk */
#define KEPT    5   /* on disk, not yet offered to the store */
#define TRIED   6   /* offered, and no reply came */
#define DENIED  7   /* Akoya said: already claimed */
#define TELLING 8   /* about to tell Akoya of a revocation */
#define TOLD    9   /* Akoya knows, the store does not yet */
#define DOWN    10

#define NOBODY   0
#define OK_REPLY 1
#define REFUSAL  2
#define GONE     3  /* the answer was lost, and its socket is closed for good */

/* Akoya. */
byte current[3] = 1;     /* the one generation of each consent that can be spent */
bool alive[3] = 1;
byte newest = 1;         /* the consent that the end user gave last */

/* The store and its replica. */
byte store_consent = 1, store_gen = 1, store_state, store_claim, store_marks; bool store_probe;
byte replica_consent = 1, replica_gen = 1, replica_state, replica_claim, replica_marks; bool replica_probe;
bool marked_here;        /* the claim was marked in this incarnation of the store */
bool proven = CLEAN;     /* this generation was marked and committed live in this incarnation */
bool quarantine;         /* the record may lack writes: no lease, no mark */

/* The sidecars: in memory ... */
byte at[N];
byte claim_consent[N], claim_gen[N];
byte known_consent[N], known_gen[N];
bool repeated[N];
/* ... on disk: the newest pair, and the consent that is to be revoked ... */
byte spool_consent[N], spool_gen[N], order[N];
/* ... and on the wire. */
bool request[N]; byte reply[N];
byte late_consent, late_gen;   /* a request that has reached Akoya, and whose sender is dead */

byte refreshes, crashes, failovers, losts, consents, revokes, absences;

/* What is true whatever the sidecars know. */
bool lost[3];            /* a successor of this consent was lost, unavoidably */
bool ended[3];           /* the end of this consent was ordered, and the order was accepted */

hidden byte i4, i6, i7, i8, i9, i10, i11, i12;   /* name the invariant in a violated assertion */

#if NO_EPOCH
#define NEWER(e1, g1, e2, g2) ((g1) > (g2))
#else
#define NEWER(e1, g1, e2, g2) ((e1) > (e2) || ((e1) == (e2) && (g1) > (g2)))
#endif
#define THAN_STORE(e, g) NEWER(e, g, store_consent, store_gen)
#define STANDS(e, g) (store_consent == (e) && store_gen == (g))
#define ENDING (store_state >= REVOKING)
#define MINE(k) (store_claim == (k) + 1)

#define REFRESHING(k) (at[k] >= MARKED && at[k] <= DENIED && claim_gen[k] != 0)
#define PARKED(k) (spool_gen[k] != 0 && THAN_STORE(spool_consent[k], spool_gen[k]))
#define HOLD_OVER (HOLD_ANY || store_claim == NOBODY || \
                   (!REFRESHING(store_claim - 1) && !PARKED(store_claim - 1)))

#if KNOWN
#if KNOWN_BARE
#define REPLACED(k) (store_gen > known_gen[k])
#else
#define REPLACED(k) (store_consent != known_consent[k] || store_gen > known_gen[k])
#endif
#define WISHES(k) (known_gen[k] != 0)
#else
#define REPLACED(k) false
#define WISHES(k) true
#endif

#define MAY_TAKE(k) (!quarantine && WISHES(k) && !REPLACED(k) && (NO_DRAIN || !PARKED(k)) && ( \
   (store_state == ACTIVE && refreshes < MAXREFRESH) || store_state == LEASED || \
   (store_state == SENDING && (ONE_PHASE || HOLD_OVER || MINE(k)))))

/* What is still to be done with the disk of k. */
#define UNREPLAYED(k) (spool_gen[k] != 0 && !FENCED_COMMIT && \
   ((PARKED(k) && !(FINAL_REAUTH && store_state == REAUTH && store_consent == spool_consent[k]) \
               && !(FORGET_BORN && ENDING && store_consent == spool_consent[k])) || \
    (STANDS(spool_consent[k], spool_gen[k]) && store_state == REVOKING && order[k] < store_consent)))
#if ORDER_BARE
#define UNORDERED(k) (order[k] != 0 && !ENDING)
#define TELLABLE(k) (order[k] != 0 && store_state == REVOKING)
#else
#define UNORDERED(k) (order[k] > store_consent || (order[k] == store_consent && !ENDING))
#define TELLABLE(k) (order[k] == store_consent && store_state == REVOKING)
#endif
#define BEHIND(k) (UNREPLAYED(k) || UNORDERED(k))

#ifdef CHECK_I4
#define I4_HOLDS(condition) assert((condition) || i4)
#else
#define I4_HOLDS(condition) skip
#endif
#ifdef CHECK_I6
#define I6_HOLDS(condition) assert((condition) || i6)
#else
#define I6_HOLDS(condition) skip
#endif
#ifdef CHECK_I7
#define I7_HOLDS(condition) assert((condition) || i7)
#else
#define I7_HOLDS(condition) skip
#endif
#ifdef CHECK_I9
#define I9_HOLDS(condition) assert((condition) || i9)
#else
#define I9_HOLDS(condition) skip
#endif
#ifdef CHECK_I10
#define I10_HOLDS(condition) assert((condition) || i10)
#else
#define I10_HOLDS(condition) skip
#endif
#ifdef CHECK_I11
#define I11_HOLDS(condition) assert((condition) || i11)
#else
#define I11_HOLDS(condition) skip
#endif
#ifdef CHECK_I12
#define I12_HOLDS(condition) assert((condition) || i12)
#else
#define I12_HOLDS(condition) skip
#endif

inline set_state(new_state) {
  I11_HOLDS(!ENDING || new_state >= REVOKING);
  store_state = new_state
}

inline take(k) {          /* acquire */
  I12_HOLDS(!KNOWN || known_consent[k] >= store_consent);
  if :: store_state == ACTIVE -> refreshes++ :: else -> skip fi;
#if CLEAN
  store_probe = (store_state == SENDING || store_probe);
#endif
  set_state(LEASED); store_claim = k + 1
}

inline mark() {
  set_state(SENDING);
#if CLEAN
  marked_here = 1;
  if :: store_marks < 2 -> store_marks++ :: else -> skip fi
#else
  skip
#endif
}

inline give_back(k, is_unspent) {   /* release */
  if
  :: MINE(k) && (store_state == LEASED || store_state == SENDING) ->
#if CLEAN
       if :: is_unspent && store_state == SENDING -> store_marks-- :: else -> skip fi;
#endif
       set_state(ACTIVE); store_claim = NOBODY
  :: else -> skip
  fi
}

inline put(k, e, g, is_live) {      /* the pair becomes the newest one */
  I6_HOLDS(e > store_consent || (e == store_consent && g > store_gen));
  I12_HOLDS(e >= store_consent);
#if CLEAN
  proven = is_live && (g == 1 || (store_state == SENDING && MINE(k) && marked_here));
  marked_here = 0;
  store_marks = 0; store_probe = 0;
#endif
  if :: is_live && g == 1 -> quarantine = 0 :: else -> skip fi;
  store_consent = e; store_gen = g; store_claim = NOBODY
}

/* The commit: the newer position wins, the lease is not asked. `is_seen`: the reply arrives. */
inline commit(k, e, g, is_live, is_seen) {
  if
  :: FENCED_COMMIT && !MINE(k) -> I7_HOLDS(!THAN_STORE(e, g))
  :: FINAL_REAUTH && store_state == REAUTH && e == store_consent -> I7_HOLDS(!THAN_STORE(e, g))
  :: ENDING && !SERVE_BORN && e == store_consent && !(FENCED_COMMIT && !MINE(k)) ->
       if
       :: FORGET_BORN -> I7_HOLDS(!THAN_STORE(e, g))
       :: !FORGET_BORN && g >= store_gen && !(g == store_gen && store_state == REVOKED) ->
            if :: g > store_gen -> put(k, e, g, is_live) :: else -> skip fi;
            store_state = REVOKING;
            if :: is_seen && order[k] < e -> order[k] = e :: else -> skip fi
       :: else -> skip
       fi
  :: else ->
       if
       :: THAN_STORE(e, g) ->
            if :: e == store_consent -> I11_HOLDS(!ENDING) :: else -> skip fi;
            put(k, e, g, is_live); store_state = ACTIVE
       :: else -> skip
       fi
  fi
}

inline be_idle(k) { at[k] = IDLE; claim_consent[k] = 0; claim_gen[k] = 0; repeated[k] = 0;
                    known_consent[k] = 0; known_gen[k] = 0 }

inline crash(k) {
  crashes++;
  request[k] = 0; reply[k] = 0;
  if :: ORDER_UNKEPT -> order[k] = 0 :: else -> skip fi;
  be_idle(k); at[k] = DOWN
}

proctype Sidecar(byte me) {
  do
  /* The spool is offered anew: at the start, in a new incarnation, when a peer calls - at any time. */
  :: d_step { at[me] == IDLE && UNREPLAYED(me) ->
       commit(me, spool_consent[me], spool_gen[me], false, true) }
  /* A copy goes when the store shows something newer, or its revocation was carried out. */
  :: d_step { at[me] == IDLE && spool_gen[me] != 0 &&
              (NEWER(store_consent, store_gen, spool_consent[me], spool_gen[me]) ||
               (STANDS(spool_consent[me], spool_gen[me]) && store_state == REVOKED)) ->
       spool_consent[me] = 0; spool_gen[me] = 0 }
#if KNOWN
  /* Somebody wants the pair replaced that he was given. */
  :: d_step { at[me] == IDLE && !WISHES(me) && store_state < REAUTH && refreshes < MAXREFRESH ->
       known_consent[me] = store_consent; known_gen[me] = store_gen }
  :: d_step { at[me] == IDLE && WISHES(me) && REPLACED(me) -> be_idle(me) }
#endif
  :: d_step { at[me] == IDLE && MAY_TAKE(me) ->
       take(me); claim_consent[me] = store_consent; claim_gen[me] = store_gen; at[me] = TAKEN }
  /* ... and the reply is lost. */
  :: d_step { at[me] == IDLE && MAY_TAKE(me) && store_state == ACTIVE -> take(me); be_idle(me) }
  :: d_step { at[me] == TAKEN ->
       if
       :: ONE_PHASE -> at[me] = MARKED
       :: !ONE_PHASE && store_state == LEASED && MINE(me) && !quarantine &&
          STANDS(claim_consent[me], claim_gen[me]) -> mark(); at[me] = MARKED
       :: else -> be_idle(me)
       fi }
  /* ... and the reply is lost: nothing may be sent. */
  :: d_step { at[me] == TAKEN && !ONE_PHASE && store_state == LEASED && MINE(me) && !quarantine &&
              STANDS(claim_consent[me], claim_gen[me]) -> mark(); be_idle(me) }
  /* No byte left: too late, or no disk. */
  :: d_step { at[me] == MARKED -> give_back(me, !repeated[me]); be_idle(me) }
  :: d_step { at[me] == MARKED ->
       I4_HOLDS(!(spool_gen[me] != 0 &&
                  NEWER(spool_consent[me], spool_gen[me], claim_consent[me], claim_gen[me])));
       request[me] = 1; reply[me] = 0; at[me] = SENT }
  :: d_step { at[me] == SENT && reply[me] == OK_REPLY -> reply[me] = 0; at[me] = GOT }
  :: d_step { at[me] == SENT && reply[me] == REFUSAL -> reply[me] = 0; at[me] = DENIED }
  /* The owner of a lost answer may repeat its claim, or give it back: no successor can appear. */
  :: d_step { at[me] == SENT && reply[me] == GONE -> reply[me] = 0; repeated[me] = CLEAN; at[me] = MARKED }
  :: d_step { at[me] == SENT && reply[me] == GONE ->
       reply[me] = 0; give_back(me, false); be_idle(me) }
  :: d_step { at[me] == GOT ->
       if
       :: !NO_SPOOL && NEWER(claim_consent[me], claim_gen[me] + 1, spool_consent[me], spool_gen[me]) ->
            spool_consent[me] = claim_consent[me]; spool_gen[me] = claim_gen[me] + 1
       :: else -> skip
       fi;
       at[me] = KEPT }
  :: d_step { at[me] == KEPT || at[me] == TRIED ->
       commit(me, claim_consent[me], claim_gen[me] + 1,
              (at[me] == KEPT || claim_gen[me] != 0 || FIRST_TWICE), true);
       if :: DROP_ON_ACK -> spool_consent[me] = 0; spool_gen[me] = 0 :: else -> skip fi;
       be_idle(me) }
#if MAXCONSENT || MAXREVOKE
  /* ... and the reply is lost: it is offered again. */
  :: d_step { at[me] == KEPT ->
       commit(me, claim_consent[me], claim_gen[me] + 1, true, false); at[me] = TRIED }
#endif
  /* The store is away: the pair stays parked. */
  :: d_step { at[me] == KEPT && absences < MAXAWAY -> absences++; be_idle(me) }
  :: d_step { at[me] == DENIED ->
       if
       :: ENDING && !DENY_ANY -> skip
       :: (!ENDING || DENY_ANY) && STANDS(claim_consent[me], claim_gen[me]) &&
          (ENDING || (store_state == SENDING && MINE(me)) || ONE_PHASE) ->
            I12_HOLDS(claim_consent[me] >= store_consent);
#if CLEAN
            if
            :: proven && (CLEAN_ANY || (!repeated[me] && store_marks == 1 && !store_probe)) ->
                 I9_HOLDS(!(claim_gen[me] < current[claim_consent[me]]))
            :: else -> skip
            fi;
#endif
            set_state(IN_DOUBT); store_claim = NOBODY
       :: else -> skip                     /* somebody has replaced it, or claims it now */
       fi;
       be_idle(me) }
  /* Nobody healed the doubt in time. */
  :: d_step { at[me] == IDLE && store_state == IN_DOUBT -> set_state(REAUTH) }
  /* A revocation: the order names the consent that stands, and is on disk before it is accepted. */
  :: d_step { at[me] == IDLE && revokes < MAXREVOKE && !ENDING && order[me] < store_consent ->
       revokes++; ended[store_consent] = 1;
       if
       :: ORDER_UNKEPT -> set_state(REVOKING); store_claim = NOBODY
       :: else -> skip
       fi;
       order[me] = store_consent }
  :: d_step { at[me] == IDLE && UNORDERED(me) ->
       I12_HOLDS(order[me] >= store_consent);
       if
       :: order[me] > store_consent ->      /* the store forgot that consent */
            store_consent = order[me]; store_gen = 0
       :: else -> skip
       fi;
       store_state = REVOKING; store_claim = NOBODY }
  /* A newer consent makes an order void. */
  :: d_step { at[me] == IDLE && order[me] != 0 && order[me] < store_consent && !ORDER_BARE -> order[me] = 0 }
  :: d_step { at[me] == IDLE && TELLABLE(me) ->
       claim_consent[me] = store_consent; claim_gen[me] = store_gen; at[me] = TELLING }
  :: d_step { at[me] == TELLING ->
       if
       :: claim_gen[me] != 0 && claim_gen[me] == current[claim_consent[me]] -> alive[claim_consent[me]] = 0
       :: else -> skip
       fi;
       at[me] = TOLD }
  :: d_step { at[me] == TOLD ->
       if
       :: store_state == REVOKING && (FINISH_ANY || STANDS(claim_consent[me], claim_gen[me])) ->
            store_state = REVOKED; store_claim = NOBODY;
            if :: ORDER_STRUCK -> order[me] = 0 :: else -> skip fi
       :: else -> skip
       fi;
       be_idle(me) }
  /* The end user consents anew: an exchange of a code. */
  :: d_step { at[me] == IDLE && consents < MAXCONSENT && newest < 2 ->
       consents++; newest++;
       claim_consent[me] = newest; claim_gen[me] = 0; at[me] = GOT }
  :: d_step { at[me] != DOWN && crashes < MAXCRASH ->
       if
       :: (at[me] == SENT && reply[me] == OK_REPLY) || at[me] == GOT ->
            lost[claim_consent[me]] = 1     /* the answer was on no disk */
       :: else -> skip
       fi;
       crash(me) }
  /* ... and its request has reached Akoya already, and waits there. */
  :: d_step { request[me] && late_gen == 0 && crashes < MAXCRASH ->
       late_consent = claim_consent[me]; late_gen = claim_gen[me];
       crash(me) }
  :: d_step { at[me] == DOWN -> at[me] = IDLE }
  od
}

inline serve(k) {
  request[k] = 0;
  if
  :: alive[claim_consent[k]] && claim_gen[k] == current[claim_consent[k]] ->
       current[claim_consent[k]]++; reply[k] = OK_REPLY
  :: else ->
       reply[k] = REFUSAL;
       if
       :: alive[claim_consent[k]] ->
            I10_HOLDS(lost[claim_consent[k]]);
            if :: REUSE_KILLS -> alive[claim_consent[k]] = 0 :: else -> skip fi
       :: else -> skip
       fi
  fi
}

/* Nobody reads the answer to a dead claim: where it counts, its successor is lost. */
inline serve_late() {
  if
  :: alive[late_consent] && late_gen == current[late_consent] ->
       current[late_consent]++; lost[late_consent] = 1
  :: else ->
       if
       :: REUSE_KILLS && alive[late_consent] -> alive[late_consent] = 0; lost[late_consent] = 1
       :: else -> skip
       fi
  fi;
  late_consent = 0; late_gen = 0
}

inline lose(k) {
  losts++;
  if :: reply[k] == OK_REPLY -> lost[claim_consent[k]] = 1 :: else -> skip fi;
  reply[k] = GONE
}

#define LOSABLE(k) (losts < MAXLOST && (reply[k] == OK_REPLY || reply[k] == REFUSAL))

proctype Akoya() {
  do
  :: d_step { request[0] -> serve(0) }
  :: d_step { request[1] -> serve(1) }
  :: d_step { LOSABLE(0) -> lose(0) }
  :: d_step { LOSABLE(1) -> lose(1) }
#if N > 2
  :: d_step { request[2] -> serve(2) }
  :: d_step { LOSABLE(2) -> lose(2) }
#endif
#if MAXCRASH
  :: d_step { late_gen != 0 -> serve_late() }
#endif
  od
}

#define CALM(k) ((at[k] == IDLE && !BEHIND(k) || at[k] == DOWN) && !request[k])
#define DONE(k) (at[k] == IDLE && !request[k] && !BEHIND(k) && !TELLABLE(k))
#if N > 2
#define ALL_CALM (late_gen == 0 && CALM(0) && CALM(1) && CALM(2))
#define SETTLED (!quarantine && late_gen == 0 && DONE(0) && DONE(1) && DONE(2))
#else
#define ALL_CALM (late_gen == 0 && CALM(0) && CALM(1))
#define SETTLED (!quarantine && late_gen == 0 && DONE(0) && DONE(1))
#endif

inline replicate() {
  replica_consent = store_consent; replica_gen = store_gen; replica_state = store_state;
  replica_claim = store_claim; replica_marks = store_marks; replica_probe = store_probe
}

inline fail_over() {
  store_consent = replica_consent; store_gen = replica_gen; store_state = replica_state;
  store_claim = replica_claim; store_marks = replica_marks; store_probe = replica_probe;
  marked_here = 0; proven = 0; quarantine = !NO_QUARANTINE
}

proctype World() {
  do
  :: d_step { replica_consent != store_consent || replica_gen != store_gen ||
              replica_state != store_state || replica_claim != store_claim ||
              replica_marks != store_marks || replica_probe != store_probe -> replicate() }
  :: d_step { failovers < MAXFAILOVER ->
       failovers++; fail_over() }
  :: d_step { quarantine && (QUARANTINE_ANY || ALL_CALM) -> quarantine = 0 }
  od
}

#define STORE_HAS_IT (store_consent == newest && store_gen == current[newest] && alive[newest] && \
                      store_state != IN_DOUBT && store_state != REAUTH)
#define IS_ENDED(e) (store_consent > (e) || \
                     (store_consent == (e) && store_state == REVOKED && (!alive[e] || lost[e])))

/* Looks at every state; takes part in nothing. */
proctype Watch() {
  do
#ifdef CHECK_I8
  :: d_step { SETTLED && !(lost[newest] || ended[newest] || STORE_HAS_IT) -> assert(i8) }
#endif
#ifdef CHECK_I11
  :: d_step { SETTLED && ended[1] && !IS_ENDED(1) -> assert(i11) }
  :: d_step { SETTLED && ended[2] && !IS_ENDED(2) -> assert(i11) }
#endif
  :: false
  od
}

init {
  atomic {
    run Sidecar(0); run Sidecar(1);
#if N > 2
    run Sidecar(2);
#endif
    run Akoya(); run World(); run Watch()
  }
}
