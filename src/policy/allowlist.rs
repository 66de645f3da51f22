//! The IP allowlist in effect: each request looks its client up here, and a reload replaces it atomically.

mod entries;
mod entry;
mod file;
mod last_use;

use std::{
    future,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time};

pub use entries::{Entries, LoadError};
pub use entry::Entry;
pub use file::EntryError;
pub(crate) use {
    entries::read,
    file::{name, parse},
};

/// The reading end of the allowlist in effect. Cheap to clone, and never older than the last reload.
#[derive(Clone, Debug)]
pub struct Allowlist(watch::Receiver<Arc<Entries>>);

/// The writing end of an [`Allowlist`].
#[derive(Debug)]
pub struct Publisher(watch::Sender<Arc<Entries>>);

/// Creates an allowlist of `entries`, and returns its writing and its reading end.
#[must_use]
pub fn channel(entries: Entries) -> (Publisher, Allowlist) {
    let (sender, receiver) = watch::channel(Arc::new(entries));
    (Publisher(sender), Allowlist(receiver))
}

impl Publisher {
    /// Replaces the list atomically. The next request is checked against the new one.
    pub fn publish(&self, entries: Entries) {
        entries.inherit_last_use(&self.current());
        self.0.send_replace(Arc::new(entries));
    }

    /// Returns the list in effect.
    #[must_use]
    pub fn current(&self) -> Arc<Entries> {
        Arc::clone(&self.0.borrow())
    }
}

impl Allowlist {
    /// Returns the list in effect.
    #[must_use]
    pub fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.0.borrow())
    }

    /// Returns the entry that grants `client` access at `now` (longest prefix match).
    #[must_use]
    pub fn grant(&self, client: IpAddr, now: SystemTime) -> Option<Arc<Entry>> {
        self.0.borrow().find(client, now).cloned()
    }

    /// Returns the latest expiry of the entries of `client` that have expired at `now`.
    #[must_use]
    pub fn expiry(&self, client: IpAddr, now: SystemTime) -> Option<SystemTime> {
        self.0.borrow().expiry(client, now)
    }

    /// Waits until no entry grants `client` access: a reload removed the last one, or it has expired.
    pub async fn revoked(mut self, client: IpAddr) {
        loop {
            let now = SystemTime::now();
            let Some(remaining) = self.0.borrow_and_update().find(client, now).map(|entry| entry.remaining(now)) else {
                return;
            };
            tokio::select! {
                () = self.changed() => {}
                () = lapse(remaining) => {}
            }
        }
    }

    /// Waits until another list is in effect: forever if the publisher was dropped.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

/// Sleeps until the expiry has to be checked again, for at most [`LONGEST_SLEEP`].
///
/// The timer counts elapsed time, but an expiry is a date. A clock step or a suspended machine takes effect at the next
/// check.
async fn lapse(remaining: Option<Duration>) {
    match remaining {
        Some(remaining) => time::sleep(remaining.min(LONGEST_SLEEP)).await,
        None => future::pending().await,
    }
}

const LONGEST_SLEEP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{fmt::Write, path::Path};

    use jiff::Timestamp;
    use tokio::{task::JoinHandle, time::timeout};

    use super::*;

    #[test]
    fn grant_follows_the_published_list() {
        let (publisher, allowlist) = channel(entries(&[("10.0.0.0/8", None)]));
        let reader = allowlist.clone();
        let now = SystemTime::now();
        assert_eq!(&*allowlist.grant(CLIENT, now).unwrap().name, "10.0.0.0/8");
        publisher.publish(entries(&[("10.1.0.0/16", None)]));
        assert_eq!(&*reader.grant(CLIENT, now).unwrap().name, "10.1.0.0/16");
        publisher.publish(entries(&[]));
        assert_eq!(allowlist.grant(CLIENT, now), None);
    }

    #[test]
    fn last_use_of_an_entry_survives_a_reload() {
        let (publisher, allowlist) = channel(entries(&[("10.0.0.0/8", None), ("192.0.2.0/24", None)]));
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        allowlist.grant(CLIENT, now).unwrap().mark_used(now);
        publisher.publish(entries(&[("10.0.0.0/8", None), ("198.51.100.0/24", None)]));
        let used = allowlist.entries().iter().map(|entry| entry.last_used()).collect::<Vec<_>>();
        assert_eq!(used, [Some(now), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn client_without_a_grant_is_revoked_at_once() {
        let (_publisher, allowlist) = channel(entries(&[("192.0.2.0/24", None)]));
        resolves(watch(&allowlist)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn removed_entry_revokes_and_change_of_another_does_not() {
        let (publisher, allowlist) = channel(entries(&[("10.0.0.0/8", None), ("192.0.2.0/24", None)]));
        let mut revoked = watch(&allowlist);
        publisher.publish(entries(&[("10.0.0.0/8", None)]));
        stays(&mut revoked).await;
        // Another entry that contains the client keeps the grant.
        publisher.publish(entries(&[("10.1.2.3/32", None)]));
        stays(&mut revoked).await;
        publisher.publish(entries(&[("192.0.2.0/24", None)]));
        resolves(revoked).await;
    }

    #[tokio::test]
    async fn expiry_revokes_without_a_publisher() {
        let at = Timestamp::now() + Duration::from_millis(300);
        let (publisher, allowlist) = channel(entries(&[("10.1.2.3/32", Some(at))]));
        let revoked = watch(&allowlist);
        drop(publisher);
        resolves(revoked).await;
        assert!(Timestamp::now() >= at, "revoked before it expired");
    }

    #[tokio::test]
    async fn expiry_does_not_revoke_under_a_wider_valid_entry() {
        let soon = Timestamp::now() + Duration::from_millis(100);
        let later = soon + Duration::from_millis(400);
        let (_publisher, allowlist) = channel(entries(&[("10.1.2.3/32", Some(soon)), ("10.0.0.0/8", Some(later))]));
        resolves(watch(&allowlist)).await;
        assert!(Timestamp::now() >= later, "revoked with the first expiry");
    }

    #[tokio::test(start_paused = true)]
    async fn grant_without_expiry_outlives_its_publisher() {
        let (publisher, allowlist) = channel(entries(&[("10.0.0.0/8", None)]));
        drop(publisher);
        stays(&mut watch(&allowlist)).await;
    }

    fn watch(allowlist: &Allowlist) -> JoinHandle<()> {
        tokio::spawn(allowlist.clone().revoked(CLIENT))
    }

    async fn resolves(revoked: JoinHandle<()>) {
        let outcome = timeout(Duration::from_mins(1), revoked).await;
        outcome.expect("still granted").unwrap();
    }

    /// Needs a paused clock, which passes the hour as soon as nothing else can happen.
    async fn stays(revoked: &mut JoinHandle<()>) {
        let outcome = timeout(Duration::from_hours(1), revoked).await;
        assert!(outcome.is_err(), "revoked");
    }

    fn entries(list: &[(&str, Option<Timestamp>)]) -> Entries {
        let mut text = String::new();
        for (cidr, expires) in list {
            writeln!(text, "[[allow]]\ncidr = {cidr:?}\nname = {cidr:?}").unwrap();
            if let Some(at) = expires {
                writeln!(text, "expires = {at}").unwrap();
            }
        }
        Entries::parse(Path::new("allowlist.toml"), &text).unwrap()
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));
}
