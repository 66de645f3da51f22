//! The live sessions of roles, one for each role and user, with credentials and a signing key each.
//!
//! A session begins with the first request that needs it, and ends when it is idle, when too many are live, or when no
//! entry names it any more.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use strum::VariantArray as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::assume_role::Assumer;
use super::failure::{FetchCounts, FetchFailure};
use super::{CredentialCache, CredentialRefresher, is_valid};
use crate::role::{RoleArn, SessionUser};
use crate::sign::Signer;

/// The source of an entry's role, by which sessions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RoleKind {
    /// The role for reading.
    Read,
    /// The role for full access.
    Full,
    /// A role of the entry's own.
    Entry,
}

/// The bounds of live sessions.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// The time without a request after which a session ends.
    pub idle: Duration,
    /// The maximum number of live sessions. A further one ends the least recently used.
    pub live: usize,
}

/// The session of one user in one role.
#[derive(Debug)]
pub struct RoleSession {
    role: RoleArn,
    user: SessionUser,
    label: Arc<str>,
    kind: RoleKind,
    signer: Signer,
    credentials: CredentialCache,
    /// The time of the last use, in milliseconds after the start.
    used: AtomicU64,
    /// Notified once the session is not in the table any more.
    removed: Notify,
}

impl RoleSession {
    /// Returns the role.
    #[must_use]
    pub fn role(&self) -> &RoleArn {
        &self.role
    }

    /// Returns the user.
    #[must_use]
    pub fn user(&self) -> &SessionUser {
        &self.user
    }

    /// Returns role and session as in the session's ARN: `Auditor/jane`.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Returns the credentials.
    #[must_use]
    pub fn credentials(&self) -> &CredentialCache {
        &self.credentials
    }
}

/// The live sessions of roles; cheap to clone.
#[derive(Clone, Debug)]
pub struct RoleSessions(Arc<Shared>);

struct Shared {
    signer: Signer,
    assumer: Assumer,
    limits: SessionLimits,
    started: Instant,
    table: Mutex<Table>,
    begun: mpsc::UnboundedSender<(Arc<RoleSession>, CredentialRefresher)>,
    /// The counts of fetches, indexed by [`RoleKind`].
    counts: [Arc<FetchCounts>; RoleKind::VARIANTS.len()],
}

#[derive(Default)]
struct Table {
    roles: HashMap<RoleArn, HashMap<SessionUser, Arc<RoleSession>>>,
    /// The number of sessions of all roles.
    live: usize,
}

/// The state of a role with live sessions.
#[derive(Clone, Debug)]
pub struct RoleState {
    /// The role.
    pub role: RoleArn,
    /// The source of the role.
    pub kind: RoleKind,
    /// The number of live sessions.
    pub sessions: usize,
    /// The number of sessions with valid credentials.
    pub valid: usize,
    /// The first expiry of valid credentials.
    pub expires: Option<SystemTime>,
    /// The last failure of the sessions whose last fetch failed.
    pub failure: Option<FetchFailure>,
}

impl RoleSessions {
    pub(crate) fn new(signer: &Signer, assumer: Assumer, limits: SessionLimits) -> (Self, RoleSessionKeeper) {
        let (begun, receiver) = mpsc::unbounded_channel();
        let sessions = Self(Arc::new(Shared {
            signer: signer.with_own_key(),
            assumer,
            limits,
            started: Instant::now(),
            table: Mutex::default(),
            begun,
            counts: Default::default(),
        }));
        (sessions.clone(), RoleSessionKeeper { sessions, begun: receiver })
    }

    /// Returns the session of `user` in `role`, and begins it if there is none. `kind` is that of the session's first
    /// request.
    #[must_use]
    pub fn session(&self, kind: RoleKind, role: &RoleArn, user: &SessionUser) -> Arc<RoleSession> {
        let now = self.now();
        let mut table = self.table();
        if let Some(session) = table.roles.get(role).and_then(|sessions| sessions.get(user)) {
            session.used.store(now, Ordering::Relaxed);
            return Arc::clone(session);
        }
        while table.live >= self.0.limits.live.max(1) {
            table.remove_oldest();
        }
        let provider = (self.0.assumer)(role, user);
        let counts = Arc::clone(&self.0.counts[kind as usize]);
        let (credentials, refresher) = CredentialCache::counted_by(counts, provider);
        let refresher = refresher.for_session(role, &user.name);
        let session = Arc::new(RoleSession {
            role: role.clone(),
            user: user.clone(),
            label: [role.name(), "/", user.name.as_str()].concat().into(),
            kind,
            signer: self.0.signer.with_own_key(),
            credentials,
            used: AtomicU64::new(now),
            removed: Notify::new(),
        });
        table.roles.entry(role.clone()).or_default().insert(user.clone(), Arc::clone(&session));
        table.live += 1;
        // Without a keeper, when the process ends, the session has no credentials: the request fails.
        let _ = self.0.begun.send((Arc::clone(&session), refresher));
        session
    }

