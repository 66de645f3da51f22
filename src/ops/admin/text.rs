//! The status as text, for `trailgate status` and the page.

use std::fmt;

use jiff::Timestamp;

use super::status::{Certificate, Refused, Role, Status, span};
use crate::human::count_entries;

impl Status {
    /// Returns the checks that do not pass.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        self.checks.iter().filter(|check| !check.passes()).map(ToString::to_string)
    }

    /// Returns the domain and its last response.
    pub(crate) fn upstream_line(&self) -> String {
        let upstream = &self.upstream;
        let answered = match (upstream.answered, upstream.status) {
            (Some(at), Some(status)) => format!("answered {status} {} ago", span(at, self.now)),
            _ => "has not answered yet".to_owned(),
        };
        let failed = upstream.failed.zip(upstream.failure.as_ref());
        let failed = failed.map(|(at, failure)| format!("; last failure {failure} {} ago", span(at, self.now)));
        let offset = upstream.clock_offset_s;
        let side = if offset > 0 { "ahead of" } else { "behind" };
        let clock = (offset != 0).then(|| format!("; its clock is {} s {side} this machine's", offset.unsigned_abs()));
        format!("{}, {answered}{}{}", upstream.domain, failed.unwrap_or_default(), clock.unwrap_or_default())
    }

    /// Returns the credentials' provider and time left.
    pub(crate) fn credentials_line(&self) -> String {
        let Some(credentials) = &self.credentials else { return "none".to_owned() };
        let left = match credentials.expires {
            None => "without an expiry".to_owned(),
            Some(at) if at <= self.now => format!("expired {} ago", span(at, self.now)),
            Some(at) => format!("valid for {}", span(self.now, at)),
        };
        format!("{} from {}, {left}", credentials.access_key_id, credentials.source)
    }

    /// Returns a line for each role that signs requests, at most [`SHOWN`] and one that counts the others.
    pub(crate) fn role_lines(&self) -> impl Iterator<Item = String> {
        let more = self.roles.len().saturating_sub(SHOWN);
        let more = (more > 0).then(|| format!("and {more} more; --json lists them"));
        // Failing roles first, so that they are seen.
        let mut roles: Vec<_> = self.roles.iter().collect();
        roles.sort_by_key(|role| role.failure.is_none());
        roles.into_iter().take(SHOWN).map(|role| role.line(self.now)).chain(more)
    }

    /// Returns the allowlist's version and number of entries.
    pub(crate) fn allowlist_line(&self) -> String {
        let list = &self.allowlist;
        let modified = list.modified.map_or(String::new(), |at| format!(" of {at:.0}"));
        let (entries, loaded) = (count_entries(list.entries), span(list.loaded, self.now));
        format!(
            "{entries} in effect, {} used in the last hour, {} unused in the last day, {} expired; version {}{modified}, \
             loaded {loaded} ago",
            list.used_last_hour, list.unused_last_day, list.expired, list.version
        )
    }

    /// Returns the file of a certificate, its time left and the state of its reloads.
    pub(crate) fn certificate_line(&self, certificate: &Certificate) -> String {
        let Certificate { file, expires, loaded, error } = certificate;
        let left = if *expires <= self.now {
            format!("expired {} ago", span(*expires, self.now))
        } else {
            format!("valid for {}", span(self.now, *expires))
        };
        let error = error.as_ref().map(|error| format!("; the last reload failed: {error}"));
        format!("{file}, {left}, loaded {} ago{}", span(*loaded, self.now), error.unwrap_or_default())
    }

    /// Returns the request rates, one line per window.
    pub(crate) fn rate_lines(&self) -> impl Iterator<Item = String> {
        self.traffic.rates.iter().map(|rate| {
            let (requests, failed, refused) = (rate.requests, rate.failed, rate.refused);
            let minutes = rate.window_s / 60;
            format!(
                "{requests:.1} requests/s over {minutes} min, {failed:.1} failed, {refused:.1} not on the allowlist"
            )
        })
    }

    /// Returns the requests, connections and memory in use.
    pub(crate) fn load_line(&self) -> String {
        let traffic = &self.traffic;
        format!(
            "{} requests in flight, {} connections, {} of {} MiB of body memory used",
            traffic.in_flight,
            traffic.connections,
            traffic.buffered_bytes.div_ceil(MIB),
            traffic.buffer_bytes / MIB,
        )
    }
}

impl Role {
    fn line(&self, now: Timestamp) -> String {
        let sessions = match (self.sessions, self.valid) {
            (0, _) => "no session".to_owned(),
            (1, 1) => "1 session".to_owned(),
            (all, valid) if all == valid => format!("{all} sessions"),
            (all, valid) => format!("{valid} of {all} sessions valid"),
        };
        let expires = self.expires.map(|at| format!(", the first expires in {}", span(now, at)));
        let failure = self.failed.zip(self.failure.as_ref());
        let failure = failure.map(|(at, reason)| format!("; {} ago: {reason}", span(at, now)));
        let (kind, role) = (&self.kind, &self.arn);
        format!("{kind} {role}, {sessions}{}{}", expires.unwrap_or_default(), failure.unwrap_or_default())
    }
}

