//! The whole proxy over real sockets, in front of a stand-in domain that verifies each signature independently.

mod support;

/// Requests as the domain receives them, and responses as the client does.
mod forward;

/// The same, exchange by exchange, of two recorded sessions of a browser.
mod recorded;

/// Attacks by a client with a read grant.
mod attacks;

/// Allowed clients, and changes of the allowlist.
mod allowlist;

/// The access that a grant permits.
mod grants;

/// The access log of each request.
mod access_log;

/// An access log that cannot be written.
mod log_failure;

/// The real program: its files, its signals, its exit codes.
mod program;

/// `trailgate check`, and mistakes in the files that it reads.
mod check;

/// The operator's view: health, metrics, status.
mod admin;

/// Notifications to systemd, and sockets passed by it.
mod systemd;

/// The sources of the program's credentials, and changes of them.
mod credentials;

/// Requests that are signed with a role of an entry, and the sessions that do it.
mod roles;

/// The domain's own authorization as a second lock, by the security plug-in of a real engine.
mod two_locks;

/// The texts that people read.
mod texts;

/// The allowlist from the shell.
mod allow;

/// Faults that `doctor` reports, one by one.
mod doctor;

/// Files shipped with the program.
mod generate;

/// Requests in flight at shutdown.
mod shutdown;

/// Real servers behind the proxy, driven by their official clients.
mod engines;

/// The signature itself, over URLs of every kind.
mod signature;

/// Request smuggling: heads and bodies that servers could read in two ways.
mod smuggling;

/// TLS towards the client, and its certificates.
mod tls;

/// HTTP/2 towards the client.
mod http2;

/// The proxy with foreign clients.
mod browser;

/// An analyst's session with a real Kibana.
mod kibana;

/// Several listeners, the redirect to https, and load balancers that forward TCP.
mod listeners;

/// Limits for a client: size, time, memory, connections.
mod limits;

/// Many hostile clients at once.
mod load;

/// A node of the domain that vanishes without FIN or RST.
mod vanished;

/// A domain that is unreachable, slow or broken.
mod failures;

/// A domain that rejects the signature.
mod rejected_signatures;