    /// Ends the sessions for which `is_named` returns false. Requests in flight keep theirs until they are answered.
    pub fn retain(&self, is_named: impl Fn(&RoleArn, &SessionUser) -> bool) {
        self.table().remove_if(|session| !is_named(&session.role, &session.user));
    }

    /// Returns the number of live sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().live
    }

    /// Returns whether no session is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of fetches for roles of `kind` by outcome.
    #[must_use]
    pub fn counts(&self, kind: RoleKind) -> &FetchCounts {
        &self.0.counts[kind as usize]
    }

    /// Returns the state of each role that has live sessions at `now`, in the order of their ARNs.
    #[must_use]
    pub fn states(&self, now: SystemTime) -> Vec<RoleState> {
        let sessions: Vec<_> = self.table().sessions().cloned().collect();
        let mut states = HashMap::<RoleArn, RoleState>::new();
        for session in sessions {
            let state = states.entry(session.role.clone()).or_insert_with(|| RoleState {
                role: session.role.clone(),
                kind: session.kind,
                sessions: 0,
                valid: 0,
                expires: None,
                failure: None,
            });
            state.sessions += 1;
            if let Some(latest) = session.credentials.latest().filter(|latest| is_valid(latest, now)) {
                state.valid += 1;
                state.expires = [state.expires, latest.expiry()].into_iter().flatten().min();
            }
            let failures = [state.failure.take(), session.credentials.failure()].into_iter().flatten();
            state.failure = failures.max_by_key(|failure| failure.at);
        }
        let mut states: Vec<_> = states.into_values().collect();
        states.sort_unstable_by(|one, other| one.role.cmp(&other.role));
        states
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic between two changes leaves at worst a wrong count of sessions.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Removes `session` if it is idle. Returns the time until then if it is not, and is still in the table.
    fn end_if_idle(&self, session: &Arc<RoleSession>) -> Option<Duration> {
        let mut table = self.table();
        let unused = Duration::from_millis(self.now().saturating_sub(session.used.load(Ordering::Relaxed)));
        let left = self.0.limits.idle.checked_sub(unused).filter(|left| !left.is_zero());
        if left.is_none() {
            table.remove_if(|other| Arc::ptr_eq(session, other));
        }
        left
    }
}

impl Table {
    fn sessions(&self) -> impl Iterator<Item = &Arc<RoleSession>> {
        self.roles.values().flat_map(HashMap::values)
    }

    fn remove_oldest(&mut self) {
        let oldest = self.sessions().min_by_key(|session| session.used.load(Ordering::Relaxed)).cloned();
        match oldest {
            Some(oldest) => self.remove_if(|session| Arc::ptr_eq(session, &oldest)),
            None => self.live = 0,
        }
    }

    fn remove_if(&mut self, is_over: impl Fn(&Arc<RoleSession>) -> bool) {
        for sessions in self.roles.values_mut() {
            sessions.retain(|_, session| {
                let is_over = is_over(session);
                if is_over {
                    session.removed.notify_one();
                }
                !is_over
            });
        }
        self.roles.retain(|_, sessions| !sessions.is_empty());
        self.live = self.sessions().count();
    }
}

/// The task that fetches the credentials of all live sessions.
#[derive(Debug)]
pub struct RoleSessionKeeper {
    sessions: RoleSessions,
    begun: mpsc::UnboundedReceiver<(Arc<RoleSession>, CredentialRefresher)>,
}

impl RoleSessionKeeper {
    /// Keeps sessions until it is cancelled.
    pub async fn run(mut self) {
        let mut kept = JoinSet::new();
        loop {
            tokio::select! {
                Some((session, refresher)) = self.begun.recv() => {
                    kept.spawn(keep(self.sessions.clone(), session, refresher));
                }
                Some(_) = kept.join_next() => {}
                else => return,
            }
        }
    }
}

/// Refreshes the credentials of `session` until it ends.
async fn keep(sessions: RoleSessions, session: Arc<RoleSession>, refresher: CredentialRefresher) {
    let _removed = RemovedOnDrop { sessions: &sessions, session: &session };
    let mut refreshing = pin!(refresher.run());
    while let Some(left) = sessions.end_if_idle(&session) {
        tokio::select! {
            () = &mut refreshing => return,
            () = session.removed.notified() => break,
            () = sleep(left) => {}
        }
    }
    // Requests that took the session from the table may still wait for its credentials.
    while Arc::strong_count(&session) > 1 {
        tokio::select! {
            () = &mut refreshing => return,
            () = sleep(RELEASE_CHECK) => {}
        }
    }
}

/// Removes a session from the table, even if refreshing it panicked, so that the next request begins another.
struct RemovedOnDrop<'a> {
    sessions: &'a RoleSessions,
    session: &'a Arc<RoleSession>,
}

impl Drop for RemovedOnDrop<'_> {
    fn drop(&mut self) {
        self.sessions.table().remove_if(|other| Arc::ptr_eq(self.session, other));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleSessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The time between two checks of whether requests still use a session that has ended.
const RELEASE_CHECK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