impl Refused {
    /// Returns the number and the times of the rejections.
    pub(crate) fn times(&self, status: &Status) -> String {
        let times = if self.count == 1 { "once".to_owned() } else { format!("{} times", self.count) };
        format!("{times}, last {} ago", span(self.last, status.now))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.ready { "ready" } else { "not ready" };
        let up = span(self.started, self.now);
        writeln!(f, "{ready}, version {}, running for {up}", self.version)?;
        for problem in self.problems() {
            writeln!(f, "  {problem}")?;
        }
        writeln!(f, "domain       {}", self.upstream_line())?;
        writeln!(f, "credentials  {}", self.credentials_line())?;
        for role in self.role_lines() {
            writeln!(f, "role         {role}")?;
        }
        writeln!(f, "allowlist    {}", self.allowlist_line())?;
        for certificate in &self.certificates {
            writeln!(f, "certificate  {}", self.certificate_line(certificate))?;
        }
        for rate in self.rate_lines() {
            writeln!(f, "traffic      {rate}")?;
        }
        write!(f, "now          {}", self.load_line())?;
        if !self.refused.is_empty() {
            write!(f, "\n\nrecently rejected, and the commands that allow them:")?;
        }
        for client in self.refused.iter().take(SHOWN) {
            let remedy = client.remedy(self).unwrap_or_else(|| ALLOWED.to_owned());
            write!(f, "\n  {}, {}", client.address, client.times(self))?;
            if client.forwards {
                write!(f, "\n    {FORWARDS}")?;
            }
            write!(f, "\n    {remedy}")?;
        }
        match self.refused.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more; --json lists them"),
        }
    }
}

pub(super) const MIB: usize = 1024 * 1024;

/// The note at a rejected client that needs no command.
pub(crate) const ALLOWED: &str = "allowed by now";

/// The note at a rejected client that may be a load balancer or another proxy.
pub(crate) const FORWARDS: &str = "sends X-Forwarded-For: if it is your proxy, add it to listen.trusted_proxies; \
                                   an entry would allow all its clients";

/// The maximum number of rejected clients listed, so that they fit on a screen.
pub(super) const SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::status::Grant;
    use super::super::status::tests::sample;

    #[test]
    fn status_text_has_each_section_and_the_advice() {
        let expected = "\
not ready, version 0.1.0, running for 2 h
  upstream: the domain cannot be reached
domain       search-trail-abc.eu-west-1.es.amazonaws.com, answered 200 90 s ago; last failure upstream_unreachable 5 s ago
credentials  AKIDEXAMPLE from the instance's role, valid for 62 min
role         entry arn:aws:iam::123456789012:role/Contractor, 0 of 1 sessions valid; 20 s ago: AccessDenied: not authorized to perform: sts:AssumeRole
role         read arn:aws:iam::123456789012:role/Auditor, 3 sessions, the first expires in 50 min
allowlist    4 entries in effect, 2 used in the last hour, 1 unused in the last day, 1 expired; version 3f2a1b9c0d1e of 2027-01-14T08:00:00Z, loaded 2 h ago
certificate  /etc/trailgate/cert.pem, valid for 6 weeks, loaded 2 h ago; the last reload failed: key.pem: does not match
traffic      12.3 requests/s over 1 min, 0.5 failed, 0.1 not on the allowlist
now          3 requests in flight, 17 connections, 1 of 256 MiB of body memory used

recently rejected, and the commands that allow them:
  198.51.100.4, 12 times, last 30 s ago
    trailgate allow add 198.51.100.4 --name NAME
  2001:db8::7, once, last 10 min ago
    trailgate allow add 2001:db8::7 --name NAME";
        assert_eq!(sample().to_string(), expected);
    }

    #[test]
    fn command_names_an_allowlist_elsewhere() {
        let mut status = sample();
        status.allowlist.file = "try/allowlist.toml".to_owned();
        let command = "\n    trailgate allow add 2001:db8::7 --name NAME --file try/allowlist.toml";
        assert!(status.to_string().ends_with(command), "{status}");
    }

    #[test]
    fn rejected_client_that_is_allowed_by_now_needs_no_command() {
        let mut status = sample();
        status.refused[1].grant = Grant::InEffect;
        assert!(status.to_string().ends_with("\n  2001:db8::7, once, last 10 min ago\n    allowed by now"), "{status}");
    }

    #[test]
    fn command_replaces_an_expired_entry() {
        let mut status = sample();
        status.refused[1].grant = Grant::Expired;
        let command = "\n    trailgate allow add 2001:db8::7 --name NAME --replace";
        assert!(status.to_string().ends_with(command), "{status}");
    }

    #[test]
    fn rejected_proxy_has_a_note_before_the_command() {
        let mut status = sample();
        status.refused[1].forwards = true;
        let note = "\n    sends X-Forwarded-For: if it is your proxy, add it to listen.trusted_proxies; \
                    an entry would allow all its clients\n    trailgate allow add 2001:db8::7 --name NAME";
        assert!(status.to_string().ends_with(note), "{status}");
    }

    #[test]
    fn long_list_of_rejected_clients_is_cut() {
        let mut status = sample();
        status.refused = vec![status.refused[0].clone(); 25];
        assert!(status.to_string().ends_with("\n  and 15 more; --json lists them"), "{status}");
    }
}
